"""`evaluate`: any model on any labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float32, Int8, Int64
from numpy import ndarray

from query2label.bundle import Bundle
from query2label.data.samples import Dataset
from query2label.evaluation.bootstrap import NUM_RESAMPLES
from query2label.evaluation.inputs import (
    Evaluable,
    resolve_data,
    resolve_model,
)
from query2label.evaluation.protocols import Protocol, protocol_images, resolve_protocol
from query2label.evaluation.report import Report, report_from_scores
from query2label.evaluation.scoring import Progress, score_images
from query2label.evaluation.sizes import object_sizes
from query2label.formats import DataFormatOrAuto, Difficult


def evaluate(
    model: Evaluable,
    data: Dataset | Path | str,
    *,
    bundle: Bundle | None = None,
    split: str | None = None,
    format: DataFormatOrAuto = "auto",  # noqa: A002 (the word people look for)
    image_root: Path | str | None = None,
    difficult: Difficult | None = None,
    protocol: str | None = None,
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
    images are left out and named in the report. A model without labels and preprocessing is a `ConfigError`;
    data with other labels than the model's, or without the split, are a `DataError`.

    Args:
        model: A bundle folder or hub id, a `Predictor`, a `Query2Label`, or any callable from
            normalized images (B, 3, H, W), float32, to logits (B, K).
        data: What `load_dataset` gives or reads; a path is read with the model's labels.
        bundle: Labels, preprocessing, thresholds and temperature of a model that does not bring its own.
        split: Only this split; unset: the protocol's, else `test`, else `val`, else all images where the data
            have no splits.
        format: Layout of the data at a path.
        image_root: Folder of the images, where they do not lie beside the labels at a path.
        difficult: What objects marked difficult (PASCAL VOC) at a path make of their label; unset: what the
            protocol says.
        protocol: A name of `evaluation.protocols.PROTOCOLS`: which average precision is the headline, with
            the confidence interval, and what difficult objects are. `plain`, `voc-allpoint` and `voc-11pt`
            take any images; the others (`coco14-all` ...) choose the images of a known data set, and
            refuse others, or one that cannot be read. All three average precisions are in the report
            anyway. Unset: `plain`.
        batch_size: Images that are computed at once.
        num_workers: Processes that decode images; 0 decodes in this one.
        top_k: Labels per image for the `top-k` rules.
        num_resamples: For the confidence interval of the mAP; 0 leaves it away.
        seed: Of the resampling.
        progress: Told (images done, images) after each batch.

    Returns:
        The report.
    """
    labelled = score_labelled(
        model,
        data,
        bundle=bundle,
        split=split,
        format=format,
        image_root=image_root,
        difficult=difficult,
        protocol=protocol,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )
    return report_on(labelled, top_k=top_k, num_resamples=num_resamples, seed=seed)


@dataclass(frozen=True)
class LabelledScores:
    """What a model says about labelled images, beside what is known about them."""

    bundle: Bundle
    """What the model is."""
    data: Dataset
    """The images that were asked for, those that could not be read among them."""
    indices: Int64[ndarray, " n"]
    """Which sample of `data` each row is."""
    scores: Float32[ndarray, "n K"]
    """Calibrated, in [0, 1]."""
    targets: Int8[ndarray, "n K"]
    """1, 0, or -1 where unknown."""
    protocol: Protocol
    images: str
    """Which images these are, in words."""
    broken: Mapping[str, str]
    """Path -> reason of the images that could not be read."""


def score_labelled(
    model: Evaluable,
    data: Dataset | Path | str,
    *,
    bundle: Bundle | None = None,
    split: str | None = None,
    format: DataFormatOrAuto = "auto",  # noqa: A002 (the word people look for)
    image_root: Path | str | None = None,
    difficult: Difficult | None = None,
    protocol: str | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    progress: Progress | None = None,
) -> LabelledScores:
    """The scores and targets that `evaluate` makes its report of; arguments and errors are its."""
    measured = resolve_protocol(protocol, difficult=difficult, split=split)
    image_set = measured.image_set
    scorer, bundle = resolve_model(model, bundle)
    part, images = resolve_data(
        data,
        bundle,
        split=split,
        preferred=image_set.splits if image_set else ("test", "val"),
        hint=f"the protocol {measured.name} is measured there" if image_set else "choose one",
        format=format,
        image_root=image_root,
        difficult=measured.difficult,
    )
    part = protocol_images(measured, part)
    scored = score_images(
        scorer,
        part,
        bundle.preprocess,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
        needs_all=f"The protocol {measured.name}" if image_set else None,
    )
    return LabelledScores(
        bundle=bundle,
        data=part,
        indices=scored.indices,
        scores=bundle.scores(scored.logits),
        targets=scored.targets,
        protocol=measured,
        images=images,
        broken=scored.broken,
    )


def report_on(
    labelled: LabelledScores, *, top_k: int = 3, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Report:
    """The report on scores of labelled images; the options are those of `evaluate`."""
    return report_from_scores(
        labelled.scores,
        labelled.targets,
        labels=labelled.bundle.labels,
        thresholds=labelled.bundle.thresholds,
        temperature=labelled.bundle.temperature,
        top_k=top_k,
        object_sizes=object_sizes(labelled.data, labelled.indices),
        num_resamples=num_resamples,
        seed=seed,
        protocol=labelled.protocol,
        images=labelled.images,
        broken_images=labelled.broken,
        notes=labelled.data.notes,
    )
