// What a model decides at the thresholds of the moment. A threshold is a step of 1 / scale, or the model's
// own, which stands at the step above it; at each of them the counts are exactly evaluation's.
class Targets {
  constructor(content) {
    this.numLabels = content.labels.length;
    this.numImages = content.images.length;
    const cells = this.numLabels * this.numImages;
    this.positive = bitsOf(content.targets.positive, cells);
    this.known = bitsOf(content.targets.known, cells);
    this.support = new Int32Array(this.numLabels);
    this.counts = new Int32Array(this.numImages);
    for (let label = 0, i = 0; label < this.numLabels; label++) {
      for (let image = 0; image < this.numImages; image++, i++) {
        this.support[label] += this.positive[i];
        this.counts[image] += this.positive[i];
      }
    }
  }
}

class Decisions {
  constructor(model, targets, scale) {
    this.model = model;
    this.targets = targets;
    this.scale = scale;
    this.scores = stepsOf(model.scores);
    this.steps = Int32Array.from(model.steps);
    this.chosen = new Uint8Array(this.scores.length);
    this.hits = new Int32Array(targets.numLabels);
    this.wrong = new Int32Array(targets.numLabels);
    for (let label = 0; label < targets.numLabels; label++) this.count(label);
  }

  at(label, image) { return label * this.targets.numImages + image; }
  score(label, image) { return this.scores[this.at(label, image)] / this.scale; }
  isOwn(label) { return this.steps[label] === this.model.steps[label]; }
  threshold(label) { return this.isOwn(label) ? this.model.thresholds[label] : this.steps[label] / this.scale; }

  move(label, step) {
    this.steps[label] = Math.max(0, Math.min(this.scale, Math.round(step)));
    this.count(label);
  }

  moveAll(stepOf) {
    for (let label = 0; label < this.targets.numLabels; label++) this.move(label, stepOf(label));
  }

  count(label) {
    const { positive, known, numImages } = this.targets;
    const limit = this.steps[label];
    let hits = 0, wrong = 0;
    for (let i = label * numImages, end = i + numImages; i < end; i++) {
      const chosen = known[i] & (this.scores[i] >= limit ? 1 : 0);
      this.chosen[i] = chosen;
      hits += chosen & positive[i];
      wrong += chosen & (1 - positive[i]);
    }
    this.hits[label] = hits;
    this.wrong[label] = wrong;
    this.confused = null;
  }

  label(label) {
    const hits = this.hits[label], predicted = hits + this.wrong[label], positives = this.targets.support[label];
    return {
      hits, predicted, positives, missed: positives - hits, wrong: this.wrong[label],
      precision: predicted ? hits / predicted : null,
      recall: positives ? hits / positives : null,
      f1: positives ? (2 * hits) / (predicted + positives) : null,
    };
  }

  // Means over labels leave out those without a positive; one that is never predicted has precision 0.
  metrics() {
    let precision = 0, recall = 0, f1 = 0, present = 0, hits = 0, predicted = 0, positives = 0;
    for (let k = 0; k < this.targets.numLabels; k++) {
      const one = this.label(k);
      hits += one.hits; predicted += one.predicted; positives += one.positives;
      if (!one.positives) continue;
      present += 1;
      precision += one.precision || 0; recall += one.recall; f1 += one.f1;
    }
    if (!present) return { CP: null, CR: null, CF1: null, OP: null, OR: null, OF1: null, macroF1: null };
    const CP = precision / present, CR = recall / present;
    return {
      CP, CR, CF1: CP + CR ? (2 * CP * CR) / (CP + CR) : 0,
      OP: predicted ? hits / predicted : 0, OR: hits / positives, OF1: (2 * hits) / (predicted + positives),
      macroF1: f1 / present,
    };
  }

