// The browser of mistakes: of one label or of all, missed or false, those farthest from the threshold first.
class Mistakes {
  constructor(page) {
    this.page = page;
    this.kind = "missed";
    this.built = null;
    this.choice = make("select", { id: "which-label", onchange: () => page.select(Number(this.choice.value), false) },
      make("option", { value: -1, text: "all labels" }),
      ...page.content.labels.map((name, label) => make("option", { value: label, text: name })));
    this.tabs = ["missed", "wrong"].map((kind) =>
      make("button", { type: "button", role: "tab", id: `tab-${kind}`, "aria-controls": "mistakes-found", onclick: () => { this.kind = kind; this.update(); } }));
    const list = make("div", { class: "tabs", role: "tablist", "aria-label": "Kind of mistake" }, ...this.tabs);
    list.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      this.kind = this.kind === "missed" ? "wrong" : "missed";
      this.update();
      this.tabs[this.kind === "missed" ? 0 : 1].focus();
    });
    const maps = make("input", { type: "checkbox", id: "maps", checked: page.showMaps });
    maps.addEventListener("change", () => { page.showMaps = maps.checked; page.renewPictures(); });
    this.method = make("span");
    this.maps = make("label", { class: "check" }, maps, this.method);
    this.panel = make("div", { class: "panel" });
    this.found = make("div", { id: "mistakes-found", role: "tabpanel" });
    byId("mistakes").append(
      make("div", { class: "tools" }, make("label", { for: "which-label", text: "Label " }), this.choice, list, this.maps),
      this.panel, this.found);
    this.update();
  }

  update() {
    const { page } = this, label = page.selected, decisions = page.decisions();
    this.choice.value = label;
    const count = { missed: 0, wrong: 0 };
    for (let k = 0; k < page.content.labels.length; k++) {
      if (label >= 0 && k !== label) continue;
      const one = decisions.label(k);
      count.missed += one.missed; count.wrong += one.wrong;
    }
    this.tabs.forEach((tab, i) => {
      const kind = ["missed", "wrong"][i];
      tab.textContent = `${kind === "missed" ? "Missed" : "False"} ${whole(count[kind])}`;
      tab.setAttribute("aria-selected", kind === this.kind);
      tab.tabIndex = kind === this.kind ? 0 : -1;
    });
    const method = page.mapMethod();
    this.maps.hidden = method === null;
    this.method.textContent = `where it looked (${method})`;
    this.found.setAttribute("aria-labelledby", `tab-${this.kind}`);
    this.showDetails(label);
    const mistakes = decisions.mistakes(label, this.kind);
    this.found.replaceChildren(mistakes.length
      ? gallery(mistakes.length, (i) => card(page, mistakes[i].image, mistakes[i].label, `threshold ${shown(decisions.threshold(mistakes[i].label))}`))
      : make("p", { class: "note", text: this.kind === "missed" ? "Nothing is missed at this threshold." : "Nothing false is predicted at this threshold." }));
  }

  // Built anew for another label or model only, so that its slider can be dragged.
  showDetails(label) {
    const key = `${this.page.current} ${label}`;
    if (key !== this.built) {
      this.built = key;
      this.follow = null;
      this.panel.replaceChildren(...(label >= 0 ? this.details(label) : []));
    }
    if (this.follow) this.follow();
  }

  // The chosen label in large: its curve, its scores, its threshold, and what it is confused with.
  details(label) {
    const { page } = this, decisions = page.decisions(), model = decisions.model, name = page.content.labels[label];
    const chart = unitChart(250, `Precision against recall of ${name}`, "recall", "precision");
    const points = model.curves.precision_recall[label], best = model.labels[label].best_threshold;
    const dot = draw("circle", { r: 5, class: "dot" }), text = make("output", { class: "number" });
    if (points.length) chart.svg.append(draw("path", { d: pathOf([[0, points[0][1]], ...points], chart.x, chart.y), class: "curve" }));
    chart.svg.append(dot);
    const scores = histogram(model.curves.bars[label], `Scores of ${name}`, decisions.threshold(label));
    const range = slider(page, label, () => {}), instead = make("div", { class: "instead" });
    this.follow = () => {
      const one = decisions.label(label);
      dot.setAttribute("visibility", one.precision === null || one.recall === null ? "hidden" : "visible");
      dot.setAttribute("cx", chart.x(one.recall || 0));
      dot.setAttribute("cy", chart.y(one.precision || 0));
      scores.move(decisions.threshold(label));
      range.show();
      text.textContent = shown(decisions.threshold(label));
      instead.replaceChildren(...this.instead(label));
    };
    return [
      make("figure", {}, chart.svg),
      make("figure", {}, scores.svg,
        make("figcaption", { class: "legend" }, make("span", { class: "key positive", text: "with the label" }), make("span", { class: "key negative", text: "without" })),
        make("div", { class: "range" }, range.input, text),
        make("p", { class: "soft", text: best === null ? "No image shows it." : `Highest F1 on these images at ${shown(best)}; the model's own threshold is ${shown(model.thresholds[label])}.` })),
      instead,
    ];
  }

  instead(label) {
    const { pairs, leftOut, added } = this.page.decisions().confusion(), { labels } = this.page.content;
    const line = (text, count) => make("li", {}, make("span", { text }), " ", make("span", { class: "number soft", text: amount(count) }));
    const list = (rows, key, rest) => make("ul", {}, ...rows.slice(0, 5).map((pair) => line(labels[pair[key]], pair.count)), line("no label", rest));
    return [
      make("h3", { text: "Predicted instead of it" }), list(pairs.filter((pair) => pair.missed === label), "wrong", leftOut[label]),
      make("h3", { text: "It was predicted instead of" }), list(pairs.filter((pair) => pair.wrong === label), "missed", added[label]),
    ];
  }
}
