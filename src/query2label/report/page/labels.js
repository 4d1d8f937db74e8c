// The table of labels: sortable, each with its own threshold; and the panel of the label that is chosen.
const LABEL_COLUMNS = [
  { key: "label", name: "Label", text: true },
  { key: "support", name: "Images", about: "images that show it" },
  { key: "ap", name: "AP", about: "average precision" },
  { key: "curve", name: "Precision / recall", still: true },
  { key: "threshold", name: "Threshold" },
  { key: "precision", name: "P", about: "precision" },
  { key: "recall", name: "R", about: "recall" },
  { key: "f1", name: "F1" },
  { key: "missed", name: "Missed", about: "images that show it, where it was not predicted" },
  { key: "wrong", name: "False", about: "images that do not show it, where it was predicted" },
];
const FIRST_ROWS = 100;

function slider(page, label, onmove) {
  const input = make("input", {
    type: "range", min: 0, max: page.content.scale, step: 1,
    "aria-label": `Threshold of ${page.content.labels[label]}`,
  });
  const move = (step) => { page.move(label, step); onmove(); };
  input.addEventListener("input", () => move(Number(input.value)));
  input.addEventListener("keydown", (event) => {
    const jump = { ArrowLeft: -0.01, ArrowDown: -0.01, ArrowRight: 0.01, ArrowUp: 0.01, PageDown: -0.1, PageUp: 0.1 }[event.key];
    if (!jump) return;
    event.preventDefault();
    move(page.decisions().steps[label] + jump * page.content.scale);
  });
  const show = () => {
    const decisions = page.decisions(), text = shown(decisions.threshold(label));
    input.value = decisions.steps[label];
    input.setAttribute("aria-valuetext", text);
  };
  return { input, show };
}

class LabelTable {
  constructor(page) {
    this.page = page;
    this.sorting = { key: "support", down: true };
    this.filter = "";
    this.all = page.content.labels.length <= FIRST_ROWS;
    this.rows = page.content.labels.map((_, label) => this.makeRow(label));
    this.body = make("tbody");
    this.heads = LABEL_COLUMNS.map((column) => make("th", { scope: "col", class: column.text ? "text" : null, title: column.about },
      column.still ? make("span", { text: column.name }) : make("button", { type: "button", text: column.name, onclick: () => this.sortBy(column) })));
    const search = make("input", { type: "search", placeholder: "Find a label", "aria-label": "Find a label" });
    search.addEventListener("input", () => { this.filter = search.value.trim().toLowerCase(); this.order(); });
    this.more = make("button", { type: "button", class: "quiet", onclick: () => { this.all = true; this.order(); } });
    byId("labels").append(
      make("p", { class: "lead", text: "Move a threshold and every number follows. Choose a label to see its mistakes." }),
      make("div", { class: "tools" }, search),
      make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Table of labels" },
        make("table", { class: "labels" }, make("thead", {}, make("tr", {}, ...this.heads)), this.body)),
      this.more);
    this.order();
  }

  makeRow(label) {
    const { page } = this, cells = {}, row = make("tr");
    const choose = make("button", { type: "button", class: "link", text: page.content.labels[label], onclick: () => page.select(label, true) });
    for (const { key } of LABEL_COLUMNS) cells[key] = key === "label" ? make("th", { scope: "row" }, choose) : make("td", { class: key });
    const range = slider(page, label, () => {});
    const value = make("output", { class: "number" });
    cells.threshold.append(range.input, value);
    cells.support.textContent = whole(page.targets.support[label]);
    row.append(...LABEL_COLUMNS.map(({ key }) => cells[key]));
    return { label, row, cells, range, value, spark: null };
  }

  value(label, key) {
    const decisions = this.page.decisions();
    if (key === "label") return this.page.content.labels[label].toLowerCase();
    if (key === "support") return this.page.targets.support[label];
    if (key === "ap") return decisions.model.labels[label].ap;
    if (key === "threshold") return decisions.threshold(label);
    return decisions.label(label)[key];
  }

  sortBy(column) {
    const again = this.sorting.key === column.key;
    this.sorting = { key: column.key, down: again ? !this.sorting.down : !column.text };
    this.order();
    say(`Sorted by ${column.name}, ${this.sorting.down ? "highest" : "lowest"} first`);
  }

  // Labels without the number stand last, whichever way it is sorted.
  order() {
    const { key, down } = this.sorting, sign = down ? -1 : 1;
    const rows = this.rows.filter(({ label }) => this.page.content.labels[label].toLowerCase().includes(this.filter));
    const found = rows.map((row) => [this.value(row.label, key), row]);
    found.sort(([a, one], [b, other]) => {
      if (a === null || b === null) return (a === null) - (b === null) || one.label - other.label;
      return (a < b ? -sign : a > b ? sign : 0) || one.label - other.label;
    });
    const kept = found.slice(0, this.all ? found.length : FIRST_ROWS).map(([, row]) => row);
    this.body.replaceChildren(...kept.map(({ row }) => row));
    this.more.hidden = kept.length === found.length;
    this.more.textContent = `Show all ${found.length} labels`;
    this.heads.forEach((head, i) => head.setAttribute("aria-sort", LABEL_COLUMNS[i].key !== key ? "none" : down ? "descending" : "ascending"));
    kept.forEach((row) => this.show(row));
  }

  // What belongs to the model, whatever the thresholds.
  renew() {
    for (const row of this.rows) row.spark = null;
    this.order();
  }

  show({ label, row, cells, range, value }) {
    const decisions = this.page.decisions(), one = decisions.label(label), own = this.rows[label];
    if (!own.spark) {
      own.spark = sparkline(decisions.model.curves.precision_recall[label]);
      cells.curve.replaceChildren(own.spark.svg);
      cells.ap.textContent = percent(decisions.model.labels[label].ap);
    }
    own.spark.move(one.precision, one.recall);
    range.show();
    value.textContent = shown(decisions.threshold(label));
    value.classList.toggle("moved", !decisions.isOwn(label));
    for (const key of ["precision", "recall", "f1"]) cells[key].textContent = percent(one[key]);
    for (const key of ["missed", "wrong"]) cells[key].textContent = whole(one[key]);
    row.classList.toggle("chosen", label === this.page.selected);
  }

  update(label) {
    for (const row of this.rows) if ((label === null || row.label === label) && row.row.isConnected) this.show(row);
  }
}
