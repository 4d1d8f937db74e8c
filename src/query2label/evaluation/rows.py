"""The rows of a report: results per label, per object size, and per number of labels in the image."""

from __future__ import annotations

from dataclasses import dataclass

from query2label.metrics import AveragePrecisionKind


@dataclass(frozen=True, slots=True)
class LabelRow:
    """Results of one label; None where the data do not define them."""

    label: str
    num_positives: int
    num_negatives: int
    num_unknown: int
    ap: float | None
    """Plain average precision."""
    ap_voc: float | None
    """All-point interpolated average precision."""
    ap_voc11: float | None
    """11-point interpolated average precision."""
    auc: float | None
    threshold: float
    """The one that was used for precision, recall and F1."""
    precision: float | None
    recall: float | None
    f1: float | None
    best_threshold: float | None
    """The one that would have given the highest F1 on these images."""
    best_f1: float | None

    def ap_of(self, kind: AveragePrecisionKind) -> float | None:
        """`ap`, `ap_voc` or `ap_voc11`."""
        return {"plain": self.ap, "voc": self.ap_voc, "voc11": self.ap_voc11}[kind]


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Results for labels that show at one size."""

    size: str
    """small, medium or large."""
    num_positives: int
    """(image, label) pairs whose largest box has this size."""
    num_labels: int
    """Labels with such a pair; the mean is over them."""
    map: float | None
    """Plain mean AP of these positives against all images known not to show the label; images that show
    it at another size are left out."""


@dataclass(frozen=True, slots=True)
class CrowdRow:
    """Results on the images with a certain number of labels."""

    num_labels: str
    """Known positive labels in the image, such as `2` or `5+`."""
    num_images: int
    map: float | None
    """Plain mean AP among these images, over labels that they show."""
    of1: float | None
    """Overall (micro) F1 on these images at the model's thresholds."""
    predicted: float | None
    """Mean number of predicted labels in these images."""
