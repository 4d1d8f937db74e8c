"""Datumaro JSON: `annotations/<subset>.json`, with the images in `images/<subset>` or `images`.

A label is in an image if any annotation of the item has it. The labels and their order are those of
`categories`, the same in all files. Boxes are kept: those of boxes, polygons and ellipses. Attributes, and
groups and parents of labels, are not read; items that are no images are left out and noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from query2label.data.annotation_files import check_label_name, read_json, split_name
from query2label.data.extents import Extent, box_extent, ellipse_extent, number, numbers, outline_extent
from query2label.data.file_starts import file_start
from query2label.data.image_root import IMAGE_SUFFIXES, ImageRoot, is_image_name, refuse_outside
from query2label.data.named_images import NamedImage, as_samples, find_image, subset_places
from query2label.data.samples import Dataset, Problem, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

# COCO's categories are a list.
_MARK: Final = re.compile(rb'"dm_format_version"\s*:|"categories"\s*:\s*\{')


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads one annotation file, or the folder around `annotations`.

    Args:
        path: A JSON file, or a folder with `annotations/*.json`.
        labels: The label set and its order. A label outside of it that is used is a problem; a label of it
            that is no category is unknown everywhere.
        image_root: Folder that holds the images, perhaps in `images`; the folder around `annotations` where
            left out.
        check_files: Whether a missing image file is a problem.

    Returns:
        The images by subset, in the order of the files.

    Raises:
        DataError: If the folder has no annotation file.
        ProblemError: If two files have different labels.
    """
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise DataError(f"{path} has no Datumaro files: expected annotations/*.json in it.")
    folder = files[0].parent.parent if files[0].parent.name == "annotations" else files[0].parent
    items = _Items(ImageRoot(image_root or folder, check_files=check_files))
    for file in files:
        if path.is_dir():
            refuse_outside(file, path)
        contents, names = _contents(file)
        if items.names not in ([], names):
            raise ProblemError(file, f"has other labels than {files[0]}")
        items.names = names
        items.add(file, contents)
    label_set = labels or LabelSet(items.names)
    samples = as_samples(items.images.values(), label_set, items.problems, annotated=items.names)
    num_left_out = items.num_without_image
    notes = [f"Items without an image, left out: {num_left_out}."] if num_left_out else []
    return Dataset(label_set, samples, path, "datumaro", items.problems, notes)


def looks_like(path: Path) -> bool:
    """Whether `path` is a JSON file that begins as Datumaro's do, or has one in `annotations`."""
    return _is_datumaro(path) if path.is_file() else bool(_files(path))


def _is_datumaro(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    start = file_start(file)
    return start.lstrip().startswith(b"{") and _MARK.search(start) is not None


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("annotations/*.json")) if _is_datumaro(file)]


def _contents(file: Path) -> tuple[list[Any], list[str]]:  # items, labels
    value = read_json(file, object_hook=_without_masks)
    items = _member(value, "items")
    categories = _member(_member(_member(value, "categories"), "label"), "labels")
    if not isinstance(items, list) or not isinstance(categories, list) or not categories:
        raise ProblemError(file, "is not a Datumaro file: it needs lists items and categories.label.labels")
    names: list[str] = []
    for place, category in enumerate(categories):
        name = _member(category, "name")
        try:
            if not isinstance(name, str):
                _refuse("it has no name")
            check_label_name(name)
            if name in names:
                _refuse(f"{name!r} is label {names.index(name)} already")
        except DataError as error:
            raise ProblemError(file, f"label {place}: {error}") from error
        names.append(name)
    return items, names


def _without_masks(value: dict[str, Any]) -> dict[str, Any]:
    # Masks are most of such a file: dropping the runs of each as it is read keeps the memory at a fraction.
    if "counts" in value:
        value["counts"] = None
    return value


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _where(item: Any, place: int) -> str:
    name = _member(item, "id")
    return f"item {name!r}: " if isinstance(name, str | int) else f"item {place} of the list: "


