"""Trained runs that benchmarks share: made once, gone on with where they were stopped, then read."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import query2label
from query2label.training.run import resume

DATA_SETS = {"voc": "voc-sample", "ccp": "ccp", "coco": "coco-sample"}


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that benchmarks of trained runs share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with voc-sample, ccp, coco-sample")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    return parser


@dataclass(frozen=True)
class Result:
    """One run: mAP in [0, 1] of the best and the last epoch, and the seconds of all epochs."""

    best: float
    last: float
    seconds: float


def trained(data: Path, out: Path, *, recipe: str, overrides: Sequence[str]) -> Result:
    """Trains a run with the recipe and `overrides` of it, or reads what an earlier call found."""
    found = out / "result.json"
    if not found.exists():
        result = (
            resume(out, quiet=True)
            if (out / "config.toml").exists()
            else query2label.train(data=data, out=out, recipe=recipe, overrides=tuple(overrides), quiet=True)
        )
        seconds = sum(epoch["seconds"] for epoch in result.epochs)
        values = {"best": result.report.map, "last": result.epochs[-1]["map"], "seconds": seconds}
        found.write_text(json.dumps(values), encoding="utf-8")
    return Result(**json.loads(found.read_text(encoding="utf-8")))


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, as text."""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"
