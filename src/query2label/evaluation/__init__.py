"""From scores and targets to a report, and from validation scores to thresholds and a temperature.

`query2label.evaluation.evaluate.evaluate` runs a model over labelled images; the rest works on arrays.
"""

from query2label.evaluation.bootstrap import Interval, mean_ap_interval
from query2label.evaluation.calibration import fit_temperature
from query2label.evaluation.report import Report, report_from_scores
from query2label.evaluation.thresholds import ThresholdRule, fit_thresholds, parse_rule

__all__ = [
    "Interval",
    "Report",
    "ThresholdRule",
    "fit_temperature",
    "fit_thresholds",
    "mean_ap_interval",
    "parse_rule",
    "report_from_scores",
]
