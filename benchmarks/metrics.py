"""Time and memory of a full evaluation: 40,504 x 80 (MS-COCO val) and 100,000 x 9,605 (Open Images).

    python benchmarks/metrics.py            # both sizes, three rounds
    python benchmarks/metrics.py --quick    # a tenth of the images, one round

Each measurement runs in a process of its own on one thread, and the rounds are interleaved, so that a noisy
machine spoils all rows alike. Time is CPU time; memory is the peak above what stood before the call (scores
and targets, in memory at the small size and memory-mapped at the large one). The confidence interval is
measured as a row of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SIZES = {"coco": (40_504, 80, 0.036), "open-images": (100_000, 9_605, 0.001)}
WORK = {
    "coco": ("mAP", "mAP scikit-learn", "report", "report scikit-learn", "interval"),
    "open-images": ("mAP", "report"),
}


def make_data(folder: Path, size: str, *, quick: bool) -> None:
    """Scores (float32) and targets (int8) as .npy files, written in blocks of rows."""
    num_images, num_labels, share = SIZES[size]
    num_images //= 10 if quick else 1
    rng = np.random.default_rng(0)
    scores = np.lib.format.open_memmap(
        folder / f"{size}-scores.npy", mode="w+", dtype=np.float32, shape=(num_images, num_labels)
    )
    targets = np.lib.format.open_memmap(
        folder / f"{size}-targets.npy", mode="w+", dtype=np.int8, shape=(num_images, num_labels)
    )
    for start in range(0, num_images, 1000):
        shape = scores[start : start + 1000].shape
        positive = rng.random(shape, dtype=np.float32) < share
        logits = rng.standard_normal(shape, dtype=np.float32) + 3 * positive - 3
        scores[start : start + 1000] = 1 / (1 + np.exp(-logits))
        targets[start : start + 1000] = positive


def work_of(name: str, scores: np.ndarray, targets: np.ndarray) -> Callable[[], object]:
    """What is measured, imported beforehand."""
    from sklearn import metrics as sk

    from query2label.evaluation.bootstrap import mean_ap_interval
    from query2label.evaluation.report import report_from_scores
    from query2label.metrics import mean_average_precision

    labels = [str(number) for number in range(scores.shape[1])]

    def sklearn_report() -> None:
        sk.average_precision_score(targets, scores, average=None)
        sk.roc_auc_score(targets, scores, average=None)
        predicted = scores >= 0.5
        for average in (None, "macro", "micro", "samples"):
            sk.precision_recall_fscore_support(targets, predicted, average=average, zero_division=0)

    def report() -> None:
        report_from_scores(
            scores, targets, labels=labels, thresholds=[0.5] * len(labels), temperature=1.5, num_resamples=0
        )

    return {
        "mAP": lambda: mean_average_precision(scores, targets),
        "mAP scikit-learn": lambda: sk.average_precision_score(targets, scores, average="macro"),
        "report": report,
        "report scikit-learn": sklearn_report,
        "interval": lambda: mean_ap_interval(scores, targets),
    }[name]


def measure(folder: Path, size: str, name: str) -> None:
    """Prints CPU seconds and peak megabytes of one piece of work, as JSON; runs in a process of its own."""
    mapped = "r" if size == "open-images" else None
    scores = np.load(folder / f"{size}-scores.npy", mmap_mode=mapped)
    targets = np.load(folder / f"{size}-targets.npy", mmap_mode=mapped)
    work = work_of(name, scores, targets)
    import torch

    torch.set_num_threads(1)
    before, started = _private_peak_mb(), time.process_time()
    with _watched() as peak:
        work()
    seconds = time.process_time() - started
    print(json.dumps({"seconds": seconds, "peak_mb": max(peak[0], before) - before}))


@contextlib.contextmanager
def _watched() -> Iterator[list[float]]:
    """The largest private memory seen during the block, sampled (mapped files do not count)."""
    import threading

    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _private_peak_mb())

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _private_peak_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():  # outside of Linux: the peak, mapped files included
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return float(fields["RssAnon"].split()[0]) / 1e3


def run(folder: Path, size: str, name: str) -> dict[str, float]:
    """One measurement in a new process."""
    command = [sys.executable, __file__, "--measure", str(folder), size, name]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), *options.measure[1:])
        return
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in SIZES:
            make_data(folder, size, quick=options.quick)
        rows = [(size, work) for size, works in WORK.items() for work in works]
        results: dict[tuple[str, str], list[dict[str, float]]] = {row: [] for row in rows}
        for _ in range(rounds):
            for row in rows:
                results[row].append(run(folder, *row))
    print_table(results, quick=options.quick)


def print_table(results: dict[tuple[str, str], list[dict[str, float]]], *, quick: bool) -> None:
    """Medians with ranges; the ratio is scikit-learn's time over ours, round by round."""
    print("| images x labels | work | CPU s, median (range) | peak MB | scikit-learn / ours |")
    print("|---|---|---|---|---|")
    for (size, work), measured in results.items():
        num_images, num_labels, _ = SIZES[size]
        seconds = [one["seconds"] for one in measured]
        theirs = results.get((size, f"{work} scikit-learn"))
        ratio = "-"
        if theirs:
            ratio = f"{statistics.median(t['seconds'] / o for t, o in zip(theirs, seconds, strict=True)):.1f}"
        print(
            f"| {num_images // (10 if quick else 1):,} x {num_labels:,} | {work} "
            f"| {statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
            f"| {max(one['peak_mb'] for one in measured):.0f} | {ratio} |"
        )


if __name__ == "__main__":
    main()
