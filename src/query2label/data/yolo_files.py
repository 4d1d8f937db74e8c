"""Where the parts of a YOLO data set lie: the file that names the classes, the images, their label files."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from query2label.data.annotation_files import STANDARD_SPLITS, read_text, split_name
from query2label.data.file_starts import file_start
from query2label.data.image_root import ImageRoot, is_image_name, refuse_outside, walk_files
from query2label.data.samples import Problem
from query2label.data.yolo_config import Entry, YoloConfig, read_darknet, read_names, read_yaml
from query2label.data.yolo_lines import begins_with_object

_YAML_SUFFIXES: Final = (".yaml", ".yml")
_YAML_MARKS: Final = (re.compile(rb"(?m)^names\s*:"), re.compile(rb"(?m)^(train|val|path|nc)\s*:"))
_NAME_FILES: Final = ("classes.txt", "*.names", "labels.txt", "labels/classes.txt", "*/labels/classes.txt")
_NUM_PROBED: Final = 20


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image of a split, and what says so."""

    name: str
    places: tuple[str, ...]
    """Where it may be, below the root."""
    file: Path
    line: int | None = None


def looks_like_yaml(file: Path) -> bool:
    """Whether a file is a `.yaml` with the keys of a YOLO data set."""
    if file.suffix.lower() not in _YAML_SUFFIXES:
        return False
    start = file_start(file)
    return all(mark.search(start) for mark in _YAML_MARKS)


def looks_like_folder(folder: Path) -> bool:
    """Whether a folder has such a `.yaml`, or text files that begin with a box where label files would be."""
    config = find_config(folder)
    if config is not None and config.suffix not in {".txt", ".names"}:
        return True
    has_labels = (folder / "labels").is_dir() or any(part.is_dir() for part in folder.glob("*/labels"))
    is_coco = (folder / "annotations").is_dir()
    return (config is not None or (has_labels and not is_coco)) and _has_objects(folder)


def _has_objects(folder: Path) -> bool:
    files = (where / name for where, names in walk_files(folder) for name in names if name.endswith(".txt"))
    label_files = (file for file in files if not any(file.match(name) for name in _NAME_FILES))
    filled = (file for file in label_files if file_start(file).strip())
    return any(begins_with_object(file) for file in itertools.islice(filled, _NUM_PROBED))


def find_config(folder: Path) -> Path | None:
    """The file in a folder that names the classes; None where there is none."""
    parts = sorted(folder.iterdir())
    yamls = (part for part in parts if looks_like_yaml(part))
    darknets = (part for part in parts if part.suffix == ".data" and b"names" in file_start(part))
    lists = (file for name in _NAME_FILES for file in sorted(folder.glob(name)) if file.is_file())
    return next(itertools.chain(yamls, darknets, lists), None)


def read_config(file: Path) -> YoloConfig:
    """The contents of the file that names the classes, whichever it is."""
    if file.suffix.lower() in _YAML_SUFFIXES:
        return read_yaml(file)
    return read_darknet(file) if file.suffix == ".data" else read_names(file)


def label_places(name: str) -> list[str]:
    """Where the label file of an image may be: in `labels` for `images`, or beside the image."""
    text_name = str(PurePosixPath(name).with_suffix(".txt"))
    parts = text_name.split("/")
    places = [text_name]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        places.insert(0, "/".join([*parts[:last], "labels", *parts[last + 1 :]]))
    return places


def list_images(
    root: ImageRoot, config: YoloConfig, problems: list[Problem], notes: list[str]
) -> dict[str | None, list[ListedImage]]:
    """The images of each split, by the configuration, or, where it says nothing, by the names of folders."""
    listed: dict[str | None, list[ListedImage]] = {}
    first: dict[str, str] = {}
    if not config.entries:
        for image in _images_in(root, "", config.file):
            listed.setdefault(_split_of(image.name), []).append(image)
        return listed
    for entry in config.entries:
        place = _find_entry(root, config, entry)
        if place is not None and first.setdefault(place, entry.split) != entry.split:
            # Small published sets (coco128) are judged by the images that they are learned from.
            notes.append(f"Left out, as its images are those of {first[place]}: {entry.split}.")
        elif place is not None:
            images = listed.setdefault(entry.split, [])
            images += (_listed_in if place.endswith(".txt") else _images_in)(root, place, config.file)
        elif entry.split == "test":
            notes.append(f"Left out, as it is not there: test, {entry.value!r}.")
        else:
            message = f"{entry.split}: there is no {entry.value!r} in {root.folder}"
            problems.append(Problem(config.file, message, entry.line))
    return listed


def _split_of(name: str) -> str | None:
    """The split named by the first folder, or by the one below `images`."""
    folders = [part for part in name.split("/")[:-1] if part != "images"]
    split = split_name(folders[0]) if folders else None
    return split if split in STANDARD_SPLITS else None


def _find_entry(root: ImageRoot, config: YoloConfig, entry: Entry) -> str | None:
    for place in _places(root, config.folder, entry.value):
        is_there = root.has(place) if place.endswith(".txt") else (root.folder / place).is_dir()
        if is_there:
            refuse_outside(root.folder / place, root.folder)
            return place
    return None


def _places(root: ImageRoot, folder: str, value: str) -> list[str]:
    """What a path in a YOLO data set may mean below the root.

    Other machines have other folders above the data, and tools write `..` and `data/` before paths: the
    longest end that is there counts. Of a folder or image, its name alone is not enough.
    """
    value = value.replace("\\", "/")
    places: list[str] = []
    for path in (posixpath.join(folder.replace("\\", "/"), value), value):
        normal = posixpath.normpath(path)
        inside = posixpath.relpath(normal, root.folder.absolute()) if normal.startswith("/") else normal
        if inside == "." or not inside.startswith("."):
            places.append(inside)
        parts = [part for part in normal.split("/") if part not in {"", ".", ".."}]
        shortest = 1 if value.endswith(".txt") else min(2, len(parts))
        places += ["/".join(parts[first:]) for first in range(len(parts) - shortest + 1) if parts]
    return places


def _images_in(root: ImageRoot, place: str, file: Path) -> Iterator[ListedImage]:
    for where, names in walk_files(root.folder / place):
        folder = where.relative_to(root.folder)
        for name in filter(is_image_name, names):
            yield ListedImage((folder / name).as_posix(), (), file)


def _listed_in(root: ImageRoot, place: str, _file: Path) -> Iterator[ListedImage]:
    """The images that a text file lists, by paths relative to itself or to the root."""
    file = root.folder / place
    folder = posixpath.dirname(place)
    for line, text in enumerate(read_text(file).split("\n"), start=1):
        name = text.strip()
        if name:
            yield ListedImage(name, tuple(_places(root, folder, name)), file, line)
