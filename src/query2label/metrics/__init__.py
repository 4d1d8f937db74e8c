"""Exact metrics of scores (n, K) against targets (n, K) in {1, 0, -1}; -1 is unknown and excluded everywhere.

Scores may be NumPy arrays or memory maps: work is done in blocks of bounded size. A label without a known
positive has no average precision and no recall: it is marked as undefined and left out of means, never
counted as 0.
"""

from query2label.metrics.calibration import CalibrationBins, calibration_error
from query2label.metrics.decisions import DecisionCounts, DecisionMetrics, count_decisions, decision_metrics
from query2label.metrics.ranking import (
    AveragePrecisionKind,
    LabelValues,
    RankedLabel,
    average_precision,
    label_columns,
    mean_average_precision,
    rank_label,
    ranked_labels,
    roc_auc,
)

__all__ = [
    "AveragePrecisionKind",
    "CalibrationBins",
    "DecisionCounts",
    "DecisionMetrics",
    "LabelValues",
    "RankedLabel",
    "average_precision",
    "calibration_error",
    "count_decisions",
    "decision_metrics",
    "label_columns",
    "mean_average_precision",
    "rank_label",
    "ranked_labels",
    "roc_auc",
]
