// Which labels a photo has, at the strictness that was chosen.

/** A threshold moved towards 0 (strictness -100) or 1 (strictness 100); 0 leaves it as it was tuned. */
export function moved(threshold, strictness) {
  const share = strictness / 100;
  return share < 0 ? threshold * (1 + share) : threshold + (1 - threshold) * share;
}

/** All labels of an answer, best first, each with its score, its moved threshold and whether it reaches it. */
export function ranked(answer, strictness) {
  return Object.entries(answer.scores)
    .map(([name, score]) => {
      const threshold = moved(answer.thresholds[name], strictness);
      return { name, score, threshold, found: score >= threshold };
    })
    .sort((one, other) => other.score - one.score);
}

/** The photos as plain values, as the command line's JSON has them. */
export function toValues(photos, strictness) {
  return photos.map(({ name, answer, error }) => ({
    image: name,
    labels: answer ? ranked(answer, strictness).filter((label) => label.found).map((label) => label.name) : [],
    scores: answer?.scores ?? {},
    error: error ?? null,
  }));
}

/** The photos as CSV, as the command line writes it: cells that a spreadsheet would compute begin with '. */
export function toCsv(photos, strictness, labels) {
  const rows = toValues(photos, strictness).map((row) => [
    ...[row.image, row.labels.join("|"), row.error ?? ""].map(inert),
    ...labels.map((label) => (label in row.scores ? String(Number(row.scores[label].toPrecision(7))) : "")),
  ]);
  const head = ["image", "labels", "error", ...labels.map((label) => `score:${label}`)];
  return [head, ...rows].map((row) => `${row.map(quoted).join(",")}\n`).join("");
}

const inert = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
