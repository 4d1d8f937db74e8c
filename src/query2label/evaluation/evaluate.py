"""`evaluate`: any model on any labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from query2label.bundle import Bundle, resolve_bundle_path
from query2label.data.load import Format, load_dataset
from query2label.data.samples import Dataset
from query2label.errors import ConfigError, DataError
from query2label.evaluation.bootstrap import NUM_RESAMPLES
from query2label.evaluation.report import Report, report_from_scores
from query2label.evaluation.scoring import Progress, Scorer, score_images
from query2label.evaluation.sizes import object_sizes
from query2label.models.build import load_model

Difficult = Literal["ignore", "positive", "negative"]


@runtime_checkable
class PredictorLike(Protocol):
    """What has a bundle and computes logits with a runtime, as `query2label.Predictor`."""

    bundle: Bundle
    runtime: Scorer


Evaluable = PredictorLike | nn.Module | Scorer | str | Path


def evaluate(
    model: Evaluable,
    data: Dataset | Path | str,
    *,
    bundle: Bundle | None = None,
    split: str | None = None,
    format: Format | Literal["auto"] = "auto",  # noqa: A002 (the word people look for)
    difficult: Difficult = "ignore",
    batch_size: int = 32,
    num_workers: int = 0,
    top_k: int = 3,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Scores labelled images with a model and compares the scores with the labels.

        report = query2label.evaluate("runs/birds/best", "photos", split="test")
        print(report.map, report.decisions["thresholds"].cf1)

    Images go through the same preprocessing as in `Predictor`, so that both give the same scores. Broken
    images are left out and named in the report. A model without labels and preprocessing is a `ConfigError`.

    Args:
        model: A bundle folder or hub id, a `Predictor`, a `Query2Label`, or any callable from
            normalized images (B, 3, H, W), float32, to logits (B, K).
        data: What `load_dataset` gives or reads; a path is read with the model's labels.
        bundle: Labels, preprocessing, thresholds and temperature of a model that does not bring its own.
        split: Only this split; unset: `test`, else `val`, else all images where the data have no splits.
        format: Layout of the data at a path.
        difficult: What objects marked difficult (PASCAL VOC) at a path make of their label.
        batch_size: Images that are computed at once.
        num_workers: Processes that decode images; 0 decodes in this one.
        top_k: Labels per image for the `top-k` rules.
        num_resamples: For the confidence interval of the mAP; 0 leaves it away.
        seed: Of the resampling.
        progress: Told (images done, images) after each batch.

    Returns:
        The report.

    Raises:
        DataError: If the data set has other labels than the model.
    """
    scorer, bundle = _scorer_of(model, bundle)
    if not isinstance(data, Dataset):
        data = load_dataset(data, format=format, split=split, labels=bundle.label_set, difficult=difficult)
    if data.labels != bundle.label_set:
        raise DataError(
            f"{data.source} was read with other labels than the model's, or in another order: "
            "read it with load_dataset(..., labels=bundle.label_set)."
        )
    chosen = choose_split(data, split, preferred=("test", "val"))
    part = data if chosen is None else data.select(chosen)
    scored = score_images(
        scorer, part, bundle.preprocess, batch_size=batch_size, num_workers=num_workers, progress=progress
    )
    return report_from_scores(
        bundle.scores(scored.logits),
        scored.targets,
        labels=bundle.labels,
        thresholds=bundle.thresholds,
        temperature=bundle.temperature,
        top_k=top_k,
        object_sizes=object_sizes(part, scored.indices),
        num_resamples=num_resamples,
        seed=seed,
        protocol=_protocol(data, chosen, difficult),
        broken_images=scored.broken,
    )


def torch_scorer(model: nn.Module) -> Scorer:
    """Logits of a module, on its own device, in evaluation mode and without gradients; its mode is kept."""

    def score(images: np.ndarray) -> np.ndarray:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                logits: torch.Tensor = model(torch.from_numpy(images).to(device))
        finally:
            model.train(was_training)
        return np.asarray(logits.float().cpu().numpy())

    return score


def _scorer_of(model: Evaluable, bundle: Bundle | None) -> tuple[Scorer, Bundle]:
    if isinstance(model, str | Path):
        model = load_model(resolve_bundle_path(model))
    own = bundle or getattr(model, "bundle", None)
    if not isinstance(own, Bundle):
        raise ConfigError(
            "Nothing says which labels and preprocessing this model has: give evaluate(..., bundle=...)."
        )
    if isinstance(model, nn.Module):
        return torch_scorer(model), own
    return (model.runtime if isinstance(model, PredictorLike) else model), own


def choose_split(data: Dataset, split: str | None, *, preferred: Sequence[str]) -> str | None:
    """The split to use: the one asked for, else the first preferred one; None for data without splits.

    Raises:
        DataError: If there is no such split.
    """
    splits = data.splits()
    present = f"it has {', '.join(splits)}" if splits else "it has no splits"
    if split is not None:
        if not len(data.select(split)):
            raise DataError(f"{data.source} has no split {split!r}: {present}.")
        return split
    found = next((name for name in preferred if name in splits), None)
    if splits and found is None:
        raise DataError(f"{data.source} has no split {' or '.join(preferred)}: {present}; choose one.")
    return found


def _protocol(data: Dataset, split: str | None, difficult: Difficult) -> str:
    images = "all images" if split is None else f"split {split}"
    voc = f", difficult objects: {difficult}" if data.format == "voc" else ""
    return f"{images} of {data.source} ({data.format}{voc}); unknown targets and absent labels left out"
