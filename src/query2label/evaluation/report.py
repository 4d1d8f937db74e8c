"""What an evaluation finds, as numbers, files and text."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int8

from query2label.evaluation.bootstrap import NUM_RESAMPLES, Interval, mean_ap_interval
from query2label.evaluation.labelwise import crowd_of, crowd_rows, label_rows, rank_all, size_rows
from query2label.evaluation.protocols import PLAIN, Protocol
from query2label.evaluation.rows import CrowdRow, LabelRow, SizeRow
from query2label.metrics import (
    AveragePrecisionKind,
    DecisionMetrics,
    LabelValues,
    count_decisions,
    decision_metrics,
)
from query2label.metrics.arrays import Scores, Targets
from query2label.spreadsheet import inert_cell
from query2label.storage import atomic_file, write_json

REPORT_NAME: Final = "report.json"
LABELS_NAME: Final = "labels.csv"


@dataclass(frozen=True)
class Report:
    """Results in [0, 1] on labelled images; None where the data do not define a number."""

    protocol: str
    """How, and on which images, the numbers came about: belongs beside each of them; begins with the name of
    the protocol."""
    headline_ap: AveragePrecisionKind
    """Which of the three kinds of average precision the protocol makes the headline."""
    num_images: int
    map: float | None
    """Mean plain average precision (as scikit-learn, ASL and ML-Decoder)."""
    map_voc: float | None
    """Mean all-point interpolated average precision (as Query2Label's authors); a little higher."""
    map_voc11: float | None
    """Mean 11-point interpolated average precision (as PASCAL VOC 2007)."""
    map_interval: Interval | None
    """Of `headline_map`, over test images."""
    auc: float | None
    """Mean area under the ROC curve."""
    calibration_error: float | None
    """Expected calibration error of the scores, over all (image, label) decisions."""
    uncalibrated_error: float | None
    """The same with temperature 1."""
    temperature: float
    decisions: Mapping[str, DecisionMetrics]
    """By rule: `thresholds` (the model's), `0.5`, `top-3` (exactly so many labels per image) and `top-3 at
    0.5` (at most so many, as in papers)."""
    per_label: tuple[LabelRow, ...]
    by_size: tuple[SizeRow, ...]
    """By size of the label's largest object; empty for data without boxes."""
    by_num_labels: tuple[CrowdRow, ...]
    """By number of labels in the image."""
    absent_labels: tuple[str, ...]
    """Labels without a known positive: in no mean."""
    broken_images: Mapping[str, str] = field(default_factory=dict)
    """Path -> reason of the images that could not be read, and are in no number."""
    notes: tuple[str, ...] = ()
    """What was left out on purpose when the data were read, one sentence each."""
    warnings: tuple[str, ...] = ()
    """What makes the numbers less sure than they look, one sentence each: of a training run."""

    @property
    def headline_map(self) -> float | None:
        """The mean average precision that the protocol asks for."""
        return self.map_of(self.headline_ap)

    def map_of(self, kind: AveragePrecisionKind) -> float | None:
        """`map`, `map_voc` or `map_voc11`."""
        return {"plain": self.map, "voc": self.map_voc, "voc11": self.map_voc11}[kind]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold."""
        plain = asdict(self)
        plain["decisions"] = {rule: metrics.to_dict() for rule, metrics in self.decisions.items()}
        plain["broken_images"] = dict(self.broken_images)
        return plain

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def headline(self) -> dict[str, float | None]:
        """The few numbers that people compare."""
        at_thresholds = self.decisions["thresholds"]
        return {
            "mAP": self.map,
            "mAP_voc": self.map_voc,
            "CF1": at_thresholds.cf1,
            "OF1": at_thresholds.of1,
            "macro_f1": at_thresholds.macro_f1,
            "calibration_error": self.calibration_error,
        }

    def bundle_metrics(self) -> dict[str, Any]:
        """What a bundle keeps: the protocol, the headline, and per label what its card shows."""
        per_label = {
            row.label: {
                "positives": row.num_positives,
                "AP": row.ap,
                "precision": row.precision,
                "recall": row.recall,
            }
            for row in self.per_label
        }
        return {
            "protocol": self.protocol,
            "num_images": self.num_images,
            **self.headline(),
            "per_label": per_label,
        }

    def save(self, folder: Path | str) -> None:
        """Writes `report.json` and `labels.csv` into `folder`, each as a whole or not at all.

        A refused write and a full disk are each a `StorageError`.
        """
        write_json(Path(folder) / REPORT_NAME, self.to_dict())
        with atomic_file(Path(folder) / LABELS_NAME) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*(column.name for column in fields(LabelRow)), "protocol"])
            for row in self.per_label:
                values = asdict(row)
                values["label"] = inert_cell(row.label)
                cells = ("" if value is None else value for value in values.values())
                writer.writerow([*cells, inert_cell(self.protocol)])


def report_from_scores(
    scores: Scores,
    targets: Targets,
    *,
    labels: Sequence[str],
    thresholds: Sequence[float] | Float[np.ndarray, " K"],
    temperature: float = 1.0,
    top_k: int = 3,
    object_sizes: Int8[np.ndarray, "n K"] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    protocol: Protocol = PLAIN,
    images: str = "the given images",
    broken_images: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> Report:
    """Everything that can be said about scores when the targets are known.

    Args:
        scores: In [0, 1], made with `temperature`; NaN is a `ValueError`. May be a memory map.
        targets: 1, 0, or below 0 where unknown.
        labels: One name per column.
        thresholds: One per label.
        temperature: Only to measure the calibration error without it.
        top_k: Labels per image for the rules `top-k`.
        object_sizes: As `sizes.object_sizes` gives it; None without boxes.
        num_resamples: For the confidence interval of the mAP; 0 leaves it away.
        seed: Of the resampling.
        protocol: Which average precision is the headline; kept beside the numbers.
        images: Which images these are, in words; kept beside the numbers.
        broken_images: Path -> reason of images that are missing from `scores`.
        notes: What was left out when the data were read; kept beside the numbers.
        warnings: What makes the numbers less sure than they look; kept beside them.

    Returns:
        The report.

    Raises:
        ValueError: If there is not one label and one threshold per column.
    """
    limits = np.asarray(thresholds, dtype=np.float64)
    if not scores.shape[1] == len(labels) == len(limits):
        raise ValueError(
            f"There are {len(labels)} labels and {len(limits)} thresholds for {scores.shape[1]} columns "
            "of scores."
        )
    counts = count_decisions(scores, targets, thresholds=limits)
    rules: dict[str, dict[str, Any]] = {
        "0.5": {"thresholds": 0.5},
        f"top-{top_k}": {"top_k": top_k},
        f"top-{top_k} at 0.5": {"top_k": top_k, "thresholds": 0.5},
    }
    decisions = {"thresholds": decision_metrics(counts)} | {
        name: decision_metrics(count_decisions(scores, targets, **rule)) for name, rule in rules.items()
    }
    ranking = rank_all(
        scores, targets, temperature=temperature, crowd=crowd_of(counts), object_sizes=object_sizes
    )
    per_label = label_rows(labels, ranking, counts, limits, num_images=len(scores))
    interval = mean_ap_interval(scores, targets, kind=protocol.ap, num_resamples=num_resamples, seed=seed)
    return Report(
        protocol=protocol.text(images),
        headline_ap=protocol.ap,
        num_images=len(scores),
        map=_mean([row.ap for row in per_label]),
        map_voc=_mean([row.ap_voc for row in per_label]),
        map_voc11=_mean([row.ap_voc11 for row in per_label]),
        map_interval=interval,
        auc=_mean([row.auc for row in per_label]),
        calibration_error=ranking.calibration_error,
        uncalibrated_error=ranking.uncalibrated_error,
        temperature=temperature,
        decisions=decisions,
        per_label=per_label,
        by_size=size_rows(ranking),
        by_num_labels=crowd_rows(ranking, counts),
        absent_labels=tuple(row.label for row in per_label if row.num_positives == 0),
        broken_images=dict(broken_images or {}),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    return LabelValues.from_list(values).mean()
