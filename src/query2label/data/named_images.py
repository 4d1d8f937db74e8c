"""Images whose labels were read as names, on their way to samples; and where such images may lie."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from query2label.data.annotation_files import check_label_name
from query2label.data.contents import ImageContent
from query2label.data.extents import Extent
from query2label.data.image_root import ImageRoot
from query2label.data.samples import Problem, ProblemError, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet


@dataclass(slots=True)
class NamedImage:
    """One image as an annotation file has it."""

    path: Path
    split: str | None
    file: Path
    """The annotation file."""
    where: str = ""
    """What begins a message about it, for a file whose lines say little, for example `task 7: `."""
    lines: dict[str, int | None] = field(default_factory=dict)
    """Label that is present -> the line that says so."""
    unknown: frozenset[str] = frozenset()
    boxes: list[tuple[str, Extent]] = field(default_factory=list)
    content: ImageContent | None = None
    """Where the bytes are, if `path` is no file."""


def find_image(root: ImageRoot, name: str, places: Sequence[str]) -> Path:
    """The path of the image called `name`: the first of the names in `places` that is there.

    Where none is, `name` itself is judged: it is refused as `ImageRoot.locate` does.
    """
    return root.locate(next((place for place in places if root.has(place)), name))


def subset_places(name: str, subset: str | None) -> list[str]:
    """Where an image may be in the data: in `images/<subset>`, `<subset>`, `images` or right there."""
    folders = (f"images/{subset}/", f"{subset}/", "images/", "") if subset else ("images/", "")
    return [folder + name for folder in folders]


def used_labels(file: Path, images: Iterable[NamedImage]) -> LabelSet:
    """The labels that the images have, in alphabetical order.

    Raises:
        ProblemError: If there is none, or one is unfit.
    """
    first: dict[str, NamedImage] = {}
    for image in images:
        for name in (*image.lines, *image.unknown):
            first.setdefault(name, image)
    for name, image in first.items():
        try:
            check_label_name(name)
        except DataError as error:
            raise ProblemError(image.file, f"{image.where}{error}", image.lines.get(name)) from error
    if not first:
        raise ProblemError(file, "has no label in any image")
    return LabelSet(sorted(first))


def as_samples(
    images: Iterable[NamedImage],
    labels: LabelSet,
    problems: list[Problem],
    *,
    annotated: Collection[str] | None = None,
) -> list[Sample]:
    """The images as samples; one with a label outside of `labels` is a problem and left out.

    Args:
        images: With labels by name.
        labels: The label set and its order.
        problems: Is added to.
        annotated: The labels that were looked for; others are unknown everywhere. All, where left out.
    """
    nowhere = [index for index, name in enumerate(labels) if annotated is not None and name not in annotated]
    samples: list[Sample] = []
    for image in images:
        try:
            positive = sorted(_index(image, name, labels) for name in image.lines)
            unknown = sorted({*(_index(image, name, labels) for name in image.unknown), *nowhere})
        except ProblemError as error:
            problems.append(error.problem)
            continue
        boxes = tuple(extent.as_box(labels.index(name)) for name, extent in image.boxes)
        samples.append(Sample(image.path, tuple(positive), tuple(unknown), boxes, image.split, image.content))
    return samples


def _index(image: NamedImage, name: str, labels: LabelSet) -> int:
    try:
        return labels.index(name)
    except DataError as error:
        raise ProblemError(image.file, f"{image.where}{error}", image.lines.get(name)) from error
