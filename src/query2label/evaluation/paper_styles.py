"""One-line tables as plain text, Markdown and LaTeX; whatever a label is called, it is shown as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from query2label.bundle.card import markdown_text
from query2label.evaluation.text import shown

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{char: f"\\{char}" for char in "{}$&#%_"},
}


@dataclass(frozen=True)
class Columns:
    """Neighbouring columns under one heading."""

    heading: str
    """What they share; empty for nothing."""
    names: tuple[str, ...]
    is_text: bool = False
    """Whether their cells are words, not numbers."""


@dataclass(frozen=True)
class Grid:
    """A table with one line of cells."""

    columns: tuple[Columns, ...]
    cells: tuple[str, ...]
    note: str
    """What belongs beside the numbers."""

    def names(self) -> list[str]:
        """The names of all columns."""
        return [name for group in self.columns for name in group.names]

    def are_text(self) -> list[bool]:
        """Whether each column's cells are words."""
        return [group.is_text for group in self.columns for _ in group.names]


def plain_text(grid: Grid) -> str:
    """Aligned columns, for a terminal."""
    names, cells = map(shown, grid.names()), map(shown, grid.cells)
    widths, lines = [], ["", ""]
    for name, cell, is_text in zip(names, cells, grid.are_text(), strict=True):
        width = max(len(name), len(cell))
        widths.append(width)
        for number, word in enumerate((name, cell)):
            lines[number] += (word.ljust(width) if is_text else word.rjust(width)) + "  "
    parts = [_headings(grid, widths), *(line.rstrip() for line in lines), shown(grid.note)]
    return "\n".join(part for part in parts if part)


def _headings(grid: Grid, widths: Sequence[int]) -> str:
    line, rest = "", list(widths)
    for group in grid.columns:
        width = sum(rest[: len(group.names)]) + 2 * (len(group.names) - 1)
        del rest[: len(group.names)]
        line += (f" {group.heading} ".center(width, "-") if group.heading else " " * width) + "  "
    return line.rstrip()


def markdown(grid: Grid) -> str:
    """A table of GitHub's Markdown; headings stand before the names of their columns."""
    names = [f"{group.heading} {name}".strip() for group in grid.columns for name in group.names]
    are_text = grid.are_text()
    rules = [":--" if is_text else "--:" for is_text in are_text]
    cells = [
        markdown_text(cell) if is_text else cell for cell, is_text in zip(grid.cells, are_text, strict=True)
    ]
    rows = (map(markdown_text, names), rules, cells)
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", markdown_text(grid.note)])


def latex(grid: Grid) -> str:
    """A `table*` that needs no package, with the note as its caption."""
    form = "|".join(("l" if group.is_text else "c") * len(group.names) for group in grid.columns)
    headings = []
    if any(group.heading for group in grid.columns):
        last = len(grid.columns) - 1
        spans = (
            rf"\multicolumn{{{len(group.names)}}}{{{'c' if number == last else 'c|'}}}"
            f"{{{_latex(group.heading)}}}"
            for number, group in enumerate(grid.columns)
        )
        headings.append(" & ".join(spans) + r" \\")
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_latex(grid.note)}}}",
        rf"\begin{{tabular}}{{{form}}}",
        r"\hline",
        *headings,
        " & ".join(map(_latex, grid.names())) + r" \\",
        r"\hline",
        " & ".join(map(_latex, grid.cells)) + r" \\",
        r"\hline",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in shown(text))
