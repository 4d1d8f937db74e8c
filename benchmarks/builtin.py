"""Makes the model in the box anew from its photos, and compares it with the shipped one.

    python -m benchmarks.builtin --data VOC2012 --out runs/builtin

trains by the recipe `laptop`, exports the best epoch to one ONNX file with attention maps, whose weights are
stored as float16 and computed with in float32, scores the validation photos with it, with the model it was
made from and with the shipped file, and prints what differs. Weights are equal to the bit only where
versions, processor and number of threads are; so the exit code is 1 only where the shipped file is not that
of the recorded digest, the shipped model's mAP is not what its card says, or the new one's is far from it.
`--run` takes a finished run instead of training; `--write` replaces the shipped file and its card. The bundle
that the file was made from is left in `--out`, for benchmarks that need torch.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from benchmarks.builtin_card import IMAGES, ORIGIN, card_of

import query2label
from query2label.bundle import (
    BUILTIN_DIGEST,
    BUILTIN_PATH,
    CARD_NAME,
    Bundle,
    bundle_digest,
    read_weights,
    save_bundle,
)
from query2label.bundle.artefact import Artefact, to_metadata
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.evaluation.report import Report, report_from_scores
from query2label.evaluation.thresholds import fit_thresholds
from query2label.export.graph import trace
from query2label.export.onnx import onnx_bytes, write_onnx
from query2label.models.build import load_model
from query2label.storage import atomic_file, sha256_of

SAME_MODEL = 1e-3
"""The same weights give the same mAP up to so much, on any machine."""
SAME_RECIPE = 0.01
"""Another run of the recipe gives the same mAP up to so much."""
MAX_DIFFERENCE = 0.01
"""Of a score, in [0, 1], from that of the float32 weights, as `q2l export` tolerates it for float16."""
MAX_BYTES = 12_000_000
FEW_VALUES = 1024
"""Tensors of fewer values (biases, scales) stay float32: they take no room, and hold the widest ranges."""


@dataclass(frozen=True)
class Scored:
    """A model and what it says about the validation photos."""

    bundle: Bundle
    scores: np.ndarray
    report: Report


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the VOC sample")
    parser.add_argument("--out", type=Path, default=Path("runs/builtin"))
    parser.add_argument("--run", type=Path, help="a finished run of the recipe, instead of training")
    parser.add_argument("--write", action="store_true", help="replace the shipped file")
    options = parser.parse_args()
    run = (
        options.run or query2label.train(data=options.data, out=options.out / "run", recipe="laptop").run_dir
    )
    val = load_dataset(options.data).select("val")
    full = score(run / "best", val)
    rebuilt = build(full, run / "best", options.out, val)
    if options.write:
        write_onnx((options.out / BUILTIN_PATH.name).read_bytes(), BUILTIN_PATH)
        with atomic_file(BUILTIN_PATH.parent / CARD_NAME) as file:
            file.write(card_of(rebuilt.bundle, rebuilt.report, difference(full, rebuilt)))
        print(f"Written: {BUILTIN_PATH}; its digest for BUILTIN_DIGEST: {sha256_of(BUILTIN_PATH)}")
        return
    sys.exit(0 if compare(full, rebuilt, score(BUILTIN_PATH, val), options.out) else 1)


def build(full: Scored, best: Path, out: Path, val: Dataset) -> Scored:
    """The exported file in `out`, with thresholds and metrics of its own scores; and the bundle of it."""
    model = load_model(best)
    program = trace(
        model,
        image_size=full.bundle.preprocess.image_size,
        precision="fp32",
        attention=True,
        any_image_size=False,
    )
    content = with_half_weights(onnx_bytes(program, {}))
    out.mkdir(parents=True, exist_ok=True)
    file = out / BUILTIN_PATH.name
    write_onnx(with_metadata(content, full.bundle, bundle_digest(best)), file)
    half = score(file, val)
    thresholds = tuple(fit_thresholds(half.scores, val.targets()).tolist())
    report = report_on(half.scores, val, full.bundle.model_copy(update={"thresholds": thresholds}))
    bundle = full.bundle.model_copy(
        update={"thresholds": thresholds, "metrics": report.bundle_metrics(), "origin": ORIGIN}
    )
    save_bundle(bundle, read_weights(best), out / "bundle")
    write_onnx(with_metadata(content, bundle, bundle_digest(out / "bundle")), file)
    return Scored(bundle, half.scores, report)


def with_half_weights(content: bytes) -> bytes:
    """An ONNX file whose large float32 tensors are stored as float16; loading it widens them again."""
    model = onnx.ModelProto.FromString(content)
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < FEW_VALUES:
            continue
        half = values.astype(np.float16)
        if not np.isfinite(half).all():
            sys.exit(f"float16 cannot hold the weight {tensor.name}.")
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def with_metadata(content: bytes, bundle: Bundle, digest: str) -> bytes:
    """An ONNX file that says what it is."""
    artefact = Artefact(
        bundle_digest=digest,
        precision="fp16",  # of the weights
        any_image_size=False,
        attention=True,
        versions={
            name: importlib.metadata.version(name) for name in ("query2label", "torch", "onnx", "onnxscript")
        },
    )
    model = onnx.ModelProto.FromString(content)
    onnx.helper.set_model_props(model, to_metadata(bundle, artefact))
    return bytes(model.SerializeToString())


def score(path: Path, val: Dataset) -> Scored:
    """Scores of the validation photos by the path that `q2l predict` takes, and the report on them."""
    predictor = query2label.Predictor.load(path, device="cpu")
    predictions = predictor.stream(sample.path for sample in val.samples)
    scores = np.array(
        [[each.scores[label] for label in val.labels] for each in predictions], dtype=np.float32
    )
    return Scored(predictor.bundle, scores, report_on(scores, val, predictor.bundle))


def report_on(scores: np.ndarray, val: Dataset, bundle: Bundle) -> Report:
    """How good scores are."""
    return report_from_scores(
        scores,
        val.targets(),
        labels=bundle.labels,
        thresholds=np.asarray(bundle.thresholds),
        temperature=bundle.temperature,
        images=IMAGES,
    )


def compare(full: Scored, rebuilt: Scored, shipped: Scored, out: Path) -> bool:
    """Prints what differs; whether that is what it should be."""
    digest = sha256_of(BUILTIN_PATH)
    num_bytes = sum(file.stat().st_size for file in BUILTIN_PATH.parent.iterdir())
    stated = cast(float, shipped.bundle.metrics["mAP"])
    card = (BUILTIN_PATH.parent / CARD_NAME).read_text(encoding="utf-8")
    off = difference(full, rebuilt)
    checks = {
        f"shipped digest {digest[:16]}... is the recorded one": digest == BUILTIN_DIGEST,
        f"shipped files have {num_bytes / 1e6:.2f} MB, at most 12": num_bytes <= MAX_BYTES,
        f"shipped mAP {_map(shipped):.4f} is that in the file, {stated:.4f}, and in the card": (
            abs(_map(shipped) - stated) < SAME_MODEL and f"mAP {100 * stated:.1f}" in card
        ),
        f"rebuilt mAP {_map(rebuilt):.4f} is near it": abs(_map(rebuilt) - stated) < SAME_RECIPE,
        f"float16 moves no score by more than {off:.1e}, {MAX_DIFFERENCE:g} is tolerated": (
            off <= MAX_DIFFERENCE
        ),
    }
    for text, holds in checks.items():
        print(f"{'ok    ' if holds else 'WRONG '} {text}")
    same = sha256_of(out / BUILTIN_PATH.name) == digest
    print(f"rebuilt file equal to the bit: {'yes' if same else 'no'}; float32 mAP {_map(full):.4f}")
    print("\n| label | AP shipped | AP rebuilt |\n|---|---|---|")
    for old, new in zip(shipped.report.per_label, rebuilt.report.per_label, strict=True):
        print(f"| {old.label} | {100 * (old.ap or 0):.1f} | {100 * (new.ap or 0):.1f} |")
    return all(checks.values())


def difference(one: Scored, other: Scored) -> float:
    """The largest of a score."""
    return float(np.abs(one.scores - other.scores).max())


def _map(scored: Scored) -> float:
    return scored.report.map or 0.0


if __name__ == "__main__":
    main()
