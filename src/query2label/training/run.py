"""The story of a run, from labelled images to an evaluated bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from query2label.config import RunConfig, load_config, read_settings
from query2label.data.table_writer import write_table
from query2label.errors import ConfigError, Q2LError
from query2label.evaluation.report import Report
from query2label.storage import explained_os_errors, recover_folder, write_json
from query2label.training.cautions import label_cautions
from query2label.training.checkpoint import load_checkpoint
from query2label.training.copies import look_for_copies
from query2label.training.distributed import Ranks, join_ranks
from query2label.training.environment import describe_environment
from query2label.training.finish import finish
from query2label.training.loop import fit
from query2label.training.metrics_log import Record
from query2label.training.prepare import prepare_run
from query2label.training.progress import Reporter
from query2label.training.run_data import RunData
from query2label.training.run_folder import RunFolder
from query2label.training.signals import stop_on_signals
from query2label.training.start import Start, build_start
from query2label.training.transfer import Source, configure, read_source

MAY_CHANGE = (
    "data.path",
    "data.image_root",
    "data.num_workers",
    "data.worker_timeout_seconds",
    "data.max_broken_fraction",
    "train.checkpoint_minutes",
    "train.cache_dir",
    "train.cache_max_gb",
    "train.card_images",
    "train.tensorboard",
    "train.threads",
)
"""Settings that a resumed run may change: none of them decides which weights come out."""


@dataclass(frozen=True)
class RunResult:
    """What a finished run gives."""

    run_dir: Path
    """The run folder; see `run_folder` for what is in it."""
    best: Path
    """The bundle with the best weights and fitted thresholds: for `Predictor.load` and `q2l predict`."""
    report: Report
    """Of that bundle on the validation images."""
    epochs: list[Record]
    """One record per epoch, as in metrics.jsonl."""


def train(
    config: RunConfig | None = None,
    *,
    out: Path | str,
    data: Path | str | None = None,
    recipe: Path | str | None = None,
    start_from: Path | str | None = None,
    overrides: Iterable[str] = (),
    device: str = "auto",
    quiet: bool = False,
) -> RunResult:
    """Trains a model on labelled images, and fits its thresholds on the validation images.

        result = query2label.train(data="photos", out="runs/first", recipe="laptop")
        print(result.report.map)
        predictor = query2label.Predictor.load(result.best)

    SIGTERM and Ctrl-C save the run at the next step and raise `RunInterruptedError`; `resume` goes on.
    Unreadable data, a full disk and a loss that is not finite are each a `Q2LError` of one sentence.

    Args:
        config: The whole configuration; or leave it away and give a recipe, overrides, or neither.
        out: New folder for the run.
        data: Folder or file with the labelled images; `data.path` of the configuration counts where unset.
        recipe: Name of a shipped recipe, or path of a TOML file.
        start_from: A trained model to go on from, with these labels or others: a bundle folder, its name on
            the Hugging Face hub, or a checkpoint of the authors' code. Its settings and preprocessing count
            where recipe and overrides say nothing; labels of the same name keep their weights.
            `model.start_from` counts where unset.
        overrides: Settings like `train.epochs=10`.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        quiet: Say nothing; `log.txt` has it all.

    Raises:
        ConfigError: If both a configuration and a recipe or overrides are given.
    """
    overrides = list(overrides)
    if config is not None and (recipe is not None or overrides):
        raise ConfigError("Give either a configuration or a recipe with overrides, not both.")
    if config is not None:
        values, where = config.model_dump(exclude_unset=True), "the configuration"
    else:
        values, where = read_settings(recipe, overrides)
    chosen, source = configure(values, where=where, start_from=start_from)
    chosen = _with_absolute_paths(chosen, data)
    return _run(RunFolder(Path(out)), chosen, is_new=True, source=source, device=device, quiet=quiet)


def resume(
    run_dir: Path | str, *, overrides: Iterable[str] = (), device: str = "auto", quiet: bool = False
) -> RunResult:
    """Goes on with a run exactly where it was saved; its last weights are those of a run never stopped.

    A run that is at its end is only evaluated once more.

    Args:
        run_dir: The run folder.
        overrides: Settings like `data.num_workers=4`; only those in `MAY_CHANGE`.
        device: `auto`, `cpu` or `cuda`.
        quiet: Say nothing; `log.txt` has it all.

    Raises:
        ConfigError: If the folder holds no run, or a setting would change the result.
    """
    folder = RunFolder(Path(run_dir))
    config = folder.read_config()
    overrides = list(overrides)
    for override in overrides:
        name = override.partition("=")[0].strip()
        if name not in MAY_CHANGE:
            raise ConfigError(
                f"{name} cannot be changed in a run that goes on, as the result would be another: begin a "
                f"new run for that. What can be set is {', '.join(MAY_CHANGE)}."
            )
    if overrides:
        config = _with_absolute_paths(load_config(folder.config, overrides), None)
    return _run(folder, config, is_new=False, source=None, device=device, quiet=quiet)


def _run(
    folder: RunFolder, config: RunConfig, *, is_new: bool, source: Source | None, device: str, quiet: bool
) -> RunResult:
    with (
        join_ranks(device) as ranks,
        _torch_settings(config.train.threads, ranks.device),
        stop_on_signals() as stop,
    ):
        if is_new:
            ranks.first_does(folder.check_free)
        checkpoint = None if is_new else load_checkpoint(folder.last)
        if checkpoint is None and source is None and config.model.start_from is not None:
            source = read_source(config.model.start_from)  # stopped before its first checkpoint
        start = build_start(config, ranks=ranks, load_weights=checkpoint is None, source=source)
        console = None if quiet or not ranks.is_first else Console()
        with contextlib.ExitStack() as held:
            ranks.first_does(lambda: _write_beginning(folder, config, start.data, ranks, held))
            log_path = folder.log if ranks.is_first else None
            reporter = held.enter_context(Reporter(console=console, log_path=log_path))
            try:
                _introduce(start, config, ranks=ranks, reporter=reporter)
                run = prepare_run(
                    start, folder, config, checkpoint=checkpoint, ranks=ranks, reporter=reporter, stop=stop
                )
                if checkpoint is None:
                    run.state.cautions += ranks.first_does(lambda: look_for_copies(run))
                fit(run)
                report = finish(run)
            except Q2LError as error:
                reporter.note(f"Ended: {error}")
                raise
        return RunResult(run_dir=folder.path, best=folder.best, report=report, epochs=run.state.records)


def _write_beginning(
    folder: RunFolder, config: RunConfig, data: RunData, ranks: Ranks, held: contextlib.ExitStack
) -> None:
    with explained_os_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    held.enter_context(folder.held())
    folder.write_config(config)
    recover_folder(folder.best)
    write_json(folder.environment, describe_environment(ranks))
    if data.made_split is not None:
        write_table(data.made_split, folder.split)


def _introduce(start: Start, config: RunConfig, *, ranks: Ranks, reporter: Reporter) -> None:
    data, parameters = start.data, list(start.model.parameters())
    learn = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    reporter.say(
        f"{len(data.train)} training and {len(data.val)} validation images with {len(data.train.labels)} "
        f"labels, from {data.train.source}"
    )
    reporter.say(
        f"{config.model.backbone} with head {config.model.head}: "
        f"{sum(parameter.numel() for parameter in parameters) / 1e6:.1f} M parameters, {learn / 1e6:.1f} M "
        f"of them learn; {ranks.device.type}, {config.train.precision}"
        + (f", {ranks.world_size} processes" if ranks.world_size > 1 else "")
    )
    if start.transfer is not None:
        reporter.say(str(start.transfer))
    if start.names_note is not None:
        reporter.say(start.names_note)
    for note in data.train.notes:
        reporter.say(note)
    for warning in (*data.warnings, *label_cautions(data.val.labels.names, data.val.targets())):
        reporter.warn(warning)


@contextlib.contextmanager
def _torch_settings(threads: int, device: torch.device) -> Iterator[None]:
    """The run's number of threads and its random numbers, put back afterwards; touches no other GPU."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if threads:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _with_absolute_paths(config: RunConfig, data: Path | str | None) -> RunConfig:
    """The configuration with paths that mean the same wherever the run is resumed."""
    paths = {"path": data or config.data.path, "image_root": config.data.image_root}
    absolute = {name: Path(path).absolute() for name, path in paths.items() if path is not None}
    sections: dict[str, object] = {"data": config.data.model_copy(update=absolute)}
    if config.model.weights not in {"pretrained", "none"}:
        weights = str(Path(config.model.weights).absolute())
        sections["model"] = config.model.model_copy(update={"weights": weights})
    if config.train.cache_dir is not None:
        cache_dir = config.train.cache_dir.expanduser().absolute()
        sections["train"] = config.train.model_copy(update={"cache_dir": cache_dir})
    return config.model_copy(update=sections)
