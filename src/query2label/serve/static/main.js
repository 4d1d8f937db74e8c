// The page: which photos there are, which one is looked at, and what was chosen.
import { ServiceError, loadModel, predict } from "./api.js";
import { setUpCamera } from "./camera.js";
import { ranked, toCsv, toValues } from "./labels.js";
import { element, make, percent, press, say, showGallery, showHeat, showLabels, showModel, showPhoto } from "./view.js";

let model = null;
let photos = [];
let current = null;
let chosen = null;
let strictness = 0;

function add(files) {
  const added = [...files].map((file) => ({
    file,
    name: file.name || "pasted photo",
    url: URL.createObjectURL(file),
    state: "waiting",
    answer: null,
    error: null,
    noAttention: null,
    maps: new Map(),
    summary: "",
  }));
  if (!added.length) return;
  photos = [...photos, ...added];
  look(added[0]);
  added.forEach(score);
}

async function score(photo) {
  try {
    const limit = model?.limits.max_body_bytes ?? Infinity;
    if (photo.file.size > limit) throw new ServiceError(`The file has more than ${limit / 1e6} MB, which this service takes.`);
    const answer = await predict(photo.file);
    photo.answer = answer;
    photo.noAttention = answer.noAttention;
    Object.entries(answer.attention ?? {}).forEach(([label, map]) => photo.maps.set(label, map));
    photo.state = "done";
    say(`${photo.name}: ${described(photo) || "no label"}`);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    photo.error = error.message;
    photo.state = "broken";
  }
  show();
}

function described(photo) {
  const found = ranked(photo.answer, strictness).filter((label) => label.found);
  return found.map((label) => `${label.name} ${percent(label.score)}`).join(", ");
}

function look(photo) {
  current = photo;
  chosen = null;
  show();
  showHeat(current, null);
}

function show() {
  for (const photo of photos) {
    if (photo.answer) photo.summary = ranked(photo.answer, strictness).filter((label) => label.found).map((label) => label.name).join(", ");
  }
  showPhoto(current);
  showLabels(current, strictness, chosen, choose);
  showGallery(photos, current, look);
}

async function choose(label) {
  chosen = chosen === label ? null : label;
  press(chosen);
  const photo = current;
  if (chosen && !photo.maps.has(label)) {
    try {
      const answer = await predict(photo.file, [label]);
      photo.maps.set(label, answer.attention[label]);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      element("hint").textContent = error.message;
      return;
    }
  }
  if (photo !== current) return;
  await showHeat(photo, chosen && photo.maps.get(chosen));
  say(chosen ? `Showing where the model looked for ${chosen}` : "Showing the photo");
}

function remove() {
  URL.revokeObjectURL(current.url);
  const at = photos.indexOf(current);
  photos = photos.filter((photo) => photo !== current);
  look(photos[Math.min(at, photos.length - 1)] ?? null);
}

async function copy() {
  const text = JSON.stringify(toValues(photos, strictness), null, 2);
  try {
    await navigator.clipboard.writeText(text);
    flash("copy", "Copied");
  } catch {
    flash("copy", "Copying is not allowed here");
  }
}

function flash(id, text) {
  const button = element(id);
  const before = button.dataset.text ?? button.textContent;
  button.dataset.text = before;
  button.textContent = text;
  say(text);
  setTimeout(() => (button.textContent = before), 1800);
}

function download() {
  const text = toCsv(photos, strictness, model.labels.map((label) => label.name));
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: url, download: "labels.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function setUpInputs() {
  const drop = element("drop");
  for (const id of ["files", "snapshot"]) {
    element(id).addEventListener("change", (event) => {
      add(event.target.files);
      event.target.value = "";
    });
  }
  element("choose").addEventListener("click", () => element("files").click());
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add(event.dataTransfer.files);
  });
  setUpCamera((file) => add([file]), say);
}

function setUpPanel() {
  element("picture").addEventListener("load", ({ target }) => {
    element("photo").style.setProperty("--ratio", target.naturalWidth / target.naturalHeight);
  });
  element("picture").addEventListener("error", () => {
    element("picture").hidden = true;
    element("no-picture").hidden = false;
  });
  element("strictness").addEventListener("input", (event) => {
    strictness = Number(event.target.value);
    const text = strictness === 0 ? "as tuned" : `thresholds ${strictness > 0 ? "+" : "−"}${Math.abs(strictness)} %`;
    element("strictness-text").textContent = text;
    show();
  });
  element("copy").addEventListener("click", copy);
  element("csv").addEventListener("click", download);
  element("remove").addEventListener("click", remove);
  element("thumbs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = photos[photos.indexOf(current) + step];
    if (!next) return;
    event.preventDefault();
    look(next);
    next.thumb.focus();
  });
}

setUpInputs();
setUpPanel();
try {
  model = await loadModel();
  showModel(model);
} catch (error) {
  if (!(error instanceof ServiceError)) throw error;
  element("model").textContent = error.message;
}
