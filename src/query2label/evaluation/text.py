"""A report as tables for the terminal, the headline first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from query2label.evaluation.report import Report
from query2label.metrics import AveragePrecisionKind

NUM_NAMED: Final = 20
_AP_TITLES: Final[dict[AveragePrecisionKind, str]] = {
    "plain": "plain",
    "voc": "all-point",
    "voc11": "11-point",
}


def report_tables(report: Report, *, max_labels: int | None = None) -> Group:
    """The report for `rich`; numbers in percent.

    Args:
        report: What to show.
        max_labels: Longest table of labels: the ones with the lowest AP are shown; None shows all.
    """
    return Group(*_parts(report, max_labels))


def _parts(report: Report, max_labels: int | None) -> Iterator[RenderableType]:
    yield _headline(report)
    yield Text(f"{report.num_images} images: {shown(report.protocol)}", style="dim")
    yield _decisions(report)
    map_name = "mAP" if report.headline_ap == "plain" else "plain mAP"
    if report.by_size:
        yield _table(
            "Size of the label's largest object",
            ("size", "pairs", "labels", map_name),
            [(row.size, row.num_positives, row.num_labels, percent(row.map)) for row in report.by_size],
        )
    yield _table(
        "Labels in the image",
        ("labels", "images", map_name, "OF1", "predicted"),
        [
            (row.num_labels, row.num_images, percent(row.map), percent(row.of1), _number(row.predicted))
            for row in report.by_num_labels
        ],
    )
    yield _labels(report, max_labels)
    yield from _leftovers(report)


def _headline(report: Report) -> Text:
    others = ", ".join(
        f"{title} {percent(report.map_of(kind))}"
        for kind, title in _AP_TITLES.items()
        if kind != report.headline_ap
    )
    interval = report.map_interval
    spread = (
        f" ({interval.level:.0%} interval {percent(interval.low)} to {percent(interval.high)})"
        if interval
        else ""
    )
    at = report.decisions["thresholds"]
    text = Text(f"{_headline_name(report)} {percent(report.headline_map)}", style="bold")
    text.append(spread, style="not bold")
    text.append(f"   CF1 {percent(at.cf1)}   OF1 {percent(at.of1)}")
    text.append(
        f"\n{others}, AUC {percent(report.auc)}, calibration error {percent(report.calibration_error)} "
        f"(without temperature {report.temperature:.2f}: {percent(report.uncalibrated_error)})",
        style="not bold",
    )
    return text


def _headline_name(report: Report) -> str:
    return "mAP" if report.headline_ap == "plain" else f"mAP ({_AP_TITLES[report.headline_ap]})"


def _decisions(report: Report) -> Group:
    names = ("CP", "CR", "CF1", "OP", "OR", "OF1", "macro_f1", "sample_f1")
    rows = [
        (rule, *(percent(metrics.to_dict()[name]) for name in names))
        for rule, metrics in report.decisions.items()
    ]
    return _table("Decisions", ("rule", *(name.replace("_f1", " F1") for name in names)), rows)


def _labels(report: Report, max_labels: int | None) -> Group:
    rows = [(row, row.ap_of(report.headline_ap)) for row in report.per_label]
    title = "Labels"
    if max_labels is not None and len(rows) > max_labels:
        rows = sorted(rows, key=lambda row: 2.0 if row[1] is None else row[1])[:max_labels]
        title = f"The {max_labels} of {len(report.per_label)} labels with the lowest AP"
    return _table(
        title,
        ("label", "images", "AP", "AUC", "threshold", "best", "P", "R", "F1"),
        [
            (
                row.label,
                row.num_positives,
                percent(ap),
                percent(row.auc),
                _number(row.threshold),
                _number(row.best_threshold),
                percent(row.precision),
                percent(row.recall),
                percent(row.f1),
            )
            for row, ap in rows
        ],
    )


def _leftovers(report: Report) -> Iterator[Text]:
    for note in report.notes:
        yield Text(f"Note: {shown(note)}", style="dim")
    for warning in report.warnings:
        yield Text(f"Warning: {shown(warning)}", style="yellow")
    if report.absent_labels:
        yield Text(f"No image shows, and no mean counts: {_named(report.absent_labels)}", style="yellow")
    if report.broken_images:
        listed = [f"{path} ({reason})" for path, reason in report.broken_images.items()]
        yield Text(f"Could not be read, and is left out: {_named(listed)}", style="yellow")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Group:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
    for row in rows:
        table.add_row(*(Text(shown(str(cell))) for cell in row))
    return Group(Text(f"\n{title}", style="bold"), table)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(map(shown, names[:NUM_NAMED])) + more


def shown(text: str) -> str:
    """Control characters in names are shown, never obeyed by the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def percent(value: float | None) -> str:
    """A number in [0, 1] as it is shown: in percent, one decimal, `-` where it is not defined."""
    return "-" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def print_report(report: Report, console: Console, *, max_labels: int | None = None) -> None:
    """Prints the report to a console."""
    console.print(report_tables(report, max_labels=max_labels))
