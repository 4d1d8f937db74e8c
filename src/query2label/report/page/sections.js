// The other sections: headline, controls, confusion, groups of images, calibration, suspects, learning, data.
const METRICS = [["CP", "precision, mean over labels"], ["CR", "recall, mean over labels"], ["CF1", "2 CP CR / (CP + CR)"], ["OP", "precision, all decisions"], ["OR", "recall, all decisions"], ["OF1", "F1, all decisions"]];

function tile(name, value, note, attributes = {}) {
  return make("div", { class: "tile", ...attributes }, make("p", { class: "tile-name", text: name }), make("p", { class: "tile-value number", text: value }), make("p", { class: "soft", text: note }));
}

function showHeadline(page) {
  const { content } = page, model = page.decisions().model, metrics = page.decisions().metrics();
  const name = model.headline_ap === "plain" ? "mAP" : `mAP, ${model.headline_ap}`;
  const interval = model.interval ? `${percent(model.interval.level, 0)} % interval ${percent(model.interval.low)} to ${percent(model.interval.high)}` : "no interval was asked for";
  const others = Object.entries(model.maps).filter(([kind]) => kind !== model.headline_ap).map(([kind, value]) => `${kind} ${percent(value)}`).join(", ");
  byId("tiles").replaceChildren(
    make("div", { class: "tile main" }, make("p", { class: "tile-name", text: name }), make("p", { class: "tile-value number", text: percent(model.map) }), make("p", { class: "soft", text: interval }), make("p", { class: "soft", text: others })),
    tile("CF1", percent(metrics.CF1), "over labels", { "data-metric": "CF1" }),
    tile("OF1", percent(metrics.OF1), "over all decisions", { "data-metric": "OF1" }),
    tile("AUC", percent(model.auc), "mean over labels"),
    tile("Calibration error", percent(model.calibration_error), `${percent(model.uncalibrated_error)} without temperature`),
    tile("Images", whole(content.images.length), `${plural(content.labels.length, "label")}, ${whole(content.statistics.num_positives)} positives`));
  byId("about").textContent = `${model.name}: ${model.about}. Thresholds: ${model.threshold_rule}.`;
  byId("protocol").textContent = `Measured by ${content.protocol}. Numbers are in percent.`;
}

class Controls {
  constructor(page) {
    this.page = page;
    this.models = page.models.length < 2 ? null : make("div", { class: "tabs", role: "group", "aria-label": "Model" },
      ...page.models.map((decisions, i) => make("button", { type: "button", "aria-pressed": i === 0, text: `${page.letter(i)}  ${decisions.model.name}`, onclick: () => page.show(i) })));
    this.all = make("input", { type: "range", id: "all", min: 0, max: page.content.scale, step: 1, "aria-label": "One threshold for all labels" });
    this.all.addEventListener("input", () => page.moveAll(() => Number(this.all.value)));
    this.all.addEventListener("keydown", (event) => {
      const jump = { ArrowLeft: -0.01, ArrowDown: -0.01, ArrowRight: 0.01, ArrowUp: 0.01, PageDown: -0.1, PageUp: 0.1 }[event.key];
      if (!jump) return;
      event.preventDefault();
      this.all.value = Number(this.all.value) + jump * page.content.scale;
      page.moveAll(() => Number(this.all.value));
    });
    this.text = make("output", { for: "all", class: "number" });
    this.own = make("button", { type: "button", id: "own", class: "quiet", text: "Model's own", onclick: () => page.moveAll((label) => page.decisions().model.steps[label]) });
    this.half = make("button", { type: "button", id: "half", class: "quiet", text: "0.5", onclick: () => page.moveAll(() => page.content.scale / 2) });
    this.values = METRICS.map(([name, about]) => make("dd", { class: "number", "data-metric": name, title: about }));
    byId("controls").append(...[this.models,
      make("div", { class: "all" }, make("label", { for: "all", text: "All thresholds" }), this.all, this.text, this.own, this.half),
      make("dl", { class: "metrics" }, ...METRICS.map(([name, about], i) => make("div", {}, make("dt", { title: about, text: name }), this.values[i])))].filter(Boolean));
    this.update();
  }

  update() {
    const decisions = this.page.decisions(), metrics = decisions.metrics(), steps = decisions.steps;
    const own = steps.every((step, label) => step === decisions.model.steps[label]), equal = steps.every((step) => step === steps[0]);
    this.text.textContent = own ? "model's own" : equal ? shown(steps[0] / this.page.content.scale) : "mixed";
    this.all.value = equal ? steps[0] : steps.reduce((sum, step) => sum + step, 0) / steps.length;
    this.own.setAttribute("aria-pressed", own);
    this.half.setAttribute("aria-pressed", equal && steps[0] === this.page.content.scale / 2);
    METRICS.forEach(([name], i) => { this.values[i].textContent = percent(metrics[name]); });
    if (this.models) [...this.models.children].forEach((button, i) => button.setAttribute("aria-pressed", i === this.page.current));
  }
}

