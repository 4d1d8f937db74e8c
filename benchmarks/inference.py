"""Scoring images: ours on each runtime against a plain implementation, in one run.

    python -m benchmarks.inference                                # three models, batch 1 and 8
    python -m benchmarks.inference --models tiny --rounds 2       # does it run?
    python -m benchmarks.inference --variants ours compiled       # torch.compile warms up for minutes

Weights are random: they do not change the time. The variants take turns in every round, so that a slow moment
of the machine meets all of them; the table gives medians over the rounds, and medians of the ratio to `plain`
within a round. `difference` is that of the scores from those of `plain`, at most, on random images.

    plain     float32, eager, straightforward (`plain_model.py`)
    ours      `model.optimize_for_inference()`, float32, eager
    compiled  the same with torch.compile
    bf16      the same in bfloat16
    onnx      exported, ONNX Runtime, float32
    openvino  exported, OpenVINO, float32
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.plain_model import PlainQuery2Label
from rich.console import Console
from rich.table import Table
from torch import Tensor

from query2label.bundle import Bundle, scores_from_logits
from query2label.config import ModelConfig, load_config
from query2label.export.graph import ExportedModel
from query2label.export.run import export_bundle
from query2label.inference.runtimes import load_exported
from query2label.inference.threads import choose_threads
from query2label.models.build import build_model
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec

Run = Callable[[np.ndarray], np.ndarray]

VARIANTS = ("plain", "ours", "compiled", "bf16", "onnx", "openvino")
FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
MODELS = ("r101-448", "cvt_w24-384", "laptop", "tiny")


def settings(name: str) -> tuple[ModelConfig, int, int]:
    """Configuration, side of the images in pixels, and number of labels."""
    if name == "laptop":
        config = load_config("laptop")
        return config.model.model_copy(update={"weights": "none"}), config.data.image_size[0], 20
    if name == "tiny":
        return ModelConfig(backbone="test_resnet", weights="none", hidden_dim=32), 64, 20
    backbone, side, width = {"r101-448": ("resnet101", 448, 2048), "cvt_w24-384": ("cvt_w24", 384, 1024)}[
        name
    ]
    return ModelConfig(backbone=backbone, weights="none", feedforward_dim=4 * width), side, 80


def build(name: str) -> Query2Label:
    """The model with random weights, in evaluation mode."""
    torch.manual_seed(0)
    config, side, num_labels = settings(name)
    model = build_model(config, num_labels, image_size=(side, side)).eval()
    if config.attention == "direct":  # it starts at zero
        torch.nn.init.normal_(model.head.output_weight, std=0.02)
        torch.nn.init.normal_(model.head.label_queries, std=0.02)
    model.bundle = Bundle(
        model=config,
        labels=tuple(f"label {index}" for index in range(num_labels)),
        preprocess=PreprocessSpec(image_size=(side, side)),
        thresholds=(0.5,) * num_labels,
    )
    return model


def in_torch(module: Callable[[Tensor], Tensor | tuple[Tensor, ...]]) -> Run:
    """A torch module as a function of arrays."""

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        output = module(torch.from_numpy(images))
        return (output if isinstance(output, Tensor) else output[0]).numpy()

    return run


def variants(model: Query2Label, names: list[str], folder: Path, threads: int) -> dict[str, Run]:
    """What is to be measured, by name; exported files are written to `folder`, and so verified."""
    if {"onnx", "openvino"} & set(names):
        model.save_pretrained(folder / "bundle")
    runs: dict[str, Run] = {}
    for name in names:
        print(f"  preparing {name}", file=sys.stderr)
        if name == "plain":
            runs[name] = in_torch(PlainQuery2Label(model))
        elif name == "ours":
            runs[name] = in_torch(model.optimize_for_inference())
        elif name == "compiled":
            runs[name] = in_torch(torch.compile(model.optimize_for_inference()))
        elif name == "bf16":
            optimized = model.optimize_for_inference()
            runs[name] = in_torch(ExportedModel(optimized, torch.bfloat16, attention=False))
        else:
            path = folder / FILES[name]
            print(f"    {export_bundle(folder / 'bundle', path, to=name, threads=threads)}", file=sys.stderr)
            runs[name] = load_exported(path, threads=threads)
    return runs


def measure(
    runs: dict[str, Run], images: np.ndarray, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each variant in each round; one more round, not counted, warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = clock()
            run(images)
            if number:
                seconds[name].append(clock() - start)
    return seconds


def add_rows(
    table: Table, name: str, runs: dict[str, Run], batch_size: int, rounds: int, clock: Callable[[], float]
) -> None:
    """Measures one model at one batch size."""
    side = settings(name)[1]
    images = np.random.default_rng(0).normal(size=(batch_size, 3, side, side)).astype(np.float32)
    reference = scores_from_logits(runs["plain"](images), 1.0)
    seconds = measure(runs, images, rounds, clock)
    for variant, run in runs.items():
        difference = np.abs(scores_from_logits(run(images), 1.0) - reference).max()
        ratio = statistics.median(p / s for p, s in zip(seconds["plain"], seconds[variant], strict=True))
        median = statistics.median(seconds[variant])
        table.add_row(
            name,
            str(batch_size),
            variant,
            f"{1e3 * median / batch_size:.1f}",
            f"{batch_size / median:.2f}",
            f"{ratio:.2f}",
            f"{difference:.0e}",
        )
    table.add_section()


def main() -> None:
    """Measures what was asked for, and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS[:3])
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=[name for name in VARIANTS if name != "compiled"]
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="unset: as many as this process may use")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others work too")
    chosen = parser.parse_args()
    threads = choose_threads(chosen.threads)
    torch.set_num_threads(threads)
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    names = ["plain", *(name for name in VARIANTS[1:] if name in chosen.variants)]

    table = Table(
        title=f"{threads} threads, {chosen.rounds} rounds, {chosen.clock} time, torch {torch.__version__}"
    )
    for column in ("model", "batch", "variant", "ms/image", "images/s", "x plain", "difference"):
        table.add_column(column, justify="left" if column in {"model", "variant"} else "right")
    for name in chosen.models:
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            runs = variants(build(name), names, Path(folder), threads)
            for batch_size in chosen.batch_sizes:
                add_rows(table, name, runs, batch_size, chosen.rounds, clock)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
