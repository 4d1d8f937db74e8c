"""A report in the layout of the papers' tables: one line of results, and the APs of a few labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from query2label.evaluation.paper_styles import Columns, Grid, latex, markdown, plain_text
from query2label.evaluation.report import Report
from query2label.evaluation.rows import LabelRow
from query2label.evaluation.text import percent
from query2label.metrics import DecisionMetrics

Style = Literal["text", "markdown", "latex"]

MAX_LABELS: Final = 20
"""More labels get no table of their APs: papers print none for them."""
VOC_COLUMNS: Final = {
    "aeroplane": "aero",
    "bicycle": "bike",
    "bird": "bird",
    "boat": "boat",
    "bottle": "bottle",
    "bus": "bus",
    "car": "car",
    "cat": "cat",
    "chair": "chair",
    "cow": "cow",
    "diningtable": "table",
    "dog": "dog",
    "horse": "horse",
    "motorbike": "mbike",
    "person": "person",
    "pottedplant": "plant",
    "sheep": "sheep",
    "sofa": "sofa",
    "train": "train",
    "tvmonitor": "tv",
}
"""VOC's labels in the order of the papers' tables, and what they are called there."""
_DECISIONS: Final = ("CP", "CR", "CF1", "OP", "OR", "OF1")
_RENDER: Final = {"text": plain_text, "markdown": markdown, "latex": latex}


@dataclass(frozen=True)
class Method:
    """What a line of the tables is about."""

    name: str
    backbone: str
    image_size: tuple[int, int]
    """(height, width) in pixels."""

    def cells(self) -> tuple[str, ...]:
        """What stands left of the numbers."""
        height, width = self.image_size
        return self.name, self.backbone, f"{height}x{width}"


def paper_table(report: Report, method: Method, *, style: Style = "text") -> str:
    """The report as the papers print theirs, in percent with one decimal.

    The first table has mAP (the protocol's), then CP, CR, CF1, OP, OR and OF1 of all scores of at least 0.5,
    and of the best three labels of each image among them. 0.5 is the papers' rule, whatever thresholds the
    model has; dividing logits by a temperature does not move a score across it. The second table has the AP
    of each label, where there are at most 20; PASCAL VOC's stand in its order, by the papers' names.

    Args:
        report: What was found.
        method: What the line is called.
        style: Plain text, Markdown, or LaTeX that needs no package.

    Returns:
        The tables, with the protocol beside each.
    """
    grids = [_results(report, method)]
    if len(report.per_label) <= MAX_LABELS:
        grids.append(_label_aps(report, method))
    return "\n\n".join(_RENDER[style](grid) for grid in grids)


def _results(report: Report, method: Method) -> Grid:
    best = next(rule for rule in report.decisions if rule.startswith("top-") and rule.endswith(" at 0.5"))
    best_name = best.removesuffix(" at 0.5").capitalize()
    top_k = best_name.removeprefix("Top-")
    return Grid(
        columns=(
            Columns("", ("method", "backbone", "resolution"), is_text=True),
            Columns("", ("mAP",)),
            Columns("All", _DECISIONS),
            Columns(best_name, _DECISIONS),
        ),
        cells=(
            *method.cells(),
            percent(report.headline_map),
            *_decided(report.decisions["0.5"]),
            *_decided(report.decisions[best]),
        ),
        note=f"All: labels scored at least 0.5; {best_name}: the {top_k} best of these in each image. "
        f"Protocol: {report.protocol}.",
    )


def _label_aps(report: Report, method: Method) -> Grid:
    rows = _in_paper_order(report.per_label)
    return Grid(
        columns=(
            Columns("", ("method",), is_text=True),
            Columns("", tuple(name for name, _ in rows)),
            Columns("", ("mAP",)),
        ),
        cells=(
            method.name,
            *(percent(row.ap_of(report.headline_ap)) for _, row in rows),
            percent(report.headline_map),
        ),
        note=f"AP of each label. Protocol: {report.protocol}.",
    )


def _in_paper_order(rows: tuple[LabelRow, ...]) -> list[tuple[str, LabelRow]]:
    """Column name and row; VOC's labels (or some of them) as the papers have them, others as they are."""
    named = {row.label: row for row in rows}
    if named.keys() <= VOC_COLUMNS.keys():
        return [(short, named[label]) for label, short in VOC_COLUMNS.items() if label in named]
    return list(named.items())


def _decided(metrics: DecisionMetrics) -> list[str]:
    values = metrics.to_dict()
    return [percent(values[name]) for name in _DECISIONS]
