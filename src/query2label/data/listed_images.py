"""Images that the lists of a published data set name, looked for where people unpack them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from query2label.data.annotation_files import read_text
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.samples import Problem
from query2label.errors import DataError
from query2label.labels import LabelSet

_WHITE_SPACE: Final = re.compile(r"[^\S\n]")


class ListedImage(NamedTuple):
    """An image by the name that a list gives it."""

    name: str
    split: str
    file: Path
    """The list."""
    line: int


class FoundImages(NamedTuple):
    """Where the images of the lists are."""

    paths: list[Path | None]
    """For each listed image; None where it is absent, or was refused."""
    absent: list[ListedImage]


def read_lines(file: Path, *, inside: Path) -> list[str]:
    """The lines of a text file without outer white space; empty ones at the end are dropped.

    A file outside of the folder `inside` is refused with a `ProblemError`, as is one that cannot be read.
    """
    refuse_outside(file, inside)
    text = read_text(file).rstrip().replace("\r\n", "\n")
    lines = text.split("\n") if text else []
    # NUS-WIDE's files have 22 million lines together: they are only touched one by one where need be.
    return [line.strip() for line in lines] if _WHITE_SPACE.search(text) else lines


def read_list(file: Path, split: str, *, inside: Path) -> list[ListedImage]:
    """The images of a list with one name per line; refused as by `read_lines`."""
    lines = enumerate(read_lines(file, inside=inside), start=1)
    return [ListedImage(name, split, file, number) for number, name in lines]


def find_images(
    root: ImageRoot,
    images: Sequence[ListedImage],
    places: Callable[[str], Iterable[str]],
    problems: list[Problem],
) -> FoundImages:
    """Looks for each image in some places.

    Args:
        root: The folder that the places are in.
        images: What the lists name.
        places: Gives the names that an image may have below the folder, the likeliest first.
        problems: Is added to: images that stand in the lists twice, or lead out of the folder.

    Raises:
        DataError: If there is none of the images.
    """
    found = FoundImages([], [])
    first: dict[Path, ListedImage] = {}
    refused: list[Problem] = []
    for image in images:
        try:
            path = _find_image(root, image, places, first)
            if path is None:
                found.absent.append(image)
        except DataError as error:
            path = None
            refused.append(Problem(image.file, str(error), image.line))
        found.paths.append(path)
    if images and not first:
        number = f"{len(images):,} images that the lists name"
        if refused:
            raise DataError(f"None of the {number} can be used; {refused[0]}.")
        example = ", ".join(places(images[0].name))
        raise DataError(
            f"{root.folder} has none of the {number}: looked for {example} and so on; name the folder of the "
            "images (image_root, --images)."
        )
    problems += refused
    return found


def folder_prefixes(root: ImageRoot, folders: Sequence[str]) -> list[str]:
    """What may stand before an image's name: the folders that are there (all, if none is), or nothing.

    The folders that hold images are looked for once, not for each image.
    """
    present = [folder for folder in folders if (root.folder / folder).is_dir()]
    return [*(f"{folder}/" for folder in present or folders), ""]


def problems_of_absent(absent: Iterable[ListedImage], folder: Path) -> list[Problem]:
    """A problem for each absent image."""
    return [
        Problem(image.file, f"image {image.name!r} is missing in {folder}", image.line) for image in absent
    ]


def notes_on_absent(absent: Iterable[ListedImage], images: Iterable[ListedImage]) -> list[str]:
    """How many images of each split are absent."""
    num_listed = Counter(image.split for image in images)
    return [
        f"Images of {split} that are not on disk, left out: {number:,} of {num_listed[split]:,}."
        for split, number in Counter(image.split for image in absent).items()
    ]


def outputs_of(names: Iterable[str], labels: LabelSet, file: Path, problems: list[Problem]) -> dict[int, str]:
    """Output index -> name, of a data set's labels; one that is not wanted is a problem."""
    outputs: dict[int, str] = {}
    for name in names:
        try:
            outputs[labels.index(name)] = name
        except DataError as error:
            problems.append(Problem(file, str(error)))
    return outputs


def _find_image(
    root: ImageRoot,
    image: ListedImage,
    places: Callable[[str], Iterable[str]],
    first: dict[Path, ListedImage],
) -> Path | None:
    """The path of an image, which is added to `first`; None where it is absent.

    Raises:
        DataError: If the line is empty, or the image is in `first`.
    """
    if not image.name:
        raise DataError("this line names no image")
    path = root.find(places(image.name))
    if path is not None and first.setdefault(path, image) is not image:
        raise DataError(f"image {image.name!r} stands already in {first[path].file.name}:{first[path].line}")
    return path
