"""What makes Query2Label good on hundreds of photos: tables of one change each, on three samples.

    python -m benchmarks.quality --data ../shared/data --out runs/quality                       # hours
    python -m benchmarks.quality --data ../shared/data --out runs/quality --tables heads loss --sets voc coco
    python -m benchmarks.quality --sets photos/labels.csv --out runs/quality --tables heads     # other photos
    python -m benchmarks.quality --data ../shared/data --out runs/quality --report              # no new runs

Every row is the recipe `laptop`, or what it was (former.toml), with the settings that the row names
(quality_variants.py), trained with three seeds: mAP on the validation images (plain AP) as mean and standard
deviation over the seeds, of the best and the last epoch, and the difference to the first row of its table,
seed by seed. Runs that are there are not made again, one that was stopped goes on, and several calls with
different tables may fill one folder. Feature maps of the frozen backbone are computed once per input size.

After the table of heads come its details, of the best epochs: AP by the size of the label's largest object
and by how often a label occurs in training, and the 95 % interval of the difference between Query2Label and
each other head from 1,000 paired resamples of the images, of all objects and by size.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.quality_variants import FORMER, TABLES, TODAY
from benchmarks.training_runs import Result, folder_name, parser_of, photos_of, spread, trained
from rich.console import Console
from rich.table import Table

from query2label.config import DataConfig, load_config
from query2label.evaluation.bootstrap import paired_differences
from query2label.evaluation.labelwise import SIZES
from query2label.evaluation.sizes import object_sizes, targets_of_size
from query2label.models.build import load_model
from query2label.training.features import build_feature_cache
from query2label.training.run_data import load_run_data


@dataclass(frozen=True)
class Scored:
    """What a model says about validation images."""

    scores: np.ndarray
    """(n, K) in [0, 1]"""
    targets: np.ndarray
    """(n, K)"""
    thresholds: np.ndarray
    """(K,)"""
    object_sizes: np.ndarray | None
    """(n, K): 0, 1, 2 for a label that shows at most small, medium or large objects; None without boxes."""

    def targets_by_size(self) -> dict[str, np.ndarray]:
        """The targets, and for each size those where labels of objects of other sizes count as unknown."""
        parts = {"all": self.targets}
        if self.object_sizes is not None:
            for index, size in enumerate(SIZES):
                parts[f"{size} objects"] = targets_of_size(self.targets, self.object_sizes, index)
        return parts


@dataclass(frozen=True)
class Benchmark:
    """The samples, where the runs are, and whether missing ones are made."""

    data: Path
    out: Path
    seeds: tuple[int, ...]
    makes_runs: bool
    recipe: str = "laptop"

    def run_folder(self, data: str, overrides: tuple[str, ...], seed: int) -> Path:
        """Named by the settings, so that tables share the rows that they have in common."""
        settings = sorted(override.replace("/", "-") for override in last_of_each(overrides))
        return self.out / folder_name(data) / "_".join([Path(self.recipe).stem, *settings, f"seed={seed}"])

    def results(self, data: str, variant: str, overrides: tuple[str, ...]) -> dict[int, Result]:
        """By seed."""
        results = {}
        for seed in self.seeds:
            folder = self.run_folder(data, overrides, seed)
            if self.makes_runs or (folder / "result.json").exists():
                settings = (*last_of_each(overrides), f"train.seed={seed}")
                results[seed] = trained(
                    photos_of(self.data, data), folder, recipe=self.recipe, overrides=settings
                )
                note = f"{data}, {variant}, seed {seed}: {100 * results[seed].best:.2f}"
                print(note, file=sys.stderr, flush=True)
        return results

    def scored(self, data: str, overrides: tuple[str, ...], seed: int) -> Scored:
        """A run's best epoch on the validation images, from the feature maps that it was trained on."""
        folder = self.run_folder(data, overrides, seed)
        config, model = load_config(folder / "config.toml"), load_model(folder / "best")
        val = load_run_data(config.data, seed=seed).val
        bundle = model.bundle
        cache = build_feature_cache(
            model, val, bundle.preprocess, config, role="val", device=torch.device("cpu")
        )
        with torch.inference_mode():
            batches = np.split(np.arange(len(val)), range(32, len(val), 32))
            logits = [model.head(cache.load(rows)) for rows in batches]
        scores = bundle.scores(torch.cat(logits).numpy())
        sizes = object_sizes(val, np.arange(len(val)))
        return Scored(scores, val.targets(), np.asarray(bundle.thresholds), sizes)


def last_of_each(overrides: Iterable[str]) -> tuple[str, ...]:
    """The overrides without those that a later one replaces."""
    return tuple({override.partition("=")[0]: override for override in overrides}.values())


