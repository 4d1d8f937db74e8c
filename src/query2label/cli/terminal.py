"""Text for a terminal: whatever a file or a label is called, it is shown, never obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` with control, format and invalid characters as escapes such as `\x1b`; line ends stay."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def printable_name(name: str) -> str:
    r"""`name` as `printable` has it, on one line: its own line ends are shown as `\n`."""
    return printable(name).replace("\n", r"\n")
