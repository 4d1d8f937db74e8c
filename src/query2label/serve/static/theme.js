// Light or dark: as the system is, until somebody chooses.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function show() {
  const dark = (localStorage.getItem("theme") ?? (system.matches ? "dark" : "light")) === "dark";
  root.classList.toggle("dark", dark);
  const button = document.getElementById("theme");
  button.textContent = dark ? "Light" : "Dark";
  button.setAttribute("aria-label", dark ? "Change to light colours" : "Change to dark colours");
  button.setAttribute("aria-pressed", String(dark));
}

document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem("theme", root.classList.contains("dark") ? "light" : "dark");
  show();
});
system.addEventListener("change", show);
show();
