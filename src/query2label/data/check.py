"""What is in a data set, and what is wrong with it: counts, and missing, corrupt and repeated images."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from query2label.data.check_images import (
    AcrossSplits,
    Duplicates,
    ImageSizes,
    find_duplicates,
    find_look_alikes_across,
    image_sizes,
    read_images,
)
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Problem, Sample
from query2label.formats import DataFormatOrAuto, Difficult
from query2label.labels import UNKNOWN, LabelSet

WITHOUT_SPLIT: Final = "all"
"""Name that counts have where the data have no splits."""
_NUM_PAIRS = 20
_NUM_NAMED = 20


@dataclass(frozen=True)
class LabelCounts:
    """In how many images a label is present, and in how many nobody knows, by split."""

    label: str
    positive: dict[str, int]
    unknown: dict[str, int]


@dataclass(frozen=True)
class Pair:
    """Two labels and the number of images that have both."""

    labels: tuple[str, str]
    num_images: int


@dataclass(frozen=True)
class CheckReport:
    """The result of `check_dataset`."""

    path: Path
    format: str
    num_images: dict[str, int]
    """Split -> images that can be used as far as the annotations say."""
    labels: tuple[LabelCounts, ...]
    """In output order."""
    labels_per_image: dict[int, int]
    """Number of labels -> images that have so many."""
    pairs: tuple[Pair, ...]
    """The pairs of labels that are together most often."""
    duplicates: tuple[Duplicates, ...]
    look_alikes: tuple[AcrossSplits, ...]
    """Images of one split that look like one of another, without those of `duplicates`."""
    sizes: ImageSizes | None
    """None where no image was decoded."""
    errors: tuple[Problem, ...]
    """What has to be repaired: rows that cannot be used, missing and corrupt images."""
    warnings: tuple[str, ...]
    """What should be looked at, one sentence each."""
    notes: tuple[str, ...]
    """What was left out on purpose."""

    @property
    def mean_labels(self) -> float:
        """Labels per image; 0 where there are no images."""
        total = sum(self.labels_per_image.values())
        return sum(number * count for number, count in self.labels_per_image.items()) / max(total, 1)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {**_jsonable(asdict(self)), "mean_labels": self.mean_labels}


def check_dataset(
    path: Path | str,
    *,
    format: DataFormatOrAuto = "auto",  # noqa: A002 (as in load_dataset)
    labels: LabelSet | None = None,
    difficult: Difficult = "ignore",
    image_root: Path | str | None = None,
    decode: bool = True,
    on_image: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Reads labelled images as `load_dataset` does, and reports everything about them instead of stopping.

    Args:
        path: As in `load_dataset`.
        format: As in `load_dataset`.
        labels: As in `load_dataset`.
        difficult: As in `load_dataset`.
        image_root: As in `load_dataset`.
        decode: Whether to read each image, which finds corrupt, duplicate and similar ones.
        on_image: Called with the number of images read so far and of all, for a progress bar.

    Returns:
        The report. Data without a layout or a label set at all are refused as by `load_dataset`.
    """
    dataset = load_dataset(
        path, format=format, labels=labels, difficult=difficult, image_root=image_root, on_problem="keep"
    )
    contents = read_images(dataset.samples, on_image) if decode else []
    corrupt = [
        Problem(sample.path, content.error)
        for sample, content in zip(dataset.samples, contents, strict=False)
        if content.error is not None
    ]
    duplicates = find_duplicates(dataset, contents)
    look_alikes = find_look_alikes_across(dataset, contents)
    counts = _label_counts(dataset)
    return CheckReport(
        path=Path(path),
        format=dataset.format,
        num_images=dict(Counter(_split(sample) for sample in dataset.samples)),
        labels=counts,
        labels_per_image=dict(sorted(Counter(len(sample.positive) for sample in dataset.samples).items())),
        pairs=_pairs(dataset),
        duplicates=duplicates,
        look_alikes=look_alikes,
        sizes=image_sizes(contents),
        errors=(*dataset.problems, *corrupt),
        warnings=(
            *_label_warnings(dataset, counts),
            *_duplicate_warnings(duplicates),
            *_look_alike_warnings(look_alikes),
        ),
        notes=tuple(dataset.notes),
    )


