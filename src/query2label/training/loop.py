"""The epochs of a run: steps, validation, what is kept and when to stop."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import torch
from torch import Tensor, nn

from query2label.bundle import scores_from_logits
from query2label.data.randomness import derive_seed
from query2label.errors import DataError, TrainingError
from query2label.evaluation.noise import difference_interval, mean_ap_influence
from query2label.metrics import mean_average_precision
from query2label.training.cautions import in_signs, is_beyond_noise
from query2label.training.engine import StepResult, take_step
from query2label.training.metrics_log import Record
from query2label.training.optim import set_beta1, set_rate
from query2label.training.plan import Indices, epoch_batches, rank_share
from query2label.training.progress import as_text, in_words
from query2label.training.run_context import Run
from query2label.training.schedule import cycled_beta1, rate_factor
from query2label.training.scoring import score_batches
from query2label.training.signals import RunInterruptedError

NUM_NAMED = 4
"""So many images of a batch are named when it goes wrong."""


def fit(run: Run) -> None:
    """Trains from where the run stands to its end.

    After each epoch the weights are validated, the best are written as a bundle, and the state is saved. A
    signal ends it by `RunInterruptedError`, anything that is not finite by `TrainingError`.
    """
    patience = run.config.train.patience
    while run.state.epoch < run.config.train.epochs and not run.state.stopped_early:
        train_epoch(run)
        record = validate_epoch(run)
        run.state.end_epoch(record)
        run.state.stopped_early = 0 < patience <= run.state.epoch - run.state.best_epoch
        if run.metrics_log is not None:
            run.metrics_log.add(record)
        run.save()
        run.reporter.say(describe(record, num_epochs=run.config.train.epochs))
        if run.state.stopped_early:
            run.reporter.say(
                f"Stopped early: {patience} epochs without a better mAP than epoch {run.state.best_epoch}'s."
            )


def train_epoch(run: Run) -> None:
    """Takes the remaining steps of the epoch in course.

    A signal saves the state after the step and raises `RunInterruptedError`.

    Raises:
        TrainingError: If a loss or gradient is not finite, in every process.
    """
    state, config = run.state, run.config.train
    batches = epoch_batches(
        len(run.start.data.train), batch_size=config.batch_size, seed=config.seed, epoch=state.epoch
    )
    shares = [rank_share(batch, rank=run.ranks.rank, world_size=run.ranks.world_size) for batch in batches]
    run.learner.wrapped.train()
    first_step, began = state.step, time.monotonic()
    name = f"epoch {state.epoch + 1}/{config.epochs}"
    feed = run.feed.training(shares, epoch=state.epoch, first=state.batch)
    with (
        run.reporter.phase(name, total=len(batches), done=state.batch) as phase,
        contextlib.closing(feed),
    ):
        step_began = time.monotonic()
        for inputs, targets, indices in feed:
            batch = batches[state.batch]
            result = _step(run, inputs, targets, num_images=len(batch))
            if not result.is_finite:
                raise TrainingError(_what_is_not_finite(run, result, indices))
            now = time.monotonic()
            state.count_step(result.loss, num_images=len(batch), seconds=now - step_began)
            left = in_words((run.num_steps - state.step) * (now - began) / (state.step - first_step))
            best = "" if state.best_map is None else f"best mAP {as_text(state.best_map)}, "
            phase.advance(images=len(batch), note=f"loss {state.mean_loss:.4f}, {best}{left} left")
            if result.stop_signal:
                run.interrupt(result.stop_signal)
            if run.is_save_due():
                run.save()
            step_began = time.monotonic()


def validate_epoch(run: Run) -> Record:
    """Scores the validation images with the raw and the averaged weights.

    The best weights so far, by the averaged weights where there are any, are written as a bundle. A signal
    saves the state before the validation and raises `RunInterruptedError`; where no image can be read, a
    `DataError` is raised.

    Returns:
        The epoch's record, the same in every process.
    """
    average = run.learner.average
    networks: dict[str, nn.Module] = {"raw": run.learner.network}
    if average is not None:
        networks["ema"] = average.network
    for network in networks.values():
        run.ranks.share_tensors(dict(network.named_buffers()))
    images = np.arange(len(run.start.data.val))
    share = rank_share(images, rank=run.ranks.rank, world_size=run.ranks.world_size)
    began = time.monotonic()
    try:
        with run.reporter.phase("validation", total=run.feed.num_validation_batches(share)) as phase:
            indices, logits = score_batches(
                networks,
                run.feed.validation(share),
                num_labels=len(run.start.data.val.labels),
                ranks=run.ranks,
                stop=run.stop,
                advance=phase.advance,
            )
    except RunInterruptedError as error:
        run.interrupt(error.signal_number)
    seconds = time.monotonic() - began
    run.share_broken()
    record = run.ranks.first_does(lambda: _record(run, indices, logits, seconds=seconds))
    if record["best"]:
        run.ranks.first_does(run.save_best)
    return record


def describe(record: Record, *, num_epochs: int) -> str:
    """An epoch in one line for people."""
    both = f" (raw weights {as_text(record['map_raw'])})" if "map_ema" in record else ""
    mark = ", the best so far" if record["best"] else ""
    if (gain := record["gain_interval"]) is not None and not is_beyond_noise(gain):
        mark += f" but within noise of the best before (95 % interval of the gain {in_signs(gain)})"
    return (
        f"epoch {record['epoch']}/{num_epochs}: loss {record['train_loss']:.4f}, "
        f"validation loss {record['val_loss']:.4f}, mAP {as_text(record['map'])}{both}, "
        f"{record['images_per_second']:.1f} images/s, "
        f"{in_words(record['seconds'] + record['validation_seconds'])}{mark}"
    )


def _step(run: Run, inputs: Tensor, targets: Tensor, *, num_images: int) -> StepResult:
    state, config = run.state, run.config
    torch.manual_seed(derive_seed("step", config.train.seed, state.step, run.ranks.rank))
    set_rate(run.learner.optimizer, _rate_factor(run, state.step))
    if config.optim.cycle_beta1:
        warmup = config.optim.warmup_fraction
        beta1 = cycled_beta1(state.step, num_steps=run.num_steps, warmup_fraction=warmup)
        set_beta1(run.learner.optimizer, beta1)
    return take_step(
        run.learner,
        inputs,
        targets,
        step=state.step,
        num_images=num_images,
        stop_signal=run.stop.signal_number,
    )


def _rate_factor(run: Run, step: int) -> float:
    return rate_factor(
        step,
        num_steps=run.num_steps,
        schedule=run.config.optim.schedule,
        warmup_fraction=run.config.optim.warmup_fraction,
    )


def _record(run: Run, indices: Indices, logits: dict[str, np.ndarray], *, seconds: float) -> Record:
    state, val = run.state, run.start.data.val
    if not len(indices):
        raise DataError(f"No validation image can be read: run `q2l data check {val.source}`.")
    targets = val.targets()[indices]
    maps = {
        name: mean_average_precision(scores_from_logits(values, 1.0), targets)
        for name, values in logits.items()
    }
    losses = {
        name: float(run.learner.loss_function(torch.from_numpy(values), torch.from_numpy(targets).float()))
        for name, values in logits.items()
    }
    chosen = "ema" if "ema" in logits else "raw"
    best = state.best_epoch == 0 or (maps[chosen] or 0.0) > (state.best_map or 0.0)
    gain = None
    if best:
        influence = np.zeros(len(val))
        influence[indices] = mean_ap_influence(scores_from_logits(logits[chosen], 1.0), targets)
        if state.best_influence is not None:
            gained = (maps[chosen] or 0.0) - (state.best_map or 0.0)
            gain = list(difference_interval(gained, state.best_influence, influence))
        state.best_influence = influence
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        "train_loss": state.mean_loss,
        "val_loss": losses[chosen],
        "map": maps[chosen],
        **{f"map_{name}": value for name, value in maps.items()},
        **{f"val_loss_{name}": value for name, value in losses.items()},
        "lr": run.config.optim.lr * _rate_factor(run, state.step - 1),
        "images_per_second": state.num_images / max(state.seconds, 1e-9),
        "seconds": state.seconds,
        "validation_seconds": seconds,
        "best": best,
        "gain_interval": gain,
    }


def _what_is_not_finite(run: Run, result: StepResult, indices: Indices) -> str:
    paths = [str(run.start.data.train.samples[index].path) for index in indices.tolist()]
    parts: list[tuple[bool, list[str]]] = run.ranks.gather((result.is_loss_finite_here, paths))
    culprits = [path for is_fine, part in parts if not is_fine for path in part]
    what = "loss" if culprits else "gradient"
    culprits = culprits or [path for _, part in parts for path in part]
    more = f" and {len(culprits) - NUM_NAMED} more" if len(culprits) > NUM_NAMED else ""
    saved = (
        f"the last good checkpoint is {run.folder.last} (step {run.saved_step})"
        if run.saved_step
        else "no checkpoint was saved before"
    )
    return (
        f"Step {run.state.step + 1} (epoch {run.state.epoch + 1}): the {what} is not finite on the images "
        f"{', '.join(culprits[:NUM_NAMED])}{more}; {saved}. Look at these images and their labels; then "
        "begin a new run with a lower optim.lr, or with train.precision fp32."
    )
