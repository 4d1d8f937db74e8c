// What is seen. Names come from people and models: they only ever become text.
import { drawHeat } from "./heat.js";
import { ranked } from "./labels.js";

export const element = (id) => document.getElementById(id);

export function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const percent = (score) => `${(100 * score).toFixed(score > 0.995 || score < 0.1 ? 1 : 0)} %`;

export function showModel(model) {
  const { runtime, labels, metrics } = model;
  const quality = typeof metrics.mAP === "number" ? ` · ${(100 * metrics.mAP).toFixed(1)} mAP in validation` : "";
  element("model").textContent = `${labels.length} labels · ${runtime}${quality}`;
  const shown = labels.slice(0, 60).map(({ name }) => make("li", { textContent: name }));
  if (labels.length > shown.length) shown.push(make("li", { textContent: `and ${labels.length - shown.length} more` }));
  element("known-labels").replaceChildren(...shown);
}

export function showGallery(photos, current, choose) {
  const list = element("thumbs");
  element("gallery").hidden = photos.length < 2;
  for (const photo of photos) {
    const what = photo.error ? "not readable" : photo.answer ? photo.summary || "no label" : "looking…";
    photo.thumb ??= makeThumb(photo, choose);
    photo.thumb.className = `thumb ${photo.state}`;
    photo.thumb.lastChild.textContent = what;
    photo.thumb.setAttribute("aria-label", `${photo.name}: ${what}`);
    photo.thumb.setAttribute("aria-current", String(photo === current));
  }
  if (list.children.length !== photos.length) list.replaceChildren(...photos.map((photo) => photo.thumb.parentElement));
}

function makeThumb(photo, choose) {
  const image = make("img", { src: photo.url, alt: "" });
  image.addEventListener("error", () => image.remove());
  const button = make("button", { type: "button" }, image, make("span", { className: "what" }));
  button.addEventListener("click", () => choose(photo));
  make("li", {}, button);
  return button;
}

export function showPhoto(photo) {
  const picture = element("picture");
  element("result").hidden = !photo;
  document.body.classList.toggle("busy", Boolean(photo));
  if (!photo) return;
  if (picture.src !== photo.url) {
    picture.hidden = false;
    element("no-picture").hidden = true;
    picture.src = photo.url;
  }
  picture.alt = photo.name;
  const size = photo.answer ? ` · ${photo.answer.width} × ${photo.answer.height}` : "";
  element("name").textContent = photo.name + size;
  element("problem").hidden = !photo.error;
  element("problem").textContent = photo.error ?? "";
  element("working").hidden = Boolean(photo.answer || photo.error);
  element("findings").hidden = !photo.answer;
}

export function showLabels(photo, strictness, chosen, choose) {
  if (!photo?.answer) return;
  const labels = ranked(photo.answer, strictness);
  const chip = (label) => makeChip(label, label.name === chosen, !photo.noAttention && choose);
  const found = labels.filter((label) => label.found);
  const missed = labels.filter((label) => !label.found);
  const focused = document.activeElement?.dataset.label;
  element("found").replaceChildren(...found.map(chip));
  element("missed").replaceChildren(...missed.slice(0, 200).map(chip));
  if (focused !== undefined) chips().find((chip) => chip.dataset.label === focused)?.focus();
  element("nothing").hidden = found.length > 0;
  element("below").hidden = missed.length === 0;
  element("hint").textContent = photo.noAttention ?? "Choose a label to see where the model looked.";
}

function makeChip({ name, score, threshold }, pressed, choose) {
  const fill = make("span", { className: "fill" });
  const tick = make("span", { className: "tick" });
  fill.style.width = `${100 * score}%`;
  tick.style.left = `${100 * threshold}%`;
  const button = make(
    "button",
    { type: "button", className: "chip" },
    make("span", { className: "label", textContent: name }),
    make("span", { className: "score", textContent: percent(score) }),
    make("span", { className: "bar" }, fill, tick),
  );
  button.dataset.label = name;
  button.setAttribute("aria-label", `${name}: score ${percent(score)}, threshold ${percent(threshold)}`);
  if (choose) {
    button.setAttribute("aria-pressed", String(pressed));
    button.addEventListener("click", () => choose(name));
  } else {
    button.disabled = true;
  }
  return make("li", {}, button);
}

const chips = () => [...document.querySelectorAll(".chip")];

export function press(chosen) {
  for (const chip of chips()) {
    chip.setAttribute("aria-pressed", String(chip.dataset.label === chosen));
  }
}

export async function showHeat(photo, map) {
  if (map) await drawHeat(element("heat"), map, photo.answer);
  element("heat").hidden = !map;
  element("legend").hidden = !map;
}

export function say(text) {
  element("said").textContent = text;
}
