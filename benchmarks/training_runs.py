"""Trained runs that benchmarks share: made once, gone on with where they were stopped, then read."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

import query2label
from query2label.allocator import keep_freed_memory
from query2label.bundle import read_weights
from query2label.config import RunConfig, dump_config, load_config
from query2label.models.weights import load_strictly
from query2label.training import finish
from query2label.training.feature_feed import FeatureFeed
from query2label.training.run import resume
from query2label.training.run_context import Run
from query2label.training.scoring import score_batches

DATA_SETS = {"voc": "voc-sample", "ccp": "ccp", "coco": "coco-sample"}


def parser_of(
    description: str | None, *, sets: Iterable[str] = DATA_SETS, takes_paths: bool = True
) -> argparse.ArgumentParser:
    """The options that benchmarks of trained runs share; `takes_paths` where any labelled photos will do."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    named = f"of {', '.join(sets)}"

    def known(name: str) -> str:
        if name in sets:
            return name
        if takes_paths and Path(name).exists():
            return str(Path(name).resolve())
        rest = ", and there is no such path" if takes_paths else ""
        raise argparse.ArgumentTypeError(f"{name} is none {named}{rest}")

    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder with voc-sample, ccp, coco-sample (%(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument(
        "--sets",
        nargs="+",
        type=known,
        metavar="SET",
        default=list(DATA_SETS),
        help=named + (", or paths of other labelled photos" if takes_paths else ""),
    )
    return parser


def photos_of(data: Path, name: str) -> Path:
    """Where the photos of a set are: of a sample in the folder `data`, of others at the path `name`."""
    return data / DATA_SETS[name] if name in DATA_SETS else Path(name)


def folder_name(name: str) -> str:
    """What the folder of a set's runs is called: of a path, its end."""
    return "-".join(Path(name).with_suffix("").parts[-2:]).lstrip("/")


@dataclass(frozen=True)
class Result:
    """One run: mAP in [0, 1] of the best and the last epoch, and the seconds of all epochs."""

    best: float
    last: float
    seconds: float


def trained(data: Path, out: Path, *, recipe: str, overrides: Sequence[str]) -> Result:
    """Trains a run with the recipe and `overrides` of it, or reads what an earlier call found.

    Exits where `out` has a run of other settings: folders are named by rows and overrides, recipes change.
    """
    if (out / "config.toml").exists():
        refuse_other_settings(out, load_config(recipe, overrides))
    found = out / "result.json"
    if not found.exists():
        keep_freed_memory()  # as `q2l train` does
        with without_what_runs_share():
            result = (
                resume(out, quiet=True)
                if (out / "config.toml").exists()
                else query2label.train(
                    data=data, out=out, recipe=recipe, overrides=tuple(overrides), quiet=True
                )
            )
        seconds = sum(epoch["seconds"] for epoch in result.epochs)
        values = {"best": result.report.map, "last": result.epochs[-1]["map"], "seconds": seconds}
        found.write_text(json.dumps(values), encoding="utf-8")
    return Result(**json.loads(found.read_text(encoding="utf-8")))


def refuse_other_settings(out: Path, wanted: RunConfig) -> None:
    """Exits and names the settings in which a run differs; where the photos are does not count."""
    made, asked = (
        {line for line in dump_config(config).splitlines() if not line.startswith("path = ")}
        for config in (load_config(out / "config.toml"), wanted)
    )
    if made != asked:
        sys.exit(
            f"{out} has a run with {', '.join(sorted(made - asked))} instead of "
            f"{', '.join(sorted(asked - made))}: give another --out, or remove it."
        )


@contextlib.contextmanager
def without_what_runs_share() -> Iterator[None]:
    """Saves the minute in which each run looks for copies and decodes its validation images once more.

    The photos are the same in all runs, and the cached feature maps of the plain images are those that
    prediction computes.
    """
    score_images = finish._score_best

    def scores(run: Run):  # type: ignore[no-untyped-def]
        if not isinstance(run.feed, FeatureFeed):
            return score_images(run)
        best = run.folder.best
        load_strictly(run.start.model, read_weights(best), source=str(best))
        indices, logits = score_batches(
            {"best": run.start.model.head},
            run.feed.validation(np.arange(len(run.start.data.val))),
            num_labels=len(run.start.data.val.labels),
            ranks=run.ranks,
            stop=run.stop,
            advance=lambda **_: None,
        )
        return indices, logits["best"]

    with (
        patch("query2label.training.run.look_for_copies", return_value=[]),
        patch("query2label.training.finish._score_best", scores),
    ):
        yield


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, as text."""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"
