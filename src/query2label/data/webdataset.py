"""WebDataset: photos and their labels in tar archives ("shards").

A sample is the members whose names are equal up to the first dot of the file name: an image (`0001.jpg`) and
its labels in one of

- `0001.json`: `{"labels": [...]}` (or `label`, `tags`, ...) with names or indices, or such a list alone;
  `"unknown": [...]` beside it names labels that nobody has judged;
- `0001.cls`: indices, with white space or commas between them, or as a JSON list;
- `0001.txt`: one name per line (only where there is neither of the others: beside JSON it is a caption).

Indices count the lines of `classes.txt` or `labels.txt` beside the shards, which fix labels and order, too.
Without it they are themselves the names; labels are in alphabetical order then, numbers by their value.

The members are found by the headers of the archives, and read where they lie; nothing is extracted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from query2label.data.annotation_files import parse_json
from query2label.data.columns import LABEL_COLUMNS, UNKNOWN_COLUMNS
from query2label.data.contents import FileSlice
from query2label.data.image_root import refuse_outside
from query2label.data.label_values import IndexLists, in_order, judged_once, named_labels
from query2label.data.named_images import NamedImage, as_samples, used_labels
from query2label.data.samples import Dataset, Problem, ProblemError
from query2label.data.shard_samples import LABEL_KINDS, ShardSample, place_in, samples_of
from query2label.data.shards import files_called, refuse_empty, split_of_shard
from query2label.data.sidecar import label_file
from query2label.data.tar_index import Member, tar_members
from query2label.errors import DataError
from query2label.labels import LabelSet

SHARD_SUFFIXES: Final = (".tar",)
_COMPRESSED_SUFFIXES: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MAX_DIGITS: Final = 9
_NUM_LOOKED_AT: Final = 16
_JSON_LIST: Final = re.compile(r"\[([^\[\]]*)\]")
_NUMBERED: Final = re.compile(r"(.*[-_.])?\d{3,}\.(tar\b.*|tgz)")


def read(path: Path, *, labels: LabelSet | None = None) -> Dataset:
    """Reads the shards in a folder (and in its subfolders `train`, `val`, ...), or one shard.

    Args:
        path: The folder or the `.tar` file.
        labels: The label set and its order; a label that is not in it is a problem, one that `classes.txt`
            does not have is unknown.

    Returns:
        The images in the order of shards and members; members with anything wrong are problems. It is refused
        with a `ProblemError` if no sample can be used.
    """
    folder = path if path.is_dir() else path.parent
    shards = list(shards_in(path)) if path.is_dir() else [path]
    names = label_file(folder)
    problems: list[Problem] = []
    images: list[NamedImage] = []
    lists = IndexLists()
    for shard in shards:
        try:
            refuse_outside(shard, folder)
            split = split_of_shard(shard.relative_to(folder))
            images += _shard_images(shard, split, names, problems, lists)
        except ProblemError as error:
            problems.append(error.problem)
    lists.check(names)
    if not (images if names or labels else any(image.lines or image.unknown for image in images)):
        refuse_empty(path, "sample", problems)
    label_set = labels or names or in_order(used_labels(path, images))
    samples = as_samples(images, label_set, problems, annotated=names)
    return Dataset(label_set, samples, path, "webdataset", problems, _notes(images))


def looks_like(path: Path) -> bool:
    """Whether a file is called like a shard, or a folder has one that begins as one (or is broken).

    Archives of another kind are left beside what was unpacked from them, so that a name alone says little.
    """
    if not path.is_dir():
        return path.name.lower().endswith((*SHARD_SUFFIXES, *_COMPRESSED_SUFFIXES))
    return any(map(_begins_with_a_sample, shards_in(path)))


def shards_in(folder: Path) -> Iterator[Path]:
    """The archives in a folder, and in subfolders named like splits; also those that have to be unpacked."""
    return files_called(folder, (*SHARD_SUFFIXES, *_COMPRESSED_SUFFIXES))


def _begins_with_a_sample(shard: Path) -> bool:
    try:
        found = samples_of(shard, islice(tar_members(shard), _NUM_LOOKED_AT), [])
    except ProblemError:
        return _NUMBERED.fullmatch(shard.name) is not None
    return any(sample.images and sample.labels for sample in found)


def _shard_images(
    shard: Path, split: str | None, names: LabelSet | None, problems: list[Problem], lists: IndexLists
) -> Iterator[NamedImage]:
    members: list[Member] = []
    try:
        for member in tar_members(shard):
            members.append(member)  # noqa: PERF402 (those before an error are kept)
    except ProblemError as error:
        problems.append(error.problem)
    for sample in samples_of(shard, members, problems):
        try:
            image = sample.image()
            positive, unknown = _labels(sample, names, lists)
        except ProblemError as error:
            problems.append(error.problem)
            continue
        content = FileSlice(shard, image.offset, image.size)
        path = place_in(shard, image.name)
        yield NamedImage(path, split, path, lines=dict.fromkeys(positive), unknown=unknown, content=content)


def _labels(
    sample: ShardSample, names: LabelSet | None, lists: IndexLists
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The labels that are there, and those that are unknown.

    Raises:
        ProblemError: If no member tells, or what tells cannot be read.
    """
    for kind in LABEL_KINDS:
        if kind not in sample.labels or (kind == "txt" and len(sample.labels) > 1):
            continue
        place = place_in(sample.shard, sample.labels[kind].name)
        try:
            found = _parse(kind, sample.label_text(kind))
            if found is not None:
                lists.add(found[0], place)
                positive, unknown = (named_labels(value, names) for value in found)
                return positive, judged_once(positive, unknown)
        except DataError as error:
            raise ProblemError(place, str(error)) from error
    if "json" in sample.labels:
        wanted = ", ".join(map(repr, LABEL_COLUMNS[:4]))
        raise ProblemError(
            place_in(sample.shard, sample.labels["json"].name),
            f"has no labels: looked for {wanted} and alike",
        )
    raise ProblemError(
        place_in(sample.shard, sample.image().name),
        "has no labels: looked for .json, .cls or .txt of its name",
    )


def _parse(kind: str, text: str) -> tuple[Any, Any] | None:
    """The labels that are there and the unknown ones, as one member has them; None where it has none."""
    if kind == "txt":
        return [line for line in text.splitlines() if line.strip()], []
    if kind == "cls":
        listed = _JSON_LIST.fullmatch(text.strip())
        return [_index(part) for part in re.split(r"[\s,]+", listed[1] if listed else text) if part], []
    value = parse_json(text)
    if isinstance(value, dict):
        value = {str(key).lower(): part for key, part in value.items()}
        column = next((name for name in LABEL_COLUMNS if name in value), None)
        if column is None:
            return None
        return value[column], next((value[name] for name in UNKNOWN_COLUMNS if name in value), [])
    return value, []


def _index(text: str) -> int:
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise DataError(f"has {text[:40]!r} in it: expected the indices of labels")
    return int(text)


def _notes(images: list[NamedImage]) -> list[str]:
    without = len([image for image in images if image.split is None])
    if not without or without == len(images):
        return []
    return [f"{without} images are in shards that name no split, and so in none."]
