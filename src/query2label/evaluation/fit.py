"""Fits what a bundle says about scores: temperature and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from query2label.bundle import Bundle, scores_from_logits
from query2label.data.samples import Dataset
from query2label.evaluation.calibration import fit_temperature
from query2label.evaluation.inputs import (
    Evaluable,
    resolve_data,
    resolve_model,
)
from query2label.evaluation.report import report_from_scores
from query2label.evaluation.scoring import Progress, score_images
from query2label.evaluation.thresholds import ThresholdRule, fit_thresholds
from query2label.formats import DataFormatOrAuto, Difficult

FITTED_HERE: Final = ", on which temperature and thresholds were fitted"
"""What follows the images in a protocol, where both are of these images."""
_THRESHOLD_METRICS: Final = ("CF1", "OF1", "macro_f1", "precision", "recall")


def fit_bundle(
    model: Evaluable,
    data: Dataset | Path | str,
    *,
    split: str | None = None,
    rule: str | ThresholdRule = "f1",
    format: DataFormatOrAuto = "auto",  # noqa: A002 (the word people look for)
    image_root: Path | str | None = None,
    difficult: Difficult = "ignore",
    batch_size: int = 32,
    num_workers: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The changes to a model's bundle that fit it to labelled images, for `edit_bundle`.

    First the temperature, then the thresholds of the calibrated scores; the metrics are measured with both.
    Take images that the model was not trained on.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.
        split: Only this split; unset: `val`, else `test`, else all images where the data have no splits.
        rule: `f1`, `precision=P` or `recall=R`.
        format: Layout of the data at a path.
        image_root: Folder of the images, where they do not lie beside the labels at a path.
        difficult: What objects marked difficult (PASCAL VOC) at a path make of their label.
        batch_size: Images that are computed at once.
        num_workers: Processes that decode images; 0 decodes in this one.
        progress: Told (images done, images) after each batch.

    Returns:
        Temperature, thresholds, threshold_rule and metrics.
    """
    scorer, bundle = resolve_model(model)
    part, images = resolve_data(
        data,
        bundle,
        split=split,
        preferred=("val", "test"),
        format=format,
        image_root=image_root,
        difficult=difficult,
    )
    scored = score_images(
        scorer, part, bundle.preprocess, batch_size=batch_size, num_workers=num_workers, progress=progress
    )
    temperature = fit_temperature(scored.logits, scored.targets)
    scores = scores_from_logits(scored.logits, temperature)
    thresholds = fit_thresholds(scores, scored.targets, rule=rule)
    report = report_from_scores(
        scores,
        scored.targets,
        labels=bundle.labels,
        thresholds=thresholds,
        temperature=temperature,
        num_resamples=0,
        images=f"{images}{FITTED_HERE}",
    )
    return {
        "temperature": temperature,
        "thresholds": tuple(thresholds.tolist()),
        "threshold_rule": f"{rule} on {report.num_images} images",
        "metrics": report.bundle_metrics(),
    }


def fixed_threshold(bundle: Bundle, threshold: float) -> dict[str, Any]:
    """The changes to `bundle` that give all labels one threshold; metrics that depended on the old go."""
    metrics = _without_thresholds(bundle.metrics)
    if isinstance(protocol := metrics.get("protocol"), str):
        metrics["protocol"] = protocol.replace(FITTED_HERE, ", on which the temperature was fitted")
    return {
        "thresholds": (threshold,) * len(bundle.labels),
        "threshold_rule": f"fixed {threshold:g}",
        "metrics": metrics,
    }


def _without_thresholds(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics, also those of each label, that do not depend on thresholds."""
    return {
        name: _without_thresholds(value) if isinstance(value, Mapping) else value
        for name, value in metrics.items()
        if name not in _THRESHOLD_METRICS
    }