function showConfusion(page) {
  const decisions = page.decisions(), { pairs, leftOut, added } = decisions.confusion(), { labels } = page.content;
  const total = pairs.reduce((sum, pair) => sum + pair.count, 0), out = leftOut.reduce((a, b) => a + b, 0), extra = added.reduce((a, b) => a + b, 0);
  const weight = labels.map((_, k) => decisions.label(k).missed + decisions.label(k).wrong);
  const often = labels.map((_, k) => k).filter((k) => weight[k]).sort((a, b) => weight[b] - weight[a]).slice(0, 24).sort((a, b) => a - b);
  const counts = new Map(pairs.map((pair) => [`${pair.missed} ${pair.wrong}`, pair.count])), most = pairs.length ? pairs[0].count : 1;
  const at = (i, j) => counts.get(`${often[i]} ${often[j]}`) || 0;
  const choose = (label) => make("button", { type: "button", class: "link", text: labels[label], onclick: () => page.select(label, true) });
  const list = table([{ name: "Missed", text: true }, { name: "Predicted instead", text: true }, { name: "Times" }],
    pairs.slice(0, 12).map((pair) => [choose(pair.missed), choose(pair.wrong), make("span", { class: "number", text: amount(pair.count) })]), { class: "pairs", "aria-label": "Labels predicted instead of others" });
  byId("confusion").replaceChildren(make("h2", { text: "What was said instead" }),
    make("p", { class: "lead", text: `${amount(total)} missed labels had a false one in their place, ${amount(out)} were left out, and ${amount(extra)} false ones were added beside what there is.` }),
    make("div", { class: "columns" },
      make("div", {}, pairs.length ? list : make("p", { class: "note", text: "No label is predicted in another's place." })),
      often.length > 1 ? matrix(often.map((k) => labels[k]), often.map((k) => labels[k]), (i, j) => (i === j ? null : at(i, j) / most),
        (i, j) => `${labels[often[i]]} missed, ${labels[often[j]]} predicted instead: ${amount(at(i, j))}`, "Missed labels by row, labels predicted instead by column") : ""),
    make("p", { class: "note", text: "Of each image, missed and false labels are paired off at random: with m missed and f false ones, each pair of one and one counts 1 / max(m, f). So every miss and every false decision counts once." }));
}

function showGroups(page) {
  const model = page.decisions().model, most = 5, rows = page.decisions().byCount(most);
  const parts = [make("h2", { text: "Where it is hard" })];
  const byCount = rows.map((row, i) => [i === most ? `${most}+` : String(i), row]).filter(([, row]) => row.images)
    .map(([name, row]) => [name, whole(row.images), percent(model.by_count[name]), percent(row.of1), row.predicted.toFixed(2)]);
  const columns = make("div", { class: "columns" }, make("div", {}, make("h3", { text: "By number of labels in the image" }),
    table([{ name: "Labels", text: true }, { name: "Images" }, { name: "mAP" }, { name: "OF1" }, { name: "Predicted" }], byCount, { id: "by-count", "aria-label": "Results by number of labels" })));
  if (model.by_size.length) {
    columns.append(make("div", {}, make("h3", { text: "By size of the label's largest object" }),
      table([{ name: "Size", text: true }, { name: "Positives" }, { name: "Labels" }, { name: "mAP" }], model.by_size.map((row) => [row.size, whole(row.pairs), whole(row.labels), percent(row.map)]), { "aria-label": "Results by object size" }),
      make("p", { class: "note", text: "Small is below 32 x 32 pixels of area, large from 96 x 96 on." })));
  }
  byId("groups").replaceChildren(...parts, columns);
}

function showCalibration(page) {
  const { curves, calibration_error: error } = page.decisions().model, { counts, scores, positives } = curves.calibration;
  const chart = unitChart(300, "Share of positives against mean score", "mean score", "share of positives");
  chart.svg.append(draw("line", { x1: chart.x(0), y1: chart.y(0), x2: chart.x(1), y2: chart.y(1), class: "diagonal" }));
  const points = scores.map((score, i) => [score, positives[i], counts[i]]).filter(([score]) => score !== null), most = Math.max(...points.map(([, , c]) => c), 1);
  chart.svg.append(draw("path", { d: pathOf(points, chart.x, chart.y), class: "curve" }));
  for (const [score, share, count] of points) {
    chart.svg.append(draw("circle", { cx: chart.x(score), cy: chart.y(share), r: 3 + 4 * Math.sqrt(count / most), class: "dot" }, draw("title", { text: `${whole(count)} decisions with mean score ${score.toFixed(3)}: ${percent(share)} % are positive` })));
  }
  const sum = (kind) => curves.bars[0][kind].map((_, i) => curves.bars.reduce((total, bar) => total + bar[kind][i], 0));
  const scoresOfAll = histogram([sum(0), sum(1)], "Scores of all labels");
  byId("calibration").replaceChildren(make("h2", { text: "Scores and calibration" }), make("div", { class: "columns" },
    make("figure", {}, chart.svg, make("figcaption", { class: "soft", text: `A score of 0.8 should be right in 80 % of cases: then the dots lie on the line. Calibration error ${percent(error)}.` })),
    make("figure", {}, scoresOfAll.svg, make("figcaption", { class: "legend" }, make("span", { class: "key positive", text: "labels that the images show" }), make("span", { class: "key negative", text: "labels that they do not" })), make("p", { class: "soft", text: "Heights are on a root scale: most labels are absent from most images." }))));
}

