"""Scoring images: ours on each runtime against a plain implementation.

    D="--data VOC2012 --out runs/inference"
    python -m benchmarks.inference $D                                          # all of it, in one sitting
    python -m benchmarks.inference $D --models r101-448 --backends onnx-int8 --batch 8       # a piece of it
    python -m benchmarks.inference --out runs/inference --table                # what was measured so far
    python -m benchmarks.inference --data VOC2012 --out runs/quick --quick --models laptop   # does it run?

Each backend takes turns with `plain`, so that a slow moment of the machine meets both; the table gives
medians over the rounds, and medians of the ratio to `plain` within a round. Every result is kept in `--out`,
as are the exported files, so the table can be made in several sittings; what is asked for again is measured
again.

    plain          float32, eager, straightforward (`plain_model.py`)
    ours           `model.optimize_for_inference()`, float32, eager
    compiled       the same with torch.compile, which takes minutes for the large models
    bf16           the same by autocast in bfloat16
    onnx           exported, ONNX Runtime, float32
    onnx-int8      exported, ONNX Runtime, int8
    openvino       exported, OpenVINO, float32
    openvino-bf16  exported, OpenVINO, bfloat16
    openvino-int8  exported, OpenVINO, int8

Weights are random, which does not change the time, but for the model in the box (`builtin`), whose bundle
`python -m benchmarks.builtin` leaves in its --out: `--bundle runs/builtin/bundle`. Its mAP is measured on the
labelled images of `--data`, and its int8 is held to that. Int8 is calibrated on photos of the split `train`.
`difference` is that of the scores from those of `plain`, at most, on photos (without `--data`: noise); with
random weights it says little about int8. `of peak` is what the matrix products and convolutions of the model
take at the speed of a large float32 product on the same threads, over the time taken; int8 and bfloat16 can
exceed 100 %.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.inference_backends import BACKENDS, MODELS, Candidate, Run
from rich.console import Console
from rich.table import Table

from query2label.bundle import scores_from_logits
from query2label.evaluation.inputs import resolve_data
from query2label.evaluation.scoring import score_images
from query2label.inference.threads import choose_threads
from query2label.metrics import mean_average_precision
from query2label.storage import write_json

PEAK_SIDE = 2048
"""Of the square matrices whose product gives the machine's peak."""


@dataclass(frozen=True)
class Result:
    """What was measured of a model on a backend at a batch size; times are of the batch."""

    model: str
    backend: str
    batch: int
    seconds: float
    times_plain: float
    """Median over the rounds of `plain`'s time over this."""
    difference: float
    multiply_adds: int
    """Of one image."""
    peak: float
    """Multiply-adds per second of a large float32 product."""
    map: float | None
    """Of the model in the box, in [0, 1]."""
    conditions: str

    @property
    def of_peak(self) -> float:
        """Share of the time that the model would take at the peak."""
        return self.batch * self.multiply_adds / self.peak / self.seconds


@dataclass(frozen=True)
class Sitting:
    """How this run measures."""

    out: Path
    rounds: int
    clock: Callable[[], float]
    conditions: str
    num_scored: int | None
    """Labelled images for the mAP; None: all."""

    def result(self, candidate: Candidate, backend: str, batch: int, mean_ap: float | None) -> Result:
        """Measures a backend in turns with the plain model."""
        runs = {name: candidate.run(name) for name in dict.fromkeys(("plain", backend))}
        images = candidate.images(batch)
        scores = {name: scores_from_logits(run(images), 1.0) for name, run in runs.items()}
        seconds = self._rounds(runs, images)
        return Result(
            model=candidate.name,
            backend=backend,
            batch=batch,
            seconds=statistics.median(seconds[backend]),
            times_plain=statistics.median(
                plain / own for plain, own in zip(seconds["plain"], seconds[backend], strict=True)
            ),
            difference=float(np.abs(scores[backend] - scores["plain"]).max()),
            multiply_adds=candidate.multiply_adds(backend),
            peak=self._peak(),
            map=mean_ap,
            conditions=self.conditions,
        )

    def mean_ap(self, candidate: Candidate, backend: str) -> float | None:
        """Of the model in the box, where there are labelled images."""
        if candidate.data is None or candidate.name != "builtin":
            return None
        labelled, _ = resolve_data(candidate.data, candidate.bundle, split="val", preferred=())
        some = replace(labelled, samples=labelled.samples[: self.num_scored])
        scored = score_images(candidate.run(backend), some, candidate.bundle.preprocess, batch_size=8)
        return mean_average_precision(candidate.bundle.scores(scored.logits), scored.targets)

    def _rounds(self, runs: dict[str, Run], images: np.ndarray) -> dict[str, list[float]]:
        """Seconds of each in each round; one more round, not counted, warms up."""
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(self.rounds + 1):
            for name, run in runs.items():
                start = self.clock()
                run(images)
                if number:
                    seconds[name].append(self.clock() - start)
        return seconds

    def _peak(self) -> float:
        matrix, best = torch.ones(PEAK_SIDE, PEAK_SIDE), float("inf")
        for _ in range(self.rounds + 1):
            start = self.clock()
            matrix @ matrix
            best = min(best, self.clock() - start)
        return PEAK_SIDE**3 / best