  // Rows of images by their number of labels: { images, of1, predicted }, the last for `most` and more.
  byCount(most) {
    const { numImages, numLabels, counts, positive } = this.targets;
    const rows = Array.from({ length: most + 1 }, () => ({ images: 0, hits: 0, predicted: 0, positives: 0 }));
    for (let image = 0; image < numImages; image++) rows[Math.min(counts[image], most)].images += 1;
    for (let label = 0, i = 0; label < numLabels; label++) {
      for (let image = 0; image < numImages; image++, i++) {
        const row = rows[Math.min(counts[image], most)];
        row.hits += this.chosen[i] & positive[i]; row.predicted += this.chosen[i]; row.positives += positive[i];
      }
    }
    return rows.map((row) => ({
      images: row.images,
      of1: row.positives ? (2 * row.hits) / (row.predicted + row.positives) : null,
      predicted: row.images ? row.predicted / row.images : null,
    }));
  }

  // Missed and false labels of each image are paired off at random: of m missed and f false ones, a missed
  // and a false label stand in a pair 1 / max(m, f) times. What finds no partner was left out, or added.
  confusion() {
    this.confused ??= this.pairedOff();
    return this.confused;
  }

  pairedOff() {
    const { numImages, numLabels, positive, known } = this.targets;
    const missed = Array.from({ length: numImages }, () => []), wrong = Array.from({ length: numImages }, () => []);
    for (let label = 0, i = 0; label < numLabels; label++) {
      for (let image = 0; image < numImages; image++, i++) {
        if (positive[i] && !this.chosen[i]) missed[image].push(label);
        else if (this.chosen[i] && known[i] && !positive[i]) wrong[image].push(label);
      }
    }
    const pairs = new Map(), leftOut = new Float64Array(numLabels), added = new Float64Array(numLabels);
    for (let image = 0; image < numImages; image++) {
      const m = missed[image].length, f = wrong[image].length, share = 1 / Math.max(m, f, 1);
      for (const a of missed[image]) {
        leftOut[a] += Math.max(0, 1 - f / m);
        for (const b of wrong[image]) pairs.set(a * numLabels + b, (pairs.get(a * numLabels + b) || 0) + share);
      }
      for (const b of wrong[image]) added[b] += Math.max(0, 1 - m / f);
    }
    const sorted = [...pairs].map(([key, count]) => ({ missed: Math.floor(key / numLabels), wrong: key % numLabels, count }));
    sorted.sort((a, b) => b.count - a.count || a.missed - b.missed || a.wrong - b.wrong);
    return { pairs: sorted, leftOut, added };
  }

  // Wrong decisions of one label, or of all (label < 0), of one kind: those farthest from the threshold first.
  mistakes(label, kind) {
    const { numImages, numLabels, positive, known } = this.targets;
    const found = [];
    const first = label < 0 ? 0 : label, last = label < 0 ? numLabels : label + 1;
    for (let k = first; k < last; k++) {
      for (let image = 0, i = k * numImages; image < numImages; image++, i++) {
        const isMissed = positive[i] && !this.chosen[i], isWrong = this.chosen[i] && known[i] && !positive[i];
        if (kind === "missed" ? isMissed : isWrong) {
          found.push({ image, label: k, distance: Math.abs(this.scores[i] - this.steps[k]) });
        }
      }
    }
    return found.sort((a, b) => b.distance - a.distance || a.image - b.image);
  }

  // The labels of an image: those it shows, those that are predicted, the surest first, and those not known.
  labelsOf(image) {
    const { numLabels, positive, known } = this.targets;
    const given = [], predicted = [], unknown = new Set();
    for (let k = 0; k < numLabels; k++) {
      const i = this.at(k, image);
      if (positive[i]) given.push(k);
      if (!known[i]) unknown.add(k);
      if (this.scores[i] >= this.steps[k]) predicted.push(k);
    }
    predicted.sort((a, b) => this.scores[this.at(b, image)] - this.scores[this.at(a, image)]);
    return { given, predicted, unknown };
  }
}