function showSuspects(page) {
  const { suspects, num_suspects: count } = page.decisions().model, { labels, files } = page.content;
  const section = byId("suspects"), file = files[page.current].label_errors;
  section.replaceChildren(make("h2", { text: "Labels to look at again" }),
    make("p", { class: "lead" }, count ? `The model contradicts ${plural(count, "label")} with confidence. ` : "The model contradicts no label with confidence. ",
      count ? make("a", { href: file, download: "", text: `All as a table for review (${file})` }) : ""),
    make("p", { class: "note", text: "Confident learning, label by label: suspected is what the model is surer of, against the data, than it is on average of the labels that are as it says. It means something where the model has not learned from these images." }));
  if (count) section.append(gallery(suspects.length, (i) => {
    const [image, label, present] = suspects[i];
    return card(page, image, label, present ? "labelled, perhaps not there" : "not labelled, perhaps there");
  }, 8));
}

function showLearning(page) {
  const { epochs: records } = page.decisions().model, section = byId("learning");
  section.hidden = !records.length;
  if (!records.length) return;
  const column = (key) => records.map((record) => (typeof record[key] === "number" ? record[key] : null));
  const best = records.filter((record) => record.best).map((record) => record.epoch).pop();
  section.replaceChildren(make("h2", { text: "Learning" }), make("p", { class: "lead", text: `${plural(records.length, "epoch")}${best ? `; the best validation mAP came in epoch ${best}` : ""}.` }),
    ...page.decisions().model.warnings.map((warning) => make("p", { class: "note", text: warning })),
    make("div", { class: "columns" },
      epochs([{ name: "training loss", values: column("train_loss"), class: "first" }, { name: "validation loss", values: column("val_loss"), class: "second" }], "Losses by epoch"),
      epochs([{ name: "validation mAP", values: column("map"), class: "first" }], "Validation mAP by epoch")));
}

function firstOf(names) { return names.slice(0, 20).join(", ") + (names.length > 20 ? ` and ${names.length - 20} more` : ""); }

function showData(page) {
  const { statistics, labels, broken } = page.content, { together } = statistics, section = byId("data");
  const counts = statistics.images_by_count, cut = counts.length > 13 ? [...counts.slice(0, 12), counts.slice(12).reduce((a, b) => a + b, 0)] : counts;
  const boxes = statistics.num_boxes ? `, ${plural(statistics.num_boxes, "object")} with a box` : "";
  section.append(make("p", { class: "lead", text: `${plural(statistics.num_images, "image")} with ${(statistics.num_positives / Math.max(statistics.num_images, 1)).toFixed(1)} labels on average${boxes}; ${whole(statistics.num_unknown)} unknown labels, which count nowhere.` }));
  for (const note of page.content.notes) section.append(make("p", { class: "note", text: note }));
  if (broken.length) section.append(make("details", {}, make("summary", { text: `${plural(broken.length, "image")} could not be read, and are in no number` }), make("ul", {}, ...broken.map(([file, reason]) => make("li", { text: `${file}: ${reason}` })))));
  const absent = labels.filter((_, k) => !page.targets.support[k]);
  if (absent.length) section.append(make("p", { class: "note", text: `No image shows, and no mean counts: ${firstOf(absent)}.` }));
  const { support, unknown } = statistics, few = labels.filter((_, k) => support[k] && support[k] < 10);
  const everywhere = labels.filter((_, k) => support[k] && support[k] + unknown[k] === statistics.num_images);
  if (few.length) section.append(make("p", { class: "note", text: `Fewer than 10 images show, so that their numbers say little: ${firstOf(few)}.` }));
  if (everywhere.length) section.append(make("p", { class: "note", text: `All images show, so that their numbers say nothing: ${firstOf(everywhere)}.` }));
  const shownNames = together.labels.map((k) => labels[k]);
  const share = (i, j) => together.counts[i][j] / together.counts[i][i];
  section.append(make("div", { class: "columns" },
    make("figure", {}, make("h3", { text: "Labels in an image" }), bars(cut, cut.map((_, i) => (i === 12 ? "12+" : i)), "Images by their number of labels")),
    make("div", {}, make("h3", { text: "Which labels come together" }), shownNames.length > 1 ? matrix(shownNames, shownNames, (i, j) => (i === j ? null : share(i, j)),
      (i, j) => `of ${plural(together.counts[i][i], "image")} with ${shownNames[i]}, ${whole(together.counts[i][j])} show ${shownNames[j]} (${percent(share(i, j), 0)} %)`, "Share of the images with a label (row) that show another (column)") : "")));
}