def table_of(benchmark: Benchmark, data: str, title: str) -> Table:
    """One table on one sample; a variant without a run is left out."""
    table = Table("variant", title=f"{data}: {title}; mAP in percent, mean ± deviation over seeds")
    for column in ("seeds", "best epoch", "last epoch", "to the first", "seconds"):
        table.add_column(column, justify="right")
    first: dict[int, Result] = {}
    for variant, overrides in TABLES[title].items():
        results = benchmark.results(data, variant, overrides)
        if not results:
            continue
        first = first or results
        differences = [100 * (results[seed].best - first[seed].best) for seed in results if seed in first]
        table.add_row(
            variant,
            str(len(results)),
            spread([100 * result.best for result in results.values()]),
            spread([100 * result.last for result in results.values()]),
            "" if first is results else f"{statistics.mean(differences):+.2f}",
            f"{statistics.median(result.seconds for result in results.values()):.0f}",
        )
    return table


def details_of(benchmark: Benchmark, data: str) -> list[Table]:
    """By size of objects, by frequency of labels, and paired, for the heads that have all their runs."""
    reports = {}
    for head, overrides in TABLES["heads"].items():
        folders = [benchmark.run_folder(data, overrides, seed) for seed in benchmark.seeds]
        if all((folder / "result.json").exists() for folder in folders):
            texts = [(folder / "evaluation" / "report.json").read_text("utf-8") for folder in folders]
            reports[head] = [json.loads(text) for text in texts]
    if "query2label" not in reports:
        return []
    tables = [
        by_group(
            f"{data}: AP by how often labels occur in training", reports, frequencies_of(benchmark, data)
        ),
        paired(benchmark, data, [head for head in reports if head != "query2label"]),
    ]
    if sizes_of(reports["query2label"][0]):  # of data with boxes
        tables.insert(0, by_group(f"{data}: AP by size of the largest object", reports, sizes_of))
    return tables


def by_group(title, reports, groups_of) -> Table:  # type: ignore[no-untyped-def]
    """A column per group of labels or objects, a row per head."""
    groups = list(groups_of(next(iter(reports.values()))[0]))
    table = Table("head", *groups, title=title)
    for head, of_seeds in reports.items():
        values = [groups_of(report) for report in of_seeds]
        table.add_row(head, *(spread([100 * value[group] for value in values]) for group in groups))
    return table


def sizes_of(report: dict) -> dict[str, float]:  # type: ignore[type-arg]
    """AP of the labels whose largest object is small, medium, large."""
    return {
        f"{row['size']} ({row['num_positives']})": row["map"]
        for row in report["by_size"]
        if row["map"] is not None
    }


def frequencies_of(benchmark: Benchmark, data: str):  # type: ignore[no-untyped-def]
    """A function from a report to the mean AP of the rarest third of its labels, the middle and the rest."""
    config = DataConfig(path=photos_of(benchmark.data, data))
    train = load_run_data(config, seed=benchmark.seeds[0]).train
    counts = (train.targets() == 1).sum(axis=0)

    def frequencies(report: dict) -> dict[str, float]:  # type: ignore[type-arg]
        aps = {row["label"]: row["ap"] for row in report["per_label"] if row["ap"] is not None}
        order = [index for index in np.argsort(counts, kind="stable") if train.labels[index] in aps]
        groups = dict(zip(("tail", "middle", "head"), np.array_split(order, 3), strict=True))
        return {
            f"{name} ({counts[group].min()} to {counts[group].max()} images)": float(
                np.mean([aps[train.labels[index]] for index in group])
            )
            for name, group in groups.items()
        }

    return frequencies


def paired(benchmark: Benchmark, data: str, others: list[str]) -> Table:
    """What Query2Label has more than each other head, on the same images and with the same seed."""
    table = Table(
        "query2label against", title=f"{data}: difference in mAP, best epochs; 95 % paired interval"
    )
    for seed in benchmark.seeds:
        table.add_column(f"seed {seed}", justify="right")
    for head in others:
        pairs = [
            tuple(benchmark.scored(data, TABLES["heads"][each], seed) for each in (head, "query2label"))
            for seed in benchmark.seeds
        ]
        for part in pairs[0][0].targets_by_size():
            table.add_row(f"{head}: {part}", *(more_of_second(*pair, part) for pair in pairs))
    return table


def more_of_second(first: Scored, second: Scored, part: str) -> str:
    """The interval of the difference in mAP on a part of the targets, in percent."""
    difference = paired_differences(
        first.scores,
        second.scores,
        first.targets_by_size()[part],
        thresholds=(first.thresholds, second.thresholds),
    ).map
    return "" if difference is None else f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"


def main() -> None:
    """Runs what is missing, and prints the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--report", action="store_true", help="only of the runs that are there")
    chosen = parser.parse_args()

    benchmark = Benchmark(chosen.data, chosen.out, tuple(chosen.seeds), makes_runs=not chosen.report)
    console = Console(width=120)
    for title in chosen.tables:
        based = benchmark if title in TODAY else replace(benchmark, recipe=FORMER)
        for data in chosen.sets:
            table = table_of(based, data, title)
            if table.rows:
                console.print(table)
            if title == "heads":
                for details in details_of(benchmark, data):
                    console.print(details)


if __name__ == "__main__":
    main()
