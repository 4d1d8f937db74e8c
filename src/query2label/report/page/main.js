// The page: which model and label are chosen, and what follows when a threshold moves.
class Page {
  constructor(content) {
    this.content = content;
    this.targets = new Targets(content);
    this.models = content.models.map((model) => new Decisions(model, this.targets, content.scale));
    this.current = 0;
    this.selected = -1;
    this.showMaps = true;
    this.waiting = null;
    this.controls = new Controls(this);
    this.labels = new LabelTable(this);
    this.mistakes = new Mistakes(this);
    this.comparison = this.models.length > 1 ? new Comparison(this) : null;
    showData(this);
    this.renewModel();
  }

  decisions() { return this.models[this.current]; }
  letter(index) { return String.fromCharCode(65 + index); }
  // What the current model's maps are; null where it has none.
  mapMethod() {
    const found = Object.values(this.content.pictures).find((picture) => picture.maps[this.current].by_label);
    return found ? found.maps[this.current].method : null;
  }

  move(label, step) {
    this.decisions().move(label, step);
    this.labels.update(label);
    this.follow();
  }

  moveAll(stepOf) {
    this.decisions().moveAll(stepOf);
    this.labels.update(null);
    this.follow();
  }

  // The numbers follow at once; what takes longer is done once the browser has time to paint.
  follow() {
    this.controls.update();
    showHeadline(this);
    if (this.waiting !== null) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.mistakes.update();
      showConfusion(this);
      showGroups(this);
      if (this.comparison) this.comparison.update();
    });
  }

  select(label, scroll) {
    this.selected = label;
    this.labels.update(null);
    this.mistakes.update();
    if (this.comparison) this.comparison.update();
    if (!scroll) return;
    byId("mistakes").scrollIntoView();
    this.mistakes.choice.focus({ preventScroll: true });
    say(`Mistakes of ${this.content.labels[label]}`);
  }

  show(index) {
    this.current = index;
    this.labels.renew();
    this.renewModel();
    this.follow();
  }

  renewModel() {
    showHeadline(this);
    this.controls.update();
    showConfusion(this);
    showGroups(this);
    showCalibration(this);
    showSuspects(this);
    showLearning(this);
  }

  renewPictures() {
    this.mistakes.update();
    showSuspects(this);
    if (this.comparison) this.comparison.update();
  }
}

function chooseTheme() {
  const button = byId("theme"), root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Show this page ${isDark() ? "light" : "dark"}`); };
  button.removeAttribute("aria-pressed");
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; show(); });
  system.addEventListener("change", show);
  show();
}

function listContents() {
  for (const section of document.querySelectorAll("main > section[id]:not([hidden])")) {
    const heading = section.querySelector("h2");
    if (heading) byId("contents").append(make("li", {}, make("a", { href: `#${section.id}`, text: heading.textContent })));
  }
}

chooseTheme();
new Page(JSON.parse(byId("content").textContent));
listContents();
document.documentElement.dataset.ready = "yes";
