// Models side by side: paired differences with their intervals, label by label, and where one is right alone.
function interval(difference) {
  return difference && difference.low !== undefined ? `${signed(difference.low)} to ${signed(difference.high)}` : "–";
}

function verdict(difference) {
  if (!difference || difference.low === undefined) return "";
  return difference.low > 0 ? "better" : difference.high < 0 ? "worse" : "could be chance";
}

function whisker(difference, most) {
  const width = 180, svg = draw("svg", { viewBox: `0 0 ${width} 18`, width, height: 18, class: "spark", "aria-hidden": "true" });
  const x = (value) => width / 2 + (Math.max(-most, Math.min(most, value)) / most) * (width / 2 - 6);
  svg.append(draw("line", { x1: width / 2, x2: width / 2, y1: 0, y2: 18, class: "grid" }));
  if (!difference) return svg;
  const kind = verdict(difference);
  if (difference.low !== undefined) svg.append(draw("line", { x1: x(difference.low), x2: x(difference.high), y1: 9, y2: 9, class: `whisker ${kind}` }));
  svg.append(draw("circle", { cx: x(difference.difference), cy: 9, r: 4, class: `dot ${kind}` }));
  return svg;
}

class Comparison {
  constructor(page) {
    this.page = page;
    this.section = byId("comparison");
    this.section.hidden = false;
    this.other = 1;
    this.choice = make("select", { "aria-label": "Compare the first model with", onchange: () => { this.other = Number(this.choice.value); this.renew(); } },
      ...page.models.slice(1).map((decisions, i) => make("option", { value: i + 1, text: `${page.letter(i + 1)}  ${decisions.model.name}` })));
    this.fixed = make("div");
    this.alone = make("div");
    this.section.append(make("p", { class: "lead" }, `A  ${page.models[0].model.name} against `, this.choice), this.fixed, this.alone);
    this.renew();
  }

  renew() {
    const { page } = this, compared = page.content.comparisons[this.other - 1], { labels } = page.content;
    const b = page.letter(this.other), rows = labels.map((name, k) => [name, k]).filter(([, k]) => compared.labels[k]);
    rows.sort(([, a], [, z]) => compared.labels[a].difference - compared.labels[z].difference);
    const most = Math.max(0.02, ...rows.map(([, k]) => Math.max(Math.abs(compared.labels[k].low ?? 0), Math.abs(compared.labels[k].high ?? 0), Math.abs(compared.labels[k].difference))));
    const headline = [["mAP", compared.map], ["CF1", compared.cf1], ["OF1", compared.of1]];
    this.fixed.replaceChildren(
      table([{ name: "Number", text: true }, { name: `${b} minus A` }, { name: "95 % interval" }, { name: "", text: true }],
        headline.map(([name, d]) => [name, signed(d && d.difference), interval(d), verdict(d)]), { id: "differences", "aria-label": "Paired differences" }),
      make("p", { class: "note", text: "Paired bootstrap over images, at each model's own thresholds: both are measured on the same resamples. An interval that holds 0 does not tell which is better on other images of this kind." }),
      make("h3", { text: "By label: difference of AP" }),
      table([{ name: "Label", text: true }, { name: "A" }, { name: b }, { name: "Difference" }, { name: "95 % interval" }, { name: `A better     ${b} better ` }],
        rows.map(([name, k]) => [make("button", { type: "button", class: "link", text: name, onclick: () => page.select(k, true) }),
          percent(page.models[0].model.labels[k].ap), percent(page.models[this.other].model.labels[k].ap), signed(compared.labels[k].difference), interval(compared.labels[k]), whisker(compared.labels[k], most)]), { class: "whiskers", "aria-label": "Differences by label" }));
    this.update();
  }

  // Decisions that one of the two has right and the other wrong, at the thresholds of the moment.
  update() {
    const { page } = this, [first, second] = [page.models[0], page.models[this.other]], { positive, known, numImages } = page.targets;
    const found = [[], []];
    for (let i = 0; i < first.chosen.length; i++) {
      const label = Math.floor(i / numImages);
      if (!known[i] || first.chosen[i] === second.chosen[i] || (page.selected >= 0 && label !== page.selected)) continue;
      found[first.chosen[i] === positive[i] ? 0 : 1].push({ image: i % numImages, label, apart: Math.abs(first.scores[i] - second.scores[i]) });
    }
    const which = page.selected >= 0 ? `, ${page.content.labels[page.selected]}` : "";
    const part = (rows, right, wrong) => {
      rows.sort((a, z) => z.apart - a.apart || a.image - z.image);
      return make("div", {}, make("h3", { text: `${right} is right where ${wrong} is not: ${plural(rows.length, "decision")}${which}` }),
        rows.length ? gallery(rows.length, (i) => card(page, rows[i].image, rows[i].label, [0, this.other].map((m) => `${page.letter(m)} ${page.models[m].score(rows[i].label, rows[i].image).toFixed(2)}`).join("  ")), 4) : make("p", { class: "note", text: "None." }));
    };
    this.alone.replaceChildren(make("div", { class: "columns", id: "alone" }, part(found[0], "A", page.letter(this.other)), part(found[1], page.letter(this.other), "A")));
  }
}
