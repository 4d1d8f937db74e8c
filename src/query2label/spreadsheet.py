"""CSV files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Final

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def inert_cell(text: str) -> str:
    """`text` so that a spreadsheet shows it instead of computing it: with an apostrophe before a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def original_cell(text: str) -> str:
    """What `inert_cell` was given: without the apostrophe before a formula."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA_STARTS) else text
