// Charts as inline SVG. Colours and strokes are in the style sheet, by class.
function frame(width, height, name) {
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name, class: "chart" },
    draw("title", { text: name }));
}

const pathOf = (points, x, y) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");

// Axes from 0 to 1 both ways; gives the chart with what places points on it.
function unitChart(size, name, xName, yName) {
  const left = 40, top = 10, bottom = 34, side = size - left - 12;
  const svg = frame(size, side + top + bottom, name);
  const x = (value) => left + value * side, y = (value) => top + (1 - value) * side;
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      draw("line", { x1: x(0), x2: x(1), y1: y(tick), y2: y(tick), class: "grid" }),
      draw("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end", class: "tick", text: tick }),
      draw("text", { x: x(tick), y: y(0) + 15, "text-anchor": "middle", class: "tick", text: tick }));
  }
  svg.append(
    draw("text", { x: x(0.5), y: y(0) + 31, "text-anchor": "middle", class: "axis", text: xName }),
    draw("text", { x: 11, y: y(0.5), "text-anchor": "middle", class: "axis", transform: `rotate(-90 11 ${y(0.5)})`, text: yName }));
  return { svg, x, y };
}

function sparkline(points) {
  const svg = draw("svg", { viewBox: "0 0 88 30", width: 88, height: 30, class: "spark", "aria-hidden": "true" });
  const x = (value) => 2 + 84 * value, y = (value) => 28 - 26 * value;
  svg.append(draw("path", { d: "M2 28H86M2 2H86", class: "grid" }));
  if (points.length) svg.append(draw("path", { d: pathOf([[0, points[0][1]], ...points], x, y), class: "curve" }));
  const dot = draw("circle", { r: 3.2, class: "dot" });
  svg.append(dot);
  const move = (precision, recall) => {
    dot.setAttribute("visibility", precision === null || recall === null ? "hidden" : "visible");
    dot.setAttribute("cx", x(recall || 0));
    dot.setAttribute("cy", y(precision || 0));
  };
  return { svg, move };
}

function bars(values, names, name, { width = 420, height = 130, value = whole } = {}) {
  const svg = frame(width, height + 26, name), most = Math.max(...values, 1e-9), slot = (width - 8) / values.length;
  values.forEach((number, i) => {
    const tall = (number / most) * (height - 18), left = 4 + i * slot;
    svg.append(
      draw("rect", { x: left + slot * 0.12, y: height - tall, width: slot * 0.76, height: tall, class: "bar" },
        draw("title", { text: `${names[i]}: ${value(number)}` })),
      draw("text", { x: left + slot / 2, y: height + 15, "text-anchor": "middle", class: "tick", text: names[i] }),
      draw("text", { x: left + slot / 2, y: height - tall - 4, "text-anchor": "middle", class: "tick", text: number ? value(number) : "" }));
  });
  return svg;
}

// Numbers of negatives and positives over their scores, on a root scale: positives are few.
function histogram([negatives, positives], name, threshold = null) {
  const width = 340, height = 116, slot = (width - 20) / negatives.length;
  const svg = frame(width, height + 22, name), most = Math.sqrt(Math.max(...negatives, ...positives, 1));
  const tall = (count) => (Math.sqrt(count) / most) * (height - 8);
  negatives.forEach((count, i) => {
    const left = 10 + i * slot, text = `score ${(i / negatives.length).toFixed(2)} to ${((i + 1) / negatives.length).toFixed(2)}: `;
    const title = `${text}${plural(positives[i], "image")} with the label, ${whole(count)} without`;
    svg.append(
      draw("rect", { x: left + 0.5, y: height - tall(count), width: slot - 1, height: tall(count), class: "negative" }, draw("title", { text: title })),
      draw("rect", { x: left + slot * 0.25, y: height - tall(positives[i]), width: slot * 0.5, height: tall(positives[i]), class: "positive" }, draw("title", { text: title })));
  });
  for (const tick of [0, 0.5, 1]) svg.append(draw("text", { x: 10 + tick * (width - 20), y: height + 16, "text-anchor": "middle", class: "tick", text: tick }));
  const line = draw("line", { y1: 0, y2: height, class: "limit" });
  const move = (value) => { for (const end of ["x1", "x2"]) line.setAttribute(end, 10 + value * (width - 20)); };
  if (threshold !== null) { svg.append(line); move(threshold); }
  return { svg, move };
}

// Curves over epochs; each series is { name, values, class }, null where there is none.
function epochs(series, name) {
  const width = 460, height = 190, left = 46, right = 12, top = 10, bottom = 30;
  const all = series.flatMap((s) => s.values).filter((v) => v !== null);
  const most = Math.max(...all), least = Math.min(...all), spread = most - least || 1, count = series[0].values.length;
  const svg = frame(width, height, name);
  const x = (i) => left + (count > 1 ? i / (count - 1) : 0.5) * (width - left - right);
  const y = (v) => top + (1 - (v - least) / spread) * (height - top - bottom);
  for (const part of [0, 0.5, 1]) {
    const value = least + part * spread;
    svg.append(
      draw("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", class: "tick", text: spread < 0.05 ? value.toFixed(3) : value.toFixed(2) }));
  }
  for (const i of new Set([0, Math.floor((count - 1) / 2), count - 1])) {
    svg.append(draw("text", { x: x(i), y: height - bottom + 16, "text-anchor": "middle", class: "tick", text: i + 1 }));
  }
  svg.append(draw("text", { x: (left + width) / 2, y: height - 2, "text-anchor": "middle", class: "axis", text: "epoch" }));
  for (const { values, class: kind } of series) {
    const points = values.map((v, i) => [i, v]).filter(([, v]) => v !== null);
    svg.append(draw("path", { d: pathOf(points, x, y), class: `curve ${kind}` }));
  }
  return make("figure", {}, svg, make("figcaption", { class: "legend" },
    ...series.map((s) => make("span", { class: `key ${s.class}`, text: s.name }))));
}

// A matrix of numbers in [0, 1] as shades; `label` names a cell for who points at it.
function matrix(rows, columns, value, label, name) {
  const cell = 20, left = 118, top = 96;
  const svg = frame(left + columns.length * cell + 56, top + rows.length * cell + 8, name);
  const cut = (text) => (text.length > 16 ? `${text.slice(0, 15)}…` : text);
  columns.forEach((column, j) => {
    const at = left + j * cell + 13;
    svg.append(draw("text", { x: at, y: top - 6, transform: `rotate(-50 ${at} ${top - 6})`, class: "tick", text: cut(column) }));
  });
  rows.forEach((row, i) => {
    svg.append(draw("text", { x: left - 6, y: top + i * cell + 14, "text-anchor": "end", class: "tick", text: cut(row) }));
    columns.forEach((_, j) => {
      const strength = value(i, j);
      svg.append(draw("rect", {
        x: left + j * cell + 1, y: top + i * cell + 1, width: cell - 2, height: cell - 2, rx: 3,
        class: strength === null ? "cell none" : "cell", "fill-opacity": strength === null ? null : (0.06 + 0.94 * strength).toFixed(3),
      }, draw("title", { text: label(i, j) })));
    });
  });
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, svg);
}
