"""YOLO data sets: `images/<split>` and `labels/<split>` with a `data.yaml`, or images beside their `.txt`.

The labels and their order are those of the file that names the classes: `data.yaml` (any such `.yaml`),
Darknet's `obj.data`, or a list of names (`classes.txt`, `obj.names`). An image without a label file, or with
an empty one, has none of the labels; a split without any label file is left out and noted. Boxes are in
pixels, by the size that the image's header states.
"""

from __future__ import annotations

import contextlib
import posixpath
from pathlib import Path

from query2label.data.extents import Extent
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.named_images import NamedImage, as_samples, find_image
from query2label.data.samples import Dataset, Problem, ProblemError
from query2label.data.yolo_config import YoloConfig
from query2label.data.yolo_files import (
    ListedImage,
    find_config,
    label_places,
    list_images,
    looks_like_folder,
    looks_like_yaml,
    read_config,
)
from query2label.data.yolo_lines import begins_with_object, read_objects
from query2label.decode import image_size
from query2label.errors import DataError, ImageError
from query2label.labels import LabelSet


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
    only_split: str | None = None,
) -> Dataset:
    """Reads a folder of images and label files, or the one around a `data.yaml`.

    Args:
        path: The folder, or its `.yaml`.
        labels: The label set and its order. A class outside of it that is used is a problem; a label that is
            no class is unknown everywhere.
        image_root: Folder that holds images and labels; that of `path` where left out.
        check_files: Whether a missing image file is a problem. Without it there are no boxes.
        only_split: Reads only the images of this split, if there are any.

    Returns:
        The images by split, in the order of lists, else of names.

    Raises:
        DataError: If no file names the classes, or there is no label file at all.
    """
    config_file = path if path.is_file() else find_config(path)
    if config_file is None:
        raise DataError(
            f"{path} has YOLO labels, but no names of classes: put data.yaml or classes.txt into it."
        )
    if path.is_dir():
        refuse_outside(config_file, path)
    config = read_config(config_file)
    root = ImageRoot(image_root or (path if path.is_dir() else path.parent), check_files=check_files)
    problems: list[Problem] = []
    notes: list[str] = []
    listed = list_images(root, config, problems, notes)
    reader = _Reader(root, config, with_boxes=check_files)
    wanted = {"train", "val", "trainval"} if only_split == "trainval" else {only_split}
    if only_split is None or not wanted & set(listed):
        wanted = set(listed)
    images: list[NamedImage] = []
    for split in (split for split in listed if split in wanted):
        found, num_labelled = reader.images(listed[split], split, problems)
        if num_labelled or not found:
            images += found
        else:
            notes.append(f"Left out, as none of its images has a label file: {split or 'the data'}.")
    if not images and not problems:
        raise DataError(f"{root.folder} has no image with a label file, in labels or beside it.")
    problems += reader.strays(listed)
    label_set = labels or LabelSet(config.names.values())
    samples = as_samples(images, label_set, problems, annotated=set(config.names.values()))
    return Dataset(label_set, samples, path, "yolo", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether `path` is a `data.yaml`, or a folder with one or with files of boxes."""
    return looks_like_yaml(path) if path.is_file() else looks_like_folder(path)


class _Reader:
    """Turns listed images into images with labels."""

    def __init__(self, root: ImageRoot, config: YoloConfig, *, with_boxes: bool) -> None:
        self._root = root
        self._config = config
        self._with_boxes = with_boxes
        self._seen: dict[Path, ListedImage] = {}
        self._label_names: set[str] = set()

    def images(
        self, listed: list[ListedImage], split: str | None, problems: list[Problem]
    ) -> tuple[list[NamedImage], int]:
        """The images, and how many have a label file."""
        images: list[NamedImage] = []
        num_labelled = 0
        for item in listed:
            try:
                path = self._path(item)
                places = label_places(path.relative_to(self._root.folder).as_posix())
                self._label_names.update(places)
                file = next((place for place in places if self._root.has(place)), None)
                num_labelled += file is not None
                images.append(self._image(path, split, file))
            except ProblemError as error:
                problems.append(error.problem)
        return images, num_labelled

    def strays(self, listed: dict[str | None, list[ListedImage]]) -> list[Problem]:
        """Label files whose image is missing; a list of images may leave some out."""
        if any(item.line is not None for items in listed.values() for item in items):
            return []
        expected = {place for items in listed.values() for item in items for place in label_places(item.name)}
        folders = sorted({posixpath.dirname(name) for name in self._label_names})
        files = (file for folder in folders for file in sorted((self._root.folder / folder).glob("*.txt")))
        return [
            Problem(file, "has no image")
            for file in files
            if file.relative_to(self._root.folder).as_posix() not in expected and begins_with_object(file)
        ]

    def _path(self, item: ListedImage) -> Path:
        try:
            path = find_image(self._root, item.name, item.places)
            if path in self._seen:
                first = self._seen[path]
                where = "another entry" if first.line is None else f"{first.file.name}:{first.line}"
                raise DataError(f"image {item.name!r} stands already in {where}")
        except DataError as error:
            raise ProblemError(item.file, str(error), item.line) from error
        self._seen[path] = item
        return path

    def _image(self, path: Path, split: str | None, label_name: str | None) -> NamedImage:
        if label_name is None:
            return NamedImage(path, split, path)
        file = self._root.folder / label_name
        image = NamedImage(path, split, file)
        objects = read_objects(file, num_keypoint_values=self._config.num_keypoint_values)
        size = self._size(path) if objects else None
        for class_number, extent, line in objects:
            name = self._config.names.get(class_number)
            if name is None:
                reason = f"class {class_number} is none of the {len(self._config.names)}"
                raise ProblemError(file, f"{reason} in {self._config.file}", line)
            image.lines.setdefault(name, line)
            if size is not None:
                image.boxes.append((name, _in_pixels(extent, size)))
        return image

    def _size(self, path: Path) -> tuple[int, int] | None:
        # Whether the image can be decoded is not judged here.
        with contextlib.suppress(ImageError):
            return image_size(path) if self._with_boxes else None
        return None


def _in_pixels(extent: Extent, size: tuple[int, int]) -> Extent:
    height, width = size
    left, top, box_width, box_height, area = extent
    return Extent(left * width, top * height, box_width * width, box_height * height, area * width * height)
