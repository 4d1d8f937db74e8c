"""CVAT for images 1.1: one `annotations.xml` with `<image>` elements, the images in `images` or beside it.

A label is in an image if a tag or a shape has it. The labels and their order are those of the `meta` part (of
a task, job or project; a skeleton's inner labels do not count), or, without it, those that are used, in
alphabetical order. Boxes are kept: those of boxes, polygons, ellipses, masks and cuboids; points and lines
have no area. An image without annotations has none of the labels: CVAT does not say whether anybody looked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from query2label.data.annotation_files import check_label_name, split_name
from query2label.data.extents import Extent, box_extent, ellipse_extent, number, numbers, outline_extent
from query2label.data.file_starts import file_start
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.named_images import NamedImage, as_samples, find_image, subset_places, used_labels
from query2label.data.samples import Dataset, Problem
from query2label.data.xml_stream import read_elements
from query2label.errors import DataError
from query2label.labels import LabelSet

_ROOT: Final = re.compile(rb"<annotations[\s>]")
_DEFAULT_SUBSETS: Final = ("", "default")
_NUM_POINTS_PER_CUBOID: Final = 8


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads a CVAT file, or the folder with one.

    Args:
        path: An XML file, or a folder with exactly one that is CVAT's.
        labels: The label set and its order. A label outside of it that is used is a problem; a label of it
            that the file does not declare is unknown everywhere.
        image_root: Folder that holds the images, perhaps in `images`; the file's folder where left out.
        check_files: Whether a missing image file is a problem.

    Returns:
        The images in the order of the file; their subsets are the splits. A file of tracks (CVAT for video)
        is refused with a `ProblemError`.
    """
    file = path if path.is_file() else _only_file(path)
    root = ImageRoot(image_root or file.parent, check_files=check_files)
    contents = _Contents(file, root)
    read_elements(file, contents)
    declared = list(contents.declared)
    label_set = labels or (LabelSet(declared) if declared else used_labels(file, contents.images))
    problems = contents.problems
    samples = as_samples(contents.images, label_set, problems, annotated=declared or None)
    problems.sort(key=lambda problem: problem.line or 0)
    return Dataset(label_set, samples, path, "cvat", problems)


def looks_like(path: Path) -> bool:
    """Whether `path` is an XML file that begins as CVAT's do, or has one right in it."""
    return _is_cvat(path) if path.is_file() else bool(_files(path))


def _is_cvat(file: Path) -> bool:
    return file.suffix.lower() == ".xml" and _ROOT.search(file_start(file)) is not None


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.xml")) if _is_cvat(file)]


def _only_file(folder: Path) -> Path:
    files = _files(folder)
    if not files:
        raise DataError(f"{folder} has no CVAT file: expected annotations.xml in it.")
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise DataError(f"{folder} has several CVAT files in it ({names}): name the one that is meant.")
    refuse_outside(files[0], folder)
    return files[0]


