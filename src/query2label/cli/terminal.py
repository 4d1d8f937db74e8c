"""Text for a terminal: whatever a file or a label is called, it is shown, never obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` with control, format and invalid characters as escapes such as `\x1b`; line ends stay."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
