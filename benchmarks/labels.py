"""What more labels cost: processor time and memory from 20 to 10,000 of them.

    python -m benchmarks.labels
    python -m benchmarks.labels --quick          # two numbers of labels: does it run?

Each measurement is a process of its own with one thread. Time is processor time, so that other programs do
not matter much; memory is what the work adds to the peak of the process. Beside each is the growth per
label: 1.0 where ten times as many labels take ten times as much, less where they take less. A head of width
256 looks at 14 x 14 maps of 8 images; weights and scores are random.

    forward    logits of all labels
    chunks     the same, 500 labels at once
    step       forward, loss, backward, AdamW
    optimized  `optimize_for_inference`, 500 labels at once
    evaluate   report with intervals on 500 images: mAP, decisions, calibration, per label
    fit        temperature and one threshold per label, on 500 images
    bundle     write it with its card, and read it
    text       the report as printed in the terminal
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

NUMS_LABELS = (20, 100, 500, 2000, 10_000)
MODEL_WORK = ("forward", "chunks", "step", "optimized")
OTHER_WORK = ("evaluate", "fit", "bundle", "text")
HEADS = ("query2label", "ml_decoder")
NUM_IMAGES, CHUNK = 500, 500

Work = Callable[[], object]


def model_work(name: str, head: str, num_labels: int) -> Work:
    """Work with a head; whatever is needed beforehand is ready."""
    import torch

    from query2label.config import LossConfig, ModelConfig, OptimConfig
    from query2label.losses import build_loss
    from query2label.models.build import build_model
    from query2label.training.optim import build_optimizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = {"backbone": "test_resnet", "weights": "none", "head": head, "hidden_dim": 256}
    model = build_model(ModelConfig.model_validate(settings), num_labels)
    features = torch.randn(8, model.backbone.num_channels, 14, 14)
    if name == "step":
        loss_function = build_loss(LossConfig())
        targets = (torch.rand(8, num_labels) < 0.01).float()
        optimizer = build_optimizer(model.head.named_parameters(prefix="head"), OptimConfig())

        def step() -> None:
            loss_function(model.forward_head(features), targets).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step
    model.eval()
    if name == "optimized":
        model = model.optimize_for_inference()
    chunk = None if name == "forward" else CHUNK

    def forward() -> None:
        with torch.inference_mode():
            model.forward_head(features, label_chunk=chunk)

    return forward


def other_work(name: str, num_labels: int) -> Work:
    """Work around the model."""
    import numpy as np
    from rich.console import Console

    from query2label.bundle import Bundle, read_bundle, save_bundle
    from query2label.config import ModelConfig
    from query2label.evaluation.calibration import fit_temperature
    from query2label.evaluation.report import report_from_scores
    from query2label.evaluation.text import print_report
    from query2label.evaluation.thresholds import fit_thresholds
    from query2label.preprocess import PreprocessSpec

    draw = np.random.default_rng(0)
    logits = draw.normal(-3, 2, (NUM_IMAGES, num_labels)).astype(np.float32)
    scores = 1 / (1 + np.exp(-logits))
    targets = (draw.random((NUM_IMAGES, num_labels)) < scores).astype(np.int8)
    labels = tuple(f"label {index}" for index in range(num_labels))

    def evaluate() -> object:
        return report_from_scores(scores, targets, labels=labels, thresholds=np.full(num_labels, 0.5))

    def fit() -> None:
        fit_temperature(logits, targets)
        fit_thresholds(scores, targets)

    def bundle() -> None:
        one = Bundle(
            model=ModelConfig(),
            labels=labels,
            preprocess=PreprocessSpec(image_size=(224, 224)),
            thresholds=(0.5,) * num_labels,
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bundle"
            save_bundle(one, {"head.output_weight": np.zeros((num_labels, 256), np.float32)}, path)
            read_bundle(path)

    if name == "text":
        report = evaluate()
        return lambda: print_report(report, Console(file=io.StringIO(), width=100))
    return {"evaluate": evaluate, "fit": fit, "bundle": bundle}[name]


def measure(name: str, head: str, num_labels: int) -> None:
    """Prints processor seconds and megabytes of one piece of work, as JSON; runs in a process of its own."""
    work = model_work(name, head, num_labels) if name in MODEL_WORK else other_work(name, num_labels)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()  # the first time, more is allocated and imported
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: list[float] = []
    while not seconds or (sum(seconds) < 0.5 and len(seconds) < 20):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    unit = 1e6 if sys.platform == "darwin" else 1e3
    print(json.dumps({"seconds": min(seconds), "megabytes": (peak - before) / unit}))


def run(name: str, head: str, num_labels: int) -> dict[str, float]:
    """One measurement in a new process."""
    command = [sys.executable, "-m", "benchmarks.labels", "--measure", name, head, str(num_labels)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Prints the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 and 500 labels only")
    parser.add_argument("--work", nargs="+", choices=(*MODEL_WORK, *OTHER_WORK))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, head, number = options.measure
        measure(name, head, int(number))
        return
    numbers = (20, 500) if options.quick else NUMS_LABELS
    print("| work | " + " | ".join(f"K = {number:,}" for number in numbers) + " | growth, last step |")
    print("|---|" + "---|" * (len(numbers) + 1))
    cases = [(name, head) for head in HEADS for name in MODEL_WORK] + [(name, "") for name in OTHER_WORK]
    for name, head in cases:
        if options.work is None or name in options.work:
            print_row(name, head, [run(name, head or "-", number) for number in numbers], numbers)


def print_row(name: str, head: str, results: list[dict[str, float]], numbers: tuple[int, ...]) -> None:
    """Milliseconds and megabytes at each number of labels, and the slope in a plot of logarithms."""
    cells = [f"{1e3 * result['seconds']:.1f} ms, {result['megabytes']:.0f} MB" for result in results]
    *_, before, last = results
    slope = math.log(last["seconds"] / before["seconds"]) / math.log(numbers[-1] / numbers[-2])
    print(f"| {head} {name} | ".replace("|  ", "| ") + " | ".join(cells) + f" | {slope:.2f} |", flush=True)


if __name__ == "__main__":
    main()
