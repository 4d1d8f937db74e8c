// Elements, numbers and bytes. Text is always set as text: names are never markup.
const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : (100 * value).toFixed(digits));
const signed = (value) => {
  const text = percent(value);
  return /^-?0\.0$/.test(text) ? "0.0" : (value > 0 ? "+" : "") + text;
};
const wholeNumbers = new Intl.NumberFormat("en");
const whole = (value) => wholeNumbers.format(value);
const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
const amount = (value) => {
    const rounded = Number(value.toFixed(1));
    return Number.isInteger(rounded) ? whole(rounded) : rounded.toFixed(1);
};
const shown = (threshold) => threshold.toFixed(3);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function stepsOf(base64) {
  const bytes = bytesOf(base64);
  const steps = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < steps.length; i++) steps[i] = bytes[2 * i] | (bytes[2 * i + 1] << 8);
  return steps;
}

function bitsOf(base64, count) {
  const bytes = bytesOf(base64);
  const bits = new Uint8Array(count);
  for (let i = 0; i < count; i++) bits[i] = (bytes[i >> 3] >> (i & 7)) & 1;
  return bits;
}

// A table with a head, whose cells are text, numbers or elements; the first column names the row.
function table(columns, rows, attributes = {}) {
  const cell = (value, place) => {
    const inner = value instanceof Node ? [value] : [document.createTextNode(String(value))];
    return place === 0
      ? make("th", { scope: "row" }, ...inner)
      : make("td", { class: columns[place].text ? "text" : null }, ...inner);
  };
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": attributes["aria-label"] || "Table" },
    make(
      "table",
      attributes,
      make("thead", {}, make("tr", {}, ...columns.map((c) => make("th", { scope: "col", class: c.text ? "text" : null, text: c.name })))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
    ),
  );
}

const say = (text) => { byId("spoken").textContent = text; };
