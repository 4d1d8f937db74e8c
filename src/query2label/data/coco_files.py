"""Where COCO's annotation files lie, which split each is of, and where its images may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from query2label.data.annotation_files import split_name

_SPLITS: Final = frozenset({"train", "val", "test"})


@dataclass(frozen=True)
class AnnotationFile:
    """One JSON file."""

    path: Path
    name: str | None
    """What stands between `instances_` and `.json`, for example `train2017`."""
    split: str | None


def annotation_files(path: Path) -> list[AnnotationFile]:
    """The COCO files meant by `path`, with their splits; empty where there are none.

    In a folder those are `instances_*.json`, or files named like a split (`train.json`), in `annotations` or
    right in it, or `_annotations.coco.json` in a subfolder per split. Captions and other JSON files
    are not.
    """
    if path.is_file():
        found = [path]
    else:
        patterns = (
            "annotations/*.json",
            "annotations_*/annotations/*.json",  # unpacked into a folder called like the archive
            "*/_annotations.coco.json",
            "*.json",
        )
        groups = ([file for file in sorted(path.glob(pattern)) if _file_name(file)] for pattern in patterns)
        found = next((group for group in groups if group), [])
    return _with_splits([(file, _file_name(file)) for file in found])


def _with_splits(found: Iterable[tuple[Path, str | None]]) -> list[AnnotationFile]:
    files = [AnnotationFile(path, name, name and _split_of(name)) for path, name in found]
    if len({file.split for file in files}) == len(files):
        return files
    # Several years side by side: train2014 and train2017 stay apart.
    return [AnnotationFile(file.path, file.name, file.name) for file in files]


def of_years_with_images(
    files: Sequence[AnnotationFile], folder: Path
) -> tuple[list[AnnotationFile], list[str]]:
    """Of several years side by side, the files with a folder of images of their own; all if none has one.

    Returns:
        The files, with the years out of the names of their splits where one year is left; and a note on each
        file that is left out.
    """
    is_clash = len({file.name and _split_of(file.name) for file in files}) < len(files)
    own = {file.name for file in files if _has_own_folder(file, folder)}
    if not is_clash or not own:
        return list(files), []
    kept = _with_splits([(file.path, file.name) for file in files if file.name in own])
    return kept, [
        f"Left out, as it has no folder of images: {file.path.name} (looked for {file.name} in {folder})."
        for file in files
        if file.name not in own
    ]


def _has_own_folder(file: AnnotationFile, folder: Path) -> bool:
    return file.name is not None and any((folder / place / file.name).is_dir() for place in (".", "images"))


def files_without_labels(path: Path) -> list[str]:
    """A note on each `image_info_*.json` in a folder: test images, whose labels were never published."""
    if not path.is_dir():
        return []
    return [
        f"Left out, as it has no labels: {file.name}."
        for pattern in ("annotations/image_info_*.json", "image_info_*.json")
        for file in sorted(path.glob(pattern))
    ]


def _file_name(file: Path) -> str | None:
    """The part of the file's name that names its split and its folder of images; None where none does."""
    if file.name == "_annotations.coco.json":
        return file.parent.name
    name = file.stem.removeprefix("instances_")
    return name if name != file.stem or _split_of(name) in _SPLITS else None


def _split_of(name: str) -> str | None:
    """The split without its year; None for `default`, as tools call the file of data without splits."""
    return split_name(re.sub(r"[-_]?(19|20)\d\d$", "", name)) if name != "default" else None


def is_in_split(file: AnnotationFile, split: str) -> bool:
    """Whether a file is of a split; `trainval` is `train` and `val` together."""
    wanted = {"train", "val", "trainval"} if split == "trainval" else {split}
    return file.split in wanted


def data_folder(file: Path) -> Path:
    """The folder that a single file's images are looked for in."""
    parent = file.parent
    return parent.parent if parent.name == "annotations" else parent


def image_folders(file: AnnotationFile, folder: Path) -> list[str]:
    """Folders below the root that may hold a file's images, the likeliest first."""
    names = dict.fromkeys(name for name in (file.name, file.split) if name)
    nested = [f"{name}/{name}" for name in names]  # an archive that was unpacked into a folder called like it
    return [*names, *(f"images/{name}" for name in names), *nested, "images", "."]