def measure(sitting: Sitting, candidate: Candidate, backends: list[str], batches: list[int]) -> None:
    """Stores the results of one model, each as soon as it is there."""
    for backend in backends:
        mean_ap = sitting.mean_ap(candidate, backend)
        for batch in batches:
            result = sitting.result(candidate, backend, batch, mean_ap)
            write_json(sitting.out / "results" / f"{candidate.name}_{backend}_{batch}.json", asdict(result))
            print(f"{candidate.name} {backend} batch {batch}: {result.times_plain:.2f} x plain")
            gc.collect()


def print_table(out: Path) -> None:
    """All results that are in the folder."""
    results = [
        Result(**json.loads(path.read_text(encoding="utf-8"))) for path in (out / "results").glob("*.json")
    ]
    results.sort(key=lambda each: (MODELS.index(each.model), each.batch, BACKENDS.index(each.backend)))
    table = Table(title="\n".join(sorted({each.conditions for each in results})))
    columns = "batch backend ms/image images/s x+plain difference mAP G+multiply-adds of+peak"
    for column in ("model", *columns.split()):
        table.add_column(
            column.replace("+", " "), justify="left" if column in {"model", "backend"} else "right"
        )
    for each in results:
        table.add_row(
            each.model,
            str(each.batch),
            each.backend,
            f"{1e3 * each.seconds / each.batch:.1f}",
            f"{each.batch / each.seconds:.2f}",
            f"{each.times_plain:.2f}",
            f"{each.difference:.0e}",
            "" if each.map is None else f"{100 * each.map:.2f}",
            f"{each.multiply_adds / 1e9:.2f}",
            f"{100 * each.of_peak:.0f} %",
        )
    Console(width=120).print(table)


def main() -> None:
    """Measures what is asked for, and prints the table of all that was measured so far."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of exported files and results")
    parser.add_argument("--data", type=Path, help="labelled photos in splits train and val, for int8")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="unset: all but tiny")
    parser.add_argument("--bundle", type=Path, help="of the model in the box, from benchmarks.builtin")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="unset: as many as this process may use")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others work too")
    parser.add_argument("--quick", action="store_true", help="batch 1, two rounds, few photos")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    chosen = parser.parse_args()
    if chosen.table:
        print_table(chosen.out)
        return
    if chosen.data is None and any("int8" in backend for backend in chosen.backends):
        parser.error("int8 is calibrated on photos: give --data, or --backends without int8.")
    models = chosen.models or [name for name in MODELS[:4] if chosen.bundle or name != "builtin"]
    if "builtin" in models and not (chosen.bundle and chosen.bundle.is_dir()):
        parser.error("builtin needs --bundle, which python -m benchmarks.builtin leaves in its --out.")
    threads = choose_threads(chosen.threads)
    torch.set_num_threads(threads)
    rounds, batches, num_photos, num_scored = (
        (2, [1], 4, 48) if chosen.quick else (chosen.rounds, chosen.batch, max(32, *chosen.batch), None)
    )
    today = datetime.datetime.now(tz=datetime.UTC).date()
    sitting = Sitting(
        out=chosen.out,
        rounds=rounds,
        clock=time.process_time if chosen.clock == "cpu" else time.perf_counter,
        conditions=f"{today}, {threads} threads, {rounds} rounds, {chosen.clock} time, "
        f"torch {torch.__version__}",
        num_scored=num_scored,
    )
    (chosen.out / "results").mkdir(parents=True, exist_ok=True)
    for name in models:
        folder = chosen.out / name
        bundle_path = chosen.bundle if name == "builtin" else folder / "bundle"
        candidate = Candidate.load(name, bundle_path, folder, chosen.data, num_photos, threads)
        measure(sitting, candidate, chosen.backends, batches)
    print_table(chosen.out)


if __name__ == "__main__":
    main()