def _split(sample: Sample) -> str:
    return sample.split or WITHOUT_SPLIT


def _label_counts(dataset: Dataset) -> tuple[LabelCounts, ...]:
    targets = dataset.targets()
    splits = list(map(_split, dataset.samples))
    parts = {split: targets[[each == split for each in splits]] for split in dict.fromkeys(splits)}
    positive, unknown = (
        {split: (part == target).sum(axis=0).tolist() for split, part in parts.items()}
        for target in (1, UNKNOWN)
    )
    return tuple(
        LabelCounts(
            label,
            {split: numbers[index] for split, numbers in positive.items()},
            {split: numbers[index] for split, numbers in unknown.items()},
        )
        for index, label in enumerate(dataset.labels)
    )


def _pairs(dataset: Dataset) -> tuple[Pair, ...]:
    counts: Counter[tuple[int, int]] = Counter()
    for sample in dataset.samples:
        counts.update(itertools.combinations(sample.positive, 2))
    return tuple(
        Pair((dataset.labels[first], dataset.labels[second]), count)
        for (first, second), count in counts.most_common(_NUM_PAIRS)
    )


def _label_warnings(dataset: Dataset, counts: Iterable[LabelCounts]) -> list[str]:
    warnings = [f"{problem}." for problem in dataset.warnings[:_NUM_NAMED]]
    warnings += [f"{more:,} more of this kind."] if (more := len(dataset.warnings) - _NUM_NAMED) > 0 else []
    without: dict[str, list[str]] = {}
    for entry in counts:
        missing = [split for split, number in entry.positive.items() if not number]
        if missing:
            where = "" if len(missing) == len(entry.positive) else f" of {' or '.join(missing)}"
            without.setdefault(where, []).append(entry.label)
    warnings += [f"No image{where} has {_named(labels)}." for where, labels in without.items()]
    alike: dict[str, list[str]] = {}
    for label in dataset.labels:
        alike.setdefault(" ".join(label.casefold().split()), []).append(label)
    warnings += [
        f"Labels that differ only in case or spaces: {', '.join(map(repr, names))}; are they one?"
        for names in alike.values()
        if len(names) > 1
    ]
    num_unknown = int((dataset.targets() == UNKNOWN).all(axis=1).sum())
    if num_unknown:
        warnings.append(f"{num_unknown} images have no label that anybody has judged: they teach nothing.")
    return warnings


def _named(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return f"the label {labels[0]!r}"
    more = f" and {len(labels) - _NUM_NAMED} more" if len(labels) > _NUM_NAMED else ""
    return f"any of {len(labels)} labels: {', '.join(map(repr, labels[:_NUM_NAMED]))}{more}"


def _duplicate_warnings(duplicates: Iterable[Duplicates]) -> list[str]:
    warnings = []
    for group in duplicates:
        names = " and ".join(map(str, group.paths[:3])) + (" and others" if len(group.paths) > 3 else "")
        if len(group.splits) > 1:
            warnings.append(f"One image is in the splits {' and '.join(group.splits)}: {names}.")
        if group.conflicting_labels:
            labels = ", ".join(group.conflicting_labels)
            warnings.append(f"One image has different labels in its copies ({labels}): {names}.")
    return warnings


def _look_alike_warnings(look_alikes: Iterable[AcrossSplits]) -> list[str]:
    counts = Counter(pair.splits for pair in look_alikes)
    return [
        f"{count:,} {'image of' if count == 1 else 'images of'} {first} {'looks' if count == 1 else 'look'} "
        f"like one of {second}: the same picture, perhaps saved anew or resized."
        for (first, second), count in counts.items()
    ]


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(part) for part in value]
    return str(value) if isinstance(value, Path) else value
