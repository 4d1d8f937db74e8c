"""Training: our step against the plain loop, and a cached frozen backbone against decoding again.

    python -m benchmarks.train_step --data ../shared/data/voc-sample/VOC2012
    python -m benchmarks.train_step --data ../shared/data/voc-sample/VOC2012 --models laptop    # cached
    python -m benchmarks.train_step --data ../shared/data/voc-sample/VOC2012 --quick            # runs?

Each variant learns in a process of its own, on the same photos and from the same weights; they take turns, so
that a slow moment of the machine meets all of them. Dropout is off, so that the losses can be compared: the
last column is the largest relative difference from the plain loop's over all steps. The tables have medians
over the steps (two more warm up), of the ratio to `plain` within a turn as well. `--clock cpu` counts
processor time, for machines on which others work too (with `--threads 1`).

    plain        `plain_training.py` and `plain_model.py`: float32, eager, straightforward
    query2label  the step of `q2l train`, float32, with the allocator's setting of the command
    bf16         the same with train.precision = "bf16"
    compiled     the same in float32 with train.compile = true

    lite0        tf_efficientnet_lite0 at 224 px, all of it learns
    r50          ResNet-50 at 224 px, all of it learns
    r101-448     Q2L-R101-448 as published: frozen stem and norms, hidden width 2048
    laptop       the recipe: frozen backbone at 384 px; plain decodes and runs it in each epoch
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from benchmarks.plain_model import PlainQuery2Label
from benchmarks.plain_training import PlainImages, PlainTraining
from rich.console import Console
from rich.table import Table

from query2label.allocator import keep_freed_memory
from query2label.config import RunConfig, load_config
from query2label.data.load import load_dataset
from query2label.data.loaders import EvalBatches
from query2label.data.samples import Dataset
from query2label.losses import build_loss
from query2label.models.build import build_model, preprocess_spec
from query2label.models.query2label import Query2Label
from query2label.training.distributed import Ranks
from query2label.training.ema import WeightAverage
from query2label.training.engine import Learner, compiled, take_step
from query2label.training.features import build_feature_cache
from query2label.training.feeds import on_device
from query2label.training.optim import build_optimizer

VARIANTS = ("plain", "query2label", "bf16", "compiled")
CPU = torch.device("cpu")
SETTINGS: dict[str, tuple[str | None, tuple[str, ...], int]] = {
    "lite0": (None, ("model.hidden_dim=256", "data.image_size=224"), 16),
    "r50": (
        None,
        ("model.backbone=resnet50", "model.weights=none", "model.hidden_dim=512", "data.image_size=224"),
        16,
    ),
    "r101-448": ("coco-r101-448", ("model.weights=none", "optim.backbone_lr_scale=0.1"), 4),
    "laptop": ("laptop", (), 32),
}
"""Model -> recipe, changes, images per batch."""

Step = Callable[[int], float]
"""Does the step of a number and gives its loss."""


@dataclass(frozen=True)
class Task:
    """What one process measures."""

    model: str
    variant: str
    data: Path
    threads: int
    num_steps: int
    cpu_clock: bool


def main() -> None:
    """Measures what was asked for, and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="labelled photos with a split train")
    parser.add_argument("--models", nargs="+", choices=[*SETTINGS], default=[*SETTINGS])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS[:3])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--quick", action="store_true", help="lite0 alone, two steps")
    chosen = parser.parse_args()
    models, steps = (["lite0"], 2) if chosen.quick else (chosen.models, chosen.steps)
    table = Table(title=f"{chosen.threads} threads, {steps} steps, {chosen.clock} time")
    for column in ("model", "variant", "images/s", "x plain (quartiles)", "first, last loss", "difference"):
        table.add_column(column, justify="left" if column in {"model", "variant"} else "right")
    for model in models:
        names = ["plain", *(name for name in VARIANTS[1:] if name in chosen.variants)]
        if model == "laptop":
            names = ["plain", "query2label"]
        tasks = [
            Task(model, name, chosen.data, chosen.threads, steps, chosen.clock == "cpu") for name in names
        ]
        add_rows(table, tasks)
    Console(width=110).print(table)


def add_rows(table: Table, tasks: list[Task]) -> None:
    """Lets the variants of one model take turns, and adds what they took."""
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes = []
    for task in tasks:
        print(f"preparing {task.model} {task.variant}", file=sys.stderr)
        mine, theirs = context.Pipe()
        process = context.Process(target=measure, args=(task, theirs), daemon=True)
        process.start()
        theirs.close()
        mine.recv()  # ready
        ends.append(mine)
        processes.append(process)
    results: list[list[tuple[float, float]]] = [[] for _ in tasks]
    for number in range(tasks[0].num_steps + 2):
        for end, result in zip(ends, results, strict=True):
            end.send(number)
            result.append(end.recv())
    batch_size = SETTINGS[tasks[0].model][2]
    plain_seconds, plain_losses = np.array(results[0]).T
    for task, result in zip(tasks, results, strict=True):
        seconds, losses = np.array(result).T
        ratios = (plain_seconds / seconds)[2:].tolist()
        low, middle, high = statistics.quantiles(ratios) if len(ratios) > 1 else ratios * 3
        difference = np.abs(losses / plain_losses - 1).max()
        table.add_row(
            task.model,
            task.variant,
            f"{batch_size / statistics.median(seconds[2:]):.2f}",
            f"{middle:.2f} ({low:.2f}-{high:.2f})",
            f"{losses[0]:.4f}, {losses[-1]:.4f}",
            "-" if task.model == "laptop" else f"{difference:.0e}",
        )
    table.add_section()
    for process in processes:
        process.terminate()


