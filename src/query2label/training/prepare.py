"""From a start and a checkpoint to everything that the epochs work with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from query2label.config import RunConfig
from query2label.data.broken import BrokenImages
from query2label.data.samples import Dataset
from query2label.errors import DataError
from query2label.losses import build_loss
from query2label.training.checkpoint import Checkpoint
from query2label.training.distributed import Ranks
from query2label.training.ema import WeightAverage
from query2label.training.engine import Learner, compiled
from query2label.training.feature_feed import FeatureFeed
from query2label.training.feature_task import Role
from query2label.training.features import FeatureCache, build_feature_cache
from query2label.training.feeds import Feed, ImageFeed
from query2label.training.metrics_log import MetricsLog
from query2label.training.optim import build_optimizer
from query2label.training.photo_start import start_from_photos
from query2label.training.plan import rank_share
from query2label.training.progress import Phase, Reporter
from query2label.training.run_context import Run
from query2label.training.run_folder import RunFolder
from query2label.training.signals import RunInterruptedError, StopRequest
from query2label.training.start import Start
from query2label.training.state import RunState, restore, restore_model


def prepare_run(
    start: Start,
    folder: RunFolder,
    config: RunConfig,
    *,
    checkpoint: Checkpoint | None,
    ranks: Ranks,
    reporter: Reporter,
    stop: StopRequest,
) -> Run:
    """Everything that the epochs work with: new, or as a checkpoint has it."""
    broken = BrokenImages()
    state = RunState(data_digest=start.data.digest())
    if checkpoint is not None:
        _check_data(checkpoint, state)
        restore_model(start.model, checkpoint.tensors)  # before the feed: cached features are its backbone's
    feed = _feed(start, folder, config, ranks=ranks, reporter=reporter, stop=stop, broken=broken)
    if config.model.start_from_photos and checkpoint is None:
        reporter.say(_start_from_photos(feed, start, folder, ranks=ranks, reporter=reporter, stop=stop))
    learner = _learner(feed, config, ranks)
    if checkpoint is not None:
        state = _go_on(checkpoint, learner, reporter=reporter)
        broken.update(state.broken_images)
    metrics_log = None
    if ranks.is_first:
        tensorboard_dir = folder.tensorboard if config.train.tensorboard else None
        metrics_log = MetricsLog(
            folder.metrics, state.records, tensorboard_dir=tensorboard_dir, warn=reporter.warn
        )
    return Run(
        config=config,
        folder=folder,
        start=start,
        feed=feed,
        learner=learner,
        state=state,
        ranks=ranks,
        reporter=reporter,
        stop=stop,
        broken=broken,
        metrics_log=metrics_log,
        saved_step=state.step,
    )


def _feed(
    start: Start,
    folder: RunFolder,
    config: RunConfig,
    *,
    ranks: Ranks,
    reporter: Reporter,
    stop: StopRequest,
    broken: BrokenImages,
) -> Feed:
    if not config.train.cache_features:
        return ImageFeed(start.model, start.data, start.spec, config, device=ranks.device, broken=broken)
    caches: dict[Role, FeatureCache] = {}
    parts: dict[Role, Dataset] = {"train": start.data.train, "val": start.data.val}
    for role, dataset in parts.items():
        caches[role] = _feature_cache(
            start, folder, dataset, config, role=role, ranks=ranks, reporter=reporter, stop=stop
        )
        for index, reason in caches[role].broken.items():
            broken.record(dataset.samples[index].path, reason)
    return FeatureFeed(
        start.model,
        start.data,
        config,
        device=ranks.device,
        train_cache=caches["train"],
        val_cache=caches["val"],
    )


def _feature_cache(
    start: Start,
    folder: RunFolder,
    dataset: Dataset,
    config: RunConfig,
    *,
    role: Role,
    ranks: Ranks,
    reporter: Reporter,
    stop: StopRequest,
) -> FeatureCache:
    with reporter.phase(f"feature maps ({role})") as phase:
        return build_feature_cache(
            start.model,
            dataset,
            start.spec,
            config,
            role=role,
            device=ranks.device,
            on_progress=_watched(
                phase, stop, folder, when="while feature maps were computed", what="are done and kept"
            ),
        )


def _watched(
    phase: Phase, stop: StopRequest, folder: RunFolder, *, when: str, what: str
) -> Callable[[int, int], None]:
    """A function that shows how many images of all are done, and ends the run where a signal asks for it."""

    def advance(done: int, total: int) -> None:
        phase.move_to(done, total=total)
        if stop.signal_number:
            raise RunInterruptedError(
                f"Stopped by a signal {when} ({done} of {total} {what}): "
                f"go on with `q2l train --resume {folder.path}`.",
                signal_number=stop.signal_number,
            )

    return advance


def _start_from_photos(
    feed: Feed, start: Start, folder: RunFolder, *, ranks: Ranks, reporter: Reporter, stop: StopRequest
) -> str:
    if start.transfer is not None:
        return "Labels do not start from photos, but from the model that was named."
    train = start.data.train
    share = rank_share(np.arange(len(train)), rank=ranks.rank, world_size=ranks.world_size)
    with reporter.phase("start from photos") as phase:
        watched = _watched(
            phase,
            stop,
            folder,
            when="before the first step",
            what="photos were looked at for the start from photos",
        )
        return start_from_photos(
            start.model.head,
            feed.plain_features(share),
            train,
            ranks=ranks,
            on_progress=lambda done: watched(done, len(share)),
        )


def _learner(feed: Feed, config: RunConfig, ranks: Ranks) -> Learner:
    network = feed.network
    named = [(f"{feed.network_prefix}{name}", value) for name, value in network.named_parameters()]
    decay = config.train.ema_decay
    return Learner(
        network=network,
        wrapped=ranks.wrap(compiled(network) if config.train.compile else network),
        optimizer=build_optimizer(named, config.optim),
        scaler=torch.amp.GradScaler(ranks.device.type, enabled=config.train.precision == "fp16"),
        average=WeightAverage(network, decay=decay) if decay else None,
        loss_function=build_loss(config.loss),
        precision=config.train.precision,
        clip_norm=config.optim.clip_norm,
        accumulate=config.train.accumulate,
        ranks=ranks,
    )


def _check_data(checkpoint: Checkpoint, fresh: RunState) -> None:
    if checkpoint.state["data_digest"] != fresh.data_digest:
        raise DataError(
            "The data are not those that this run began with (other images, labels or targets): put them "
            "back, or begin a new run."
        )


def _go_on(checkpoint: Checkpoint, learner: Learner, *, reporter: Reporter) -> RunState:
    state = restore(learner, checkpoint.tensors, checkpoint.state)
    for damage in checkpoint.damaged:
        reporter.warn(f"Part of the last checkpoint is damaged ({damage}).")
    reporter.say(f"Resumed after step {state.step}, from {checkpoint.path}.")
    return state
