// The service's API: one request per photo, few at a time, again where the service is busy.
const MAX_AT_ONCE = 2;
const MAX_TRIES = 20;

let token = sessionStorage.getItem("token");
let running = 0;
const waiting = [];

export class ServiceError extends Error {}

/** What is served, as /v1/model says; asks for the token where one is wanted. */
export async function loadModel() {
  return (await ask("v1/model", {})).json();
}

/** The answer for one photo; `labels` asks for these labels only. */
export async function predict(file, labels = []) {
  await turn();
  try {
    const query = new URLSearchParams({ attention: "true" });
    labels.forEach((label) => query.append("labels", label));
    const options = { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file };
    const answer = await (await ask(`v1/predict?${query}`, options)).json();
    return { ...answer.predictions[0], noAttention: answer.no_attention };
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

async function turn() {
  if (running >= MAX_AT_ONCE) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
}

async function ask(path, options) {
  for (let tries = 1; ; tries += 1) {
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new ServiceError("The service does not answer. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      await askToken();
    } else if (response.status === 503 && tries < MAX_TRIES) {
      await pause(Number(response.headers.get("Retry-After")) || 1);
    } else {
      throw new ServiceError(await reason(response));
    }
  }
}

async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The service answered with status ${response.status}.`;
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

let asking = null;

function askToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    const input = document.getElementById("token");
    const take = () => {
      token = input.value.trim();
      if (!token) return dialog.showModal();
      sessionStorage.setItem("token", token);
      input.value = "";
      dialog.removeEventListener("close", take);
      asking = null;
      resolve();
    };
    dialog.addEventListener("close", take);
    dialog.showModal();
  });
  return asking;
}