def measure(task: Task, connection: Connection) -> None:
    """Takes the steps that it is told to take; runs in a process of its own."""
    if task.variant != "plain":
        keep_freed_memory()
    torch.set_num_threads(task.threads)
    clock = time.process_time if task.cpu_clock else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        step = prepare(task, Path(folder))
        connection.send("ready")
        while True:
            number = connection.recv()
            began = clock()
            loss = step(number)
            connection.send((clock() - began, loss))


def prepare(task: Task, folder: Path) -> Step:
    """The step of one variant, with its data."""
    recipe, changes, batch_size = SETTINGS[task.model]
    precision = "bf16" if task.variant == "bf16" else "fp32"
    config = load_config(
        recipe,
        [
            *changes,
            *("model.dropout=0", "loss.name=bce", f"train.precision={precision}", "data.num_workers=0"),
            *("optim.clip_norm=1", f"train.batch_size={batch_size}", f"train.cache_dir={folder}"),
        ],
    )
    dataset = load_dataset(task.data).select("train")
    dataset = replace(dataset, samples=dataset.samples[: 4 * batch_size])
    torch.manual_seed(0)
    model = build_model(config.model, len(dataset.labels), image_size=config.data.image_size)
    model.head.set_label_prior(torch.full((len(dataset.labels),), 0.1))
    if config.model.freeze == "all":
        return frozen_step(task, config, model, dataset)
    return whole_step(task, config, model, dataset)


def whole_step(task: Task, config: RunConfig, model: Query2Label, dataset: Dataset) -> Step:
    """A step of a model whose backbone learns; the images are ready."""
    spec = preprocess_spec(config, model.backbone)
    given = list(EvalBatches(dataset, spec, batch_size=config.train.batch_size))
    if config.model.weights == "none":
        measure_norms(model, given[0].images)
    if task.variant == "plain":
        plain = plain_training(model, config)

        def plain_step(number: int) -> float:
            batch = given[number % len(given)]
            return plain.step(batch.images, batch.targets, number)

        return plain_step
    network = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = our_learner(network, config, fuse=task.variant == "compiled")

    def step(number: int) -> float:
        batch = given[number % len(given)]
        images = on_device(batch.images, CPU)
        return take_step(learner, images, batch.targets, step=number, num_images=len(images)).loss

    return step


def frozen_step(task: Task, config: RunConfig, model: Query2Label, dataset: Dataset) -> Step:
    """A step behind a frozen backbone: plain decodes, augments and runs it, ours loads what is cached."""
    spec = preprocess_spec(config, model.backbone)
    size = config.train.batch_size
    targets = torch.from_numpy(dataset.targets()).float()
    numbers = [np.arange(first, first + size) for first in range(0, len(dataset), size)]
    if task.variant == "plain":
        images = PlainImages([sample.path for sample in dataset.samples], spec, config.data.augment)
        plain = plain_training(model, config)

        def plain_step(number: int) -> float:
            chosen = numbers[number % len(numbers)]
            batch = torch.stack([images[index] for index in chosen])
            return plain.step(batch, targets[chosen], number)

        return plain_step
    cache = build_feature_cache(model, dataset, spec, config, role="train", device=CPU)
    learner = our_learner(model.head, config)

    def step(number: int) -> float:
        chosen = numbers[number % len(numbers)]
        features = cache.load(chosen, chosen % cache.num_views)
        return take_step(learner, features, targets[chosen], step=number, num_images=size).loss

    return step


def plain_training(model: Query2Label, config: RunConfig) -> PlainTraining:
    """The plain loop on the plain network."""
    network = PlainQuery2Label(model).train()
    return PlainTraining(network, build_loss(config.loss), config.optim, config.train.ema_decay)


def our_learner(network: torch.nn.Module, config: RunConfig, *, fuse: bool = False) -> Learner:
    """What `q2l train` makes of a configuration, in one process."""
    prefix = "" if isinstance(network, Query2Label) else "head."
    named = [(f"{prefix}{name}", value) for name, value in network.named_parameters()]
    network.train()
    return Learner(
        network=network,
        wrapped=compiled(network) if fuse else network,
        optimizer=build_optimizer(named, config.optim),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        average=WeightAverage(network, decay=config.train.ema_decay),
        loss_function=build_loss(config.loss),
        precision=config.train.precision,
        clip_norm=config.optim.clip_norm,
        accumulate=1,
        ranks=Ranks(CPU),
    )


@torch.no_grad()
def measure_norms(model: Query2Label, images: torch.Tensor) -> None:
    """Gives the norms of a backbone with random weights the statistics of some images."""
    model.backbone.model.train()
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.backbone.model.forward_features(images)
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    model.train()


if __name__ == "__main__":
    main()
