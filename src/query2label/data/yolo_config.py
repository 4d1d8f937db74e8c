"""What a YOLO data set says about itself: `data.yaml`, Darknet's `obj.data`, or a list of class names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from query2label.data.annotation_files import STANDARD_SPLITS, check_label_name, read_text, split_name
from query2label.data.samples import ProblemError
from query2label.errors import DataError

_MAX_BYTES: Final = 2**20
_NULLS: Final = frozenset({"", "~", "null", "None"})


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the images of a split are: a folder, or a text file with a path per line."""

    split: str
    value: str
    line: int


@dataclass
class YoloConfig:
    """The names of the classes, and where the images are, if that is said."""

    file: Path
    names: dict[int, str] = field(default_factory=dict)
    """Class number -> label, in ascending order of the numbers."""
    folder: str = ""
    """What the entries are relative to."""
    entries: list[Entry] = field(default_factory=list)
    num_keypoint_values: int | None = None
    """How many numbers an object's key points are, in a data set of poses."""


def read_yaml(file: Path) -> YoloConfig:
    """The contents of a `data.yaml`; keys that say nothing about labels and images are not looked at.

    No YAML type is built from the file: its text is parsed, and all values are taken as text.

    Raises:
        ProblemError: If it cannot be read, is not YAML, or has no names or unfit ones.
    """
    text = read_text(file, max_bytes=_MAX_BYTES)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        raise ProblemError(file, f"is not valid YAML: {reason}", mark.line + 1 if mark else None) from error
    except RecursionError:
        raise ProblemError(file, "is not read: its YAML is nested too deeply") from None
    members = dict(_members(root))
    config = YoloConfig(file, folder=_text(members.get("path")))
    for key, node in members.items():
        split = split_name(key)
        if split in STANDARD_SPLITS:
            parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
            for part in parts:
                if _text(part) not in _NULLS:
                    config.entries.append(Entry(split, _text(part), _line(part)))
    names = members.get("names")
    if names is None:
        raise ProblemError(file, "has no names: expected names: [...] or names: {0: ..., 1: ...}")
    _read_names(config, names)
    count = _text(members.get("nc"))
    if count and count != str(len(config.names)):
        raise ProblemError(file, f"has nc {count}, but {len(config.names)} names", _line(members["nc"]))
    shape = members.get("kpt_shape")
    if shape is not None:
        config.num_keypoint_values = _num_keypoint_values(file, shape)
    return config


def _members(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield _text(key), value


def _text(node: yaml.Node | None) -> str:
    return str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _read_names(config: YoloConfig, names: yaml.Node) -> None:
    if isinstance(names, yaml.SequenceNode):
        numbered = [(str(number), node) for number, node in enumerate(names.value)]
    else:
        numbered = list(_members(names))
    for number, node in numbered:
        if not number.isdecimal():
            raise ProblemError(config.file, f"class number {number!r} is no whole number", _line(node))
        _add_name(config, int(number), _text(node), _line(node))
    if not config.names:
        raise ProblemError(config.file, "has no names: expected [...] or {0: ..., 1: ...}", _line(names))
    config.names = dict(sorted(config.names.items()))


def _add_name(config: YoloConfig, number: int, name: str, line: int) -> None:
    try:
        check_label_name(name)
    except DataError as error:
        raise ProblemError(config.file, f"class {number}: {error}", line) from error
    if number in config.names or name in config.names.values():
        raise ProblemError(config.file, f"class {number}, {name!r}: its number or name stands already", line)
    config.names[number] = name


def _num_keypoint_values(file: Path, shape: yaml.Node) -> int:
    sizes = [_text(part) for part in shape.value] if isinstance(shape, yaml.SequenceNode) else []
    if len(sizes) != 2 or not all(size.isdecimal() and len(size) < 4 for size in sizes):
        raise ProblemError(file, "kpt_shape is not [number of points, 2 or 3]", _line(shape))
    return int(sizes[0]) * int(sizes[1])


def read_names(file: Path) -> YoloConfig:
    """The classes of a text file with a name per line, the first being class 0.

    A file with an empty line amid the names, an unfit name or one twice is refused with a `ProblemError`.
    """
    config = YoloConfig(file)
    lines = read_text(file, max_bytes=_MAX_BYTES).rstrip().split("\n")
    for number, line in enumerate(lines):
        _add_name(config, number, line.strip(), number + 1)
    return config


def read_darknet(file: Path) -> YoloConfig:
    """The contents of a Darknet `.data` file: `names`, `train` and `valid` are text files.

    Raises:
        ProblemError: If it cannot be read, or names no file of names that is beside it.
    """
    entries: list[Entry] = []
    names = None
    for line, text in enumerate(read_text(file, max_bytes=_MAX_BYTES).split("\n"), start=1):
        key, _, value = (part.strip() for part in text.partition("="))
        if key == "names":
            names = file.with_name(value.replace("\\", "/").rpartition("/")[2])
        elif split_name(key) in STANDARD_SPLITS and value:
            entries.append(Entry(split_name(key), value, line))
    if names is None or not names.is_file():
        raise ProblemError(file, "has no line 'names = FILE' with a file beside it")
    config = read_names(names)
    return YoloConfig(file, config.names, entries=entries)