def _refuse(reason: str) -> NoReturn:
    raise DataError(reason)


class _Items:
    """The items of all files as images."""

    def __init__(self, root: ImageRoot) -> None:
        self.names: list[str] = []
        """The labels, by `label_id`."""
        self.images: dict[Path, NamedImage] = {}
        self.problems: list[Problem] = []
        self.num_without_image = 0
        self._root = root

    def add(self, file: Path, items: list[Any]) -> None:
        subset = file.stem
        split = None if subset == "default" else split_name(subset)
        for place, item in enumerate(items):
            where = _where(item, place)
            try:
                if _has_other_media(item):
                    self.num_without_image += 1
                    continue
                path = self._path(item, subset)
                if path in self.images:
                    _refuse(f"its image stands already in {self.images[path].file.name}")
                image = NamedImage(path, split, file, where)
                self._add_annotations(image, _member(item, "annotations"))
                self.images[path] = image
            except DataError as error:
                self.problems.append(Problem(file, f"{where}{error}"))

    def _path(self, item: Any, subset: str) -> Path:
        name = _member(_member(item, "image"), "path") or _member(_member(item, "media"), "path")
        if name:
            if not isinstance(name, str):
                _refuse(f"its image has the path {str(name)[:40]}")
            return find_image(self._root, name, subset_places(name, subset))
        name = _member(item, "id")
        if not isinstance(name, str):
            _refuse("it has neither an image nor an id")
        return find_image(
            self._root,
            f"{name}.jpg",
            [place for suffix in sorted(IMAGE_SUFFIXES) for place in subset_places(name + suffix, subset)],
        )

    def _add_annotations(self, image: NamedImage, annotations: Any) -> None:
        if not isinstance(annotations, list):
            _refuse("it has no list of annotations")
        for annotation in annotations:
            label = _member(annotation, "label_id")
            if label is None:
                continue  # a caption, or a shape that nobody named
            if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(self.names):
                _refuse(f"label_id {str(label)[:40]} is none of the {len(self.names)} labels")
            name = self.names[label]
            image.lines[name] = None
            extent_of = _EXTENTS.get(str(_member(annotation, "type")))
            if extent_of is not None:
                image.boxes.append((name, extent_of(annotation)))


def _has_other_media(item: Any) -> bool:
    if _member(item, "image") is not None:
        return False
    name = _member(_member(item, "media"), "path")  # of any kind of media: the name tells
    if isinstance(name, str) and is_image_name(name.rpartition("/")[2]):
        return False
    return any(_member(item, media) is not None for media in _OTHER_MEDIA)


_OTHER_MEDIA: Final = ("point_cloud", "video", "video_frame", "media")


def _numbers(annotation: Mapping[str, Any], key: str) -> list[float]:
    values = annotation.get(key)
    if not isinstance(values, list):
        _refuse(f"{key} is {str(values)[:40]}: expected a list of numbers")
    return numbers(values, key)


def _corners(annotation: Mapping[str, Any], key: str) -> list[float]:
    values = _numbers(annotation, key)
    if len(values) != 4:
        _refuse(f"{key} has {len(values)} numbers: expected 4")
    return values


def _box(annotation: Mapping[str, Any]) -> Extent:
    rotation = _member(annotation.get("attributes"), "rotation") or 0
    left, top, width, height = _corners(annotation, "bbox")
    return box_extent(left, top, width, height, degrees=number(rotation, "rotation"))


def _polygon(annotation: Mapping[str, Any]) -> Extent:
    points = _numbers(annotation, "points")
    return outline_extent(points[::2], points[1::2])


def _ellipse(annotation: Mapping[str, Any]) -> Extent:
    left, top, right, bottom = _corners(annotation, "points")
    return ellipse_extent((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)


_EXTENTS: Final[dict[str, Callable[[Mapping[str, Any]], Extent]]] = {
    "bbox": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
}