class _Contents:
    """What the elements of a CVAT file add up to."""

    def __init__(self, file: Path, root: ImageRoot) -> None:
        self.declared: dict[str, int] = {}
        """Label of the `meta` part -> its line."""
        self.images: list[NamedImage] = []
        self.problems: list[Problem] = []
        self._file = file
        self._root = root
        self._lines: dict[Path, int] = {}
        self._image: NamedImage | None = None
        self._is_usable = False
        self._label = ""
        self._is_point = False

    def start(self, tags: tuple[str, ...], attributes: Mapping[str, str], line: int) -> None:
        """Takes what the attributes of an element say."""
        if tags[0] != "annotations":
            _refuse(f"is no CVAT file: it begins with <{tags[0]}>, not with <annotations>")
        if tags == ("annotations", "track"):
            _refuse("has tracks (CVAT for video): export the task as 'CVAT for images 1.1'")
        if tags == ("annotations", "image"):
            self._begin_image(attributes, line)
        elif tags[:2] == ("annotations", "image") and len(tags) == 3 and self._image is not None:
            self._add_annotation(self._image, tags[2], attributes, line)

    def end(self, tags: tuple[str, ...], text: str, line: int) -> None:
        """Takes what stands in an element."""
        if tags == ("annotations", "version") and not text.strip().startswith("1."):
            _refuse(f"has the version {text.strip()[:20]!r}: expected 1.1")
        if tags == ("annotations", "image") and self._image is not None:
            if self._is_usable:
                self.images.append(self._image)
            self._image = None
        if tags[:2] == ("annotations", "meta") and tags[3:5] == ("labels", "label"):
            self._end_in_meta_label(tags[5:], text.strip(), line)

    def _end_in_meta_label(self, inner: tuple[str, ...], text: str, line: int) -> None:
        if inner == ("name",):
            self._label = text
        elif inner == ("parent",):
            self._is_point = bool(text)
        elif not inner:
            if not self._is_point:
                check_label_name(self._label)
                if self._label in self.declared:
                    _refuse(f"label {self._label!r} stands already in line {self.declared[self._label]}")
                self.declared[self._label] = line
            self._label, self._is_point = "", False

    def _begin_image(self, attributes: Mapping[str, str], line: int) -> None:
        self._image = None
        name = attributes.get("name", "")
        subset = attributes.get("subset", "")
        try:
            path = find_image(self._root, name, subset_places(name, subset))
            if path in self._lines:
                _refuse(f"image {name!r} stands already in line {self._lines[path]}")
        except DataError as error:
            self.problems.append(Problem(self._file, str(error), line))
            return
        self._lines[path] = line
        split = None if subset.lower() in _DEFAULT_SUBSETS else split_name(subset)
        self._image = NamedImage(path, split, self._file)
        self._is_usable = True

    def _add_annotation(
        self, image: NamedImage, shape: str, attributes: Mapping[str, str], line: int
    ) -> None:
        try:
            name = attributes.get("label", "").strip()
            if not name:
                _refuse(f"<{shape}> has no label")
            extent = _EXTENTS[shape](attributes) if shape in _EXTENTS else None
        except DataError as error:
            self.problems.append(Problem(self._file, str(error), line))
            self._is_usable = False
            return
        image.lines.setdefault(name, line)
        if extent is not None:
            image.boxes.append((name, extent))


def _refuse(reason: str) -> NoReturn:
    raise DataError(reason)


def _numbers(attributes: Mapping[str, str], *keys: str) -> list[float]:
    return [number(attributes.get(key), key) for key in keys]


def _degrees(attributes: Mapping[str, str]) -> float:
    return number(attributes.get("rotation", "0"), "rotation")


def _box(attributes: Mapping[str, str]) -> Extent:
    left, top, right, bottom = _numbers(attributes, "xtl", "ytl", "xbr", "ybr")
    return box_extent(left, top, right - left, bottom - top, degrees=_degrees(attributes))


def _polygon(attributes: Mapping[str, str]) -> Extent:
    text = attributes.get("points", "")
    if text.count(",") != text.count(";") + 1:
        _refuse(f"points are {text[:40]!r}: expected 'x,y;x,y;...'")
    points = numbers(text.replace(";", ",").split(","), "a point")
    return outline_extent(points[::2], points[1::2])


def _ellipse(attributes: Mapping[str, str]) -> Extent:
    center_x, center_y, radius_x, radius_y = _numbers(attributes, "cx", "cy", "rx", "ry")
    return ellipse_extent(center_x, center_y, radius_x, radius_y, degrees=_degrees(attributes))


def _mask(attributes: Mapping[str, str]) -> Extent:
    extent = box_extent(*_numbers(attributes, "left", "top", "width", "height"))
    # Lengths of runs outside and inside of the mask, in turn.
    inside = attributes.get("rle", "").split(",")[1::2]
    return extent._replace(area=sum(numbers(inside, "a run of the mask")))


def _cuboid(attributes: Mapping[str, str]) -> Extent:
    xs, ys = (
        [number(value, key) for key, value in attributes.items() if re.fullmatch(rf"{axis}[tb][lr]\d", key)]
        for axis in "xy"
    )
    if not len(xs) == len(ys) == _NUM_POINTS_PER_CUBOID:
        _refuse(f"<cuboid> has {len(xs)} x and {len(ys)} y: expected {_NUM_POINTS_PER_CUBOID} corners")
    return box_extent(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


_EXTENTS: Final[dict[str, Callable[[Mapping[str, str]], Extent]]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
    "cuboid": _cuboid,
}
