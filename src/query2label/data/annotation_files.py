"""Reading the text, JSON and XML files that annotations come in, with bounds: they are not ours to trust."""

from __future__ import annotations

import json
import mmap
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from query2label.data.samples import ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MAX_TEXT_BYTES: Final = 2 * 2**30
MAX_XML_BYTES: Final = 4 * 2**20
MAX_LABEL_LENGTH: Final = 500
_SPLIT_SYNONYMS: Final = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}
STANDARD_SPLITS: Final = frozenset({"train", "val", "trainval", "test"})


def read_text(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The UTF-8 text of a file without its byte order mark.

    Raises:
        ProblemError: If the file is missing, not UTF-8, or holds NUL characters.
    """
    try:
        if check_size(path, max_bytes) == 0:
            return ""
        # Decoding from a mapping keeps one copy of a large file in memory, not two.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            text = str(content, "utf-8-sig")
    except UnicodeDecodeError as error:
        # UnicodeDecodeError keeps the offset after the byte order mark, which holds no line break.
        with path.open("rb") as file:
            line = file.read(error.start).count(b"\n") + 1
        raise ProblemError(path, "is not UTF-8 text: save it with the encoding UTF-8", line) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ProblemError(path, f"cannot be read: {reason}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ProblemError(path, "holds a NUL character: this is no text file", line)
    return text


def check_size(path: Path, max_bytes: int) -> int:
    """The size of a file in bytes.

    Raises:
        ProblemError: If it is larger than what is read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise ProblemError(path, f"has {size:,} bytes, more than the {max_bytes:,} that are read")
    return size


def parse_json(text: str, *, object_hook: Callable[[dict[str, Any]], object] | None = None) -> Any:
    """The value of JSON text; what is wrong with it is said without naming a file.

    Raises:
        DataError: If it is not JSON, is nested too deeply, or has a number beyond all bounds.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON: {error.msg} (column {error.colno})") from error
    except RecursionError:
        raise DataError("is not read: its JSON is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"is not valid JSON: {error}") from error


def read_json(path: Path, *, object_hook: Callable[[dict[str, Any]], object] | None = None) -> Any:
    """The value of a JSON file; `object_hook` may drop members of objects as they are read.

    Raises:
        ProblemError: If it cannot be read, is not JSON, or is nested too deeply.
    """
    try:
        return parse_json(read_text(path), object_hook=object_hook)
    except ProblemError:
        raise
    except DataError as error:
        cause = error.__cause__
        line = cause.lineno if isinstance(cause, json.JSONDecodeError) else None
        raise ProblemError(path, str(error), line) from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file that declares no document type and no entities.

    Raises:
        ProblemError: If it cannot be read, is larger than 4 MiB, declares a type or entity, or is not XML.
    """
    text = read_text(path, max_bytes=MAX_XML_BYTES)
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ProblemError(path, "declares a document type or entities, which are refused: remove them")
    try:
        return ElementTree.fromstring(text)  # noqa: S314 (no document type, no entities, bounded size)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else None
        raise ProblemError(path, f"is not valid XML: {error}", line) from error


def check_label_name(name: str) -> None:
    """Refuses names that could not be shown or written in a line.

    Raises:
        DataError: If the name is empty, has outer white space or control characters, or is too long.
    """
    if not name or name != name.strip():
        raise DataError(f"label name {name!r} is empty or has outer white space")
    if len(name) > MAX_LABEL_LENGTH:
        raise DataError(f"label name {name[:40]!r}... has more than {MAX_LABEL_LENGTH} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise DataError(f"label name {name!r} has control characters")


def read_label_names(path: Path) -> LabelSet:
    """The labels of a text file with one name per line, in this order; empty lines are skipped.

    Raises:
        ProblemError: If it cannot be read, or a name is unfit or occurs twice.
    """
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name = line.strip()
        if not name:
            continue
        try:
            check_label_name(name)
        except DataError as error:
            raise ProblemError(path, str(error), number) from error
        if name in lines:
            raise ProblemError(path, f"label {name!r} stands already in line {lines[name]}", number)
        lines[name] = number
    if not lines:
        raise ProblemError(path, "names no label: write one per line")
    return LabelSet(lines)


def split_name(text: str) -> str:
    """The name of a split: `valid`, `validation` and `dev` are `val`, `training` is `train`, and so on."""
    name = text.strip()
    lower = name.lower()
    return lower if lower in STANDARD_SPLITS else _SPLIT_SYNONYMS.get(lower, name)
