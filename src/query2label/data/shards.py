"""Data sets in several archive files: where the files lie, and which split each is of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, Never

from query2label.data.annotation_files import STANDARD_SPLITS, split_name
from query2label.data.samples import Problem, ProblemError

OF_HOW_MANY: Final = re.compile(r"(.+)-\d{5}-of-\d{5}")
"""The name of one of several files, with its number and how many there are."""


def files_called(
    folder: Path, suffixes: Collection[str], *, also_in: Collection[str] = (), depth: int = 1
) -> Iterator[Path]:
    """Files right in a folder and in subfolders named like a split, in order of their names.

    Hidden ones are left out.

    Args:
        folder: Where to look.
        suffixes: Lower-case endings of the names.
        also_in: Names of other subfolders to look in.
        depth: How many levels of subfolders.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    yield from (
        entry for entry in entries if entry.name.lower().endswith(tuple(suffixes)) and entry.is_file()
    )
    for entry in entries:
        meant = entry.name in also_in or split_name(entry.name) in STANDARD_SPLITS
        if depth and meant and entry.is_dir() and not entry.is_symlink():
            yield from files_called(entry, suffixes, also_in=also_in, depth=depth - 1)


def refuse_empty(path: Path, what: str, problems: Sequence[Problem]) -> Never:
    """Says that no `what` of the data at `path` can be used, and the first reason.

    Raises:
        ProblemError: In any case.
    """
    if not problems:
        raise ProblemError(path, f"has no {what} in it")
    first = problems[0]
    if first.path == path:
        raise ProblemError(path, first.message, first.line)
    raise ProblemError(path, f"has no {what} that can be used; the first problem is: {first}")


def split_of_shard(relative: Path) -> str | None:
    """The split that a shard is of, by its folders and its name; None where they name none.

    In `x-00000-of-00005` it is `x`, whatever that is. Otherwise it is the first of the usual names (`train`,
    `valid`, ...) that is a folder, or a part of the file's name between `-`, `_`, `.` and numbers.
    """
    numbered = OF_HOW_MANY.match(relative.name)
    if numbered:
        return split_name(numbered[1])
    parts = [*relative.parts[:-1], *re.split(r"[-_.\s\d]", relative.name)]
    return next((name for name in map(split_name, parts) if name in STANDARD_SPLITS), None)
