"""Does a head win on other photos too? Heads on repeated random splits of each sample.

    python -m benchmarks.splits --data ../shared/data --out runs/splits                  # hours
    python -m benchmarks.splits --data ../shared/data --out runs/splits --sets voc --splits 20
    python -m benchmarks.splits --data ../shared/data --out runs/splits --sets voc --train-share 0.1
    python -m benchmarks.splits --data ../shared/data --out runs/splits --sets coco-groups voc-traits
    python -m benchmarks.splits --sets photos/labels.csv --out runs/splits               # other photos
    python -m benchmarks.splits --data ../shared/data --out runs/splits --report         # no new runs

All labelled photos of a sample are dealt out anew for each split, 70 % (or another share) to learn from and
the rest to validate on (iterative stratification), and each head of `benchmarks.heads` learns from the same
ones by the recipe. The table has the mAP of the last epoch, which is not chosen on the validation photos:
mean and deviation over the splits, and the difference to the linear head on the same split with its 95 %
interval. That is of the corrected resampled t-test: splits share photos, so the plain t-test would promise
too much. The sets `coco-groups` and `voc-traits` are photos of the samples with other labels
(other_labels.py).

Runs that are there are not made again, and one that was stopped goes on. The feature maps of all photos are
computed once, and each split takes its own from them.

Source of the interval: Nadeau and Bengio (2003), Inference for the Generalization Error.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from benchmarks.heads import HEADS, WITHOUT_PHOTOS
from benchmarks.other_labels import OTHER_LABELS
from benchmarks.solved_probe import solved
from benchmarks.training_runs import DATA_SETS, Result, folder_name, parser_of, photos_of, spread, trained
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.data.split import stratified_split
from query2label.data.table_writer import write_table
from query2label.training.feature_entry import Entry
from query2label.training.features import FeatureCache, build_feature_cache

FIRST = "linear, 20 epochs"
NOT_FROM_PHOTOS = {
    "query2label, not from photos": WITHOUT_PHOTOS,
    **{
        f"query2label, not from photos, {epochs} epochs": (*WITHOUT_PHOTOS, f"train.epochs={epochs}")
        for epochs in (20, 30, 40, 80)
    },
    "query2label, not from photos, twice the rate": (*WITHOUT_PHOTOS, "optim.lr=1e-3"),
}
"""Without a start from photos."""
SOLVED = "linear, solved"
"""That of solved_probe.py."""
ROWS = {**HEADS, **NOT_FROM_PHOTOS, SOLVED: ()}


def dataset_of(name: str, data: Path) -> Dataset:
    """All labelled photos of a set."""
    return OTHER_LABELS[name](data) if name in OTHER_LABELS else load_dataset(photos_of(data, name))


def split_table(dataset: Dataset, folder: Path, *, seed: int, share: float) -> tuple[Path, Path]:
    """The table of one split, and the folder that its image names are relative to."""
    split = stratified_split(dataset, {"train": share, "val": 1 - share}, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "split.csv"
    return table, write_table(split, table).resolve()


@dataclass(frozen=True)
class Part:
    """Some rows of an array of feature maps, as an entry of the cache."""

    whole: Any
    rows: np.ndarray

    @property
    def array(self) -> Part:
        """Itself: it can be indexed like an array."""
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the part: (n, C, H, W)."""
        return (len(self), *self.whole.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Any) -> Any:
        return self.whole[self.rows[chosen]]


@contextlib.contextmanager
def one_cache_for_all(everything: Dataset) -> Iterator[None]:
    """Gives runs on a part of these photos their feature maps out of the cache of all."""
    row_of = {sample.path.resolve(): row for row, sample in enumerate(everything.samples)}

    def build(model: Any, dataset: Dataset, spec: Any, config: Any, *, role: str, **others: Any) -> Any:
        cache = build_feature_cache(model, everything, spec, config, role="train", **others)
        rows = np.array([row_of[sample.path.resolve()] for sample in dataset.samples])
        views = cache._entries if role == "train" else cache._entries[:1]
        return FeatureCache([cast("Entry", Part(view.array, rows)) for view in views], broken={})

    with patch("query2label.training.prepare.build_feature_cache", build):
        yield


def results_of(
    everything: Dataset,
    out: Path,
    heads: list[str],
    seeds: range,
    *,
    recipe: str,
    share: float,
    makes_runs: bool,
) -> dict[str, dict[int, Result]]:
    """By head and split; without `makes_runs` only of the runs that are there."""
    results: dict[str, dict[int, Result]] = {head: {} for head in heads}
    for seed in seeds:
        table, root = split_table(everything, out / str(seed), seed=seed, share=share)
        for head in heads:
            folder = out / str(seed) / head.replace(" ", "-")
            if makes_runs or (folder / "result.json").exists():
                overrides = (*ROWS[head], f"data.image_root={root}", f"train.seed={seed}")
                made = solved if head == SOLVED else trained
                with one_cache_for_all(everything):
                    result = made(table, folder, recipe=recipe, overrides=overrides)
                results[head][seed] = result
                print(
                    f"{out.name}, split {seed}, {head}: {100 * result.last:.2f}", file=sys.stderr, flush=True
                )
    return {head: found for head, found in results.items() if found}


def interval(differences: list[float], share: float) -> tuple[float, float]:
    """95 % interval of the mean of differences between two heads on splits that share photos."""
    count = len(differences)
    variance = statistics.variance(differences) * (1 / count + (1 - share) / share)
    half = float(student.ppf(0.975, count - 1)) * math.sqrt(variance)
    middle = statistics.mean(differences)
    return middle - half, middle + half


def table_of(name: str, results: dict[str, dict[int, Result]], share: float) -> Table:
    """One row per head."""
    table = Table("head", title=f"{name}: mAP of the last epoch in percent, mean ± deviation over splits")
    for column in ("splits", "mAP", f"to {FIRST}", "95 % interval", "splits won"):
        table.add_column(column, justify="right")
    for head, found in results.items():
        first = results.get(FIRST, {})
        differences = [100 * (found[seed].last - first[seed].last) for seed in found if seed in first]
        compared = ["", "", ""]
        if head != FIRST and len(differences) > 1:
            low, high = interval(differences, share)
            won = sum(difference > 0 for difference in differences)
            compared = [
                f"{statistics.mean(differences):+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{won} of {len(differences)}",
            ]
        table.add_row(head, str(len(found)), spread([100 * each.last for each in found.values()]), *compared)
    return table


def main() -> None:
    """Runs what is missing, and prints the tables."""
    parser = parser_of(__doc__, sets=(*DATA_SETS, *OTHER_LABELS))
    parser.add_argument("--heads", nargs="+", choices=ROWS, default=[FIRST, "csra, 20 epochs", "query2label"])
    parser.add_argument("--recipe", default="laptop", help="or what it was: benchmarks/former.toml")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--train-share", type=float, default=0.7, help="of the photos, to learn from")
    parser.add_argument("--report", action="store_true", help="only of the runs that are there")
    chosen = parser.parse_args()
    for name in chosen.sets:
        results = results_of(
            dataset_of(name, chosen.data),
            chosen.out / f"{Path(chosen.recipe).stem}-{folder_name(name)}-{chosen.train_share:g}",
            chosen.heads,
            range(chosen.splits),
            recipe=chosen.recipe,
            share=chosen.train_share,
            makes_runs=not chosen.report,
        )
        Console(width=110).print(table_of(name, results, chosen.train_share))


if __name__ == "__main__":
    main()
