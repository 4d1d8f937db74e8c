"""NUS-WIDE as downloaded: image lists, and one file of 0 and 1 per concept and split.

`Groundtruth/TrainTestLabels/Labels_<concept>_Train.txt` and `..._Test.txt` have one line for each line of
`ImageList/TrainImagelist.txt` and `TestImagelist.txt`. The images lie in `Flickr/<folder>/<name>`, as the
lists have it (with Windows separators), or all in one folder; `images` may stand for `Flickr`. The labels
are the concepts in alphabetical order, which is that of `Concepts81.txt`; images that show none of them
stay, with all labels absent. Lists that have the labels in them are read by `nuswide_lists`.

The lists are of 2009, and Flickr has lost images since then: nobody can repair that, so images that are not
on disk are left out and counted in the notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from query2label.data import nuswide_lists
from query2label.data.annotation_files import check_label_name, read_label_names
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.listed_images import (
    ListedImage,
    find_images,
    notes_on_absent,
    outputs_of,
    read_lines,
    read_list,
)
from query2label.data.nuswide_lists import CONCEPT_FILES, image_places
from query2label.data.samples import Dataset, Problem, ProblemError, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet

_SPLITS: Final = {"Train": "train", "Test": "test"}
_LABEL_FILE: Final = re.compile(r"Labels_(.+)_(Train|Test)\.txt")
_LABEL_FOLDERS: Final = ("Groundtruth/TrainTestLabels", "TrainTestLabels")
_LIST_FOLDERS: Final = ("ImageList", ".")

_LabelFiles = dict[str, dict[str, Path]]
"""Concept -> split -> its file."""


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads a NUS-WIDE folder.

    Args:
        path: The folder with `Groundtruth/TrainTestLabels` in it, or with `train.txt` and `test.txt`.
        labels: The label set and its order. A concept outside of it is a problem; a label of it that is no
            concept is unknown everywhere.
        image_root: Folder that holds the images, perhaps in `Flickr` or `images`.
        check_files: Whether images that are not on disk are left out.

    Raises:
        DataError: If the folder has no such files.
    """
    folder = _label_folder(path)
    if folder is None and nuswide_lists.looks_like(path):
        return nuswide_lists.read(path, labels=labels, image_root=image_root, check_files=check_files)
    if folder is None:
        raise DataError(
            f"{path} has no NUS-WIDE data: expected {_LABEL_FOLDERS[0]} in it, or train.txt and test.txt "
            "with an image and 81 columns of 0 and 1 in each line."
        )
    refuse_outside(folder, path)
    problems: list[Problem] = []
    notes: list[str] = []
    label_files = _label_files(path, folder, problems, notes)
    concepts = sorted(label_files)
    if not concepts:
        raise DataError(f"{folder} has no files Labels_<concept>_Train.txt and Labels_<concept>_Test.txt.")
    label_set = labels or LabelSet(concepts)
    outputs = outputs_of(concepts, label_set, folder, problems)
    lists = {split: images for word, split in _SPLITS.items() if (images := _images(path, word, problems))}
    if not lists:
        raise DataError(f"{path} has no images: expected ImageList/TrainImagelist.txt and TestImagelist.txt.")
    root = ImageRoot(image_root or path, check_files=check_files)
    images = [image for split in lists.values() for image in split]
    found = find_images(root, images, image_places(root), problems)
    notes += notes_on_absent(found.absent, images)
    samples: list[Sample] = []
    paths = iter(found.paths)
    for split, listed in lists.items():
        files = {
            output: label_files[concept][split]
            for output, concept in outputs.items()
            if split in label_files[concept]
        }
        part = _Part(split, path, listed, list(islice(paths, len(listed))))
        samples += part.samples(files, len(label_set), problems)
    return Dataset(label_set, samples, path, "nuswide", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether a folder has `Groundtruth/TrainTestLabels` (or `TrainTestLabels`) or lists with labels."""
    return _label_folder(path) is not None or nuswide_lists.looks_like(path)


def _label_folder(path: Path) -> Path | None:
    return next((path / name for name in _LABEL_FOLDERS if (path / name).is_dir()), None)


def _first_file(path: Path, names: Iterable[str]) -> Path | None:
    return next((path / name for name in names if (path / name).is_file()), None)


def _label_files(path: Path, folder: Path, problems: list[Problem], notes: list[str]) -> _LabelFiles:
    """The files of each concept that `Concepts81.txt` names, or, without it, of all."""
    found: _LabelFiles = {}
    for file in sorted(folder.iterdir()):
        match = _LABEL_FILE.fullmatch(file.name)
        if match is None:
            continue
        try:
            check_label_name(match[1])
            found.setdefault(match[1], {})[_SPLITS[match[2]]] = file
        except DataError as error:
            problems.append(Problem(file, str(error)))
    concept_file = _first_file(path, CONCEPT_FILES)
    if concept_file is None:
        wanted = dict.fromkeys(found)
    else:
        refuse_outside(concept_file, path)
        wanted = dict.fromkeys(read_label_names(concept_file))
    for concept in wanted:
        problems += [
            Problem(concept_file or folder, f"concept {concept!r} has no Labels_{concept}_{word}.txt")
            for word, split in _SPLITS.items()
            if split not in found.get(concept, {})
        ]
    others = [concept for concept in found if concept not in wanted]
    if others:
        notes.append(f"Concepts that {concept_file} does not name, left out: {', '.join(others)}.")
    return {concept: found[concept] for concept in wanted if concept in found}


def _images(path: Path, word: str, problems: list[Problem]) -> list[ListedImage]:
    name = f"{word}Imagelist.txt"
    file = _first_file(path, (f"{folder}/{name}" for folder in _LIST_FOLDERS))
    if file is None:
        problems.append(Problem(path / _LIST_FOLDERS[0] / name, "is missing: it names the images"))
        return []
    images: list[ListedImage] = []
    try:
        images = read_list(file, _SPLITS[word], inside=path)
        if not images:
            raise ProblemError(file, "names no image")
    except ProblemError as error:
        problems.append(error.problem)
    return images


@dataclass(frozen=True)
class _Part:
    """One split: its list of images, and where they are."""

    split: str
    folder: Path
    images: list[ListedImage]
    paths: list[Path | None]

    def samples(self, files: Mapping[int, Path], num_labels: int, problems: list[Problem]) -> list[Sample]:
        """The images with what the files say, which are given by output index."""
        positive: list[list[int]] = [[] for _ in self.images]
        unusable: set[int] = set()
        unknown = set(range(num_labels))
        for output, file in files.items():
            try:
                present, wrong = self._rows(file, problems)
            except ProblemError as error:
                problems.append(error.problem)
                continue
            unusable.update(wrong)
            unknown.discard(output)
            for row in present:
                positive[row].append(output)
        nowhere = tuple(sorted(unknown))
        return [
            Sample(path, tuple(sorted(positive[row])), nowhere, split=self.split)
            for row, path in enumerate(self.paths)
            if path is not None and row not in unusable
        ]

    def _rows(self, file: Path, problems: list[Problem]) -> tuple[list[int], list[int]]:
        """The rows of the images that show a concept, and those that say neither 1 nor 0.

        Raises:
            ProblemError: If there are not as many lines as images.
        """
        lines = read_lines(file, inside=self.folder)
        num_images = len(self.images)
        if len(lines) != num_images:
            message = f"has {len(lines):,} lines, but {self.images[0].file.name} names {num_images:,} images"
            raise ProblemError(file, message, min(len(lines), num_images) + 1)
        if set(lines) <= {"0", "1"}:
            marks = np.frombuffer("".join(lines).encode(), dtype=np.uint8)
            return np.flatnonzero(marks == ord("1")).tolist(), []
        wrong = [row for row, line in enumerate(lines) if line not in {"0", "1"}]
        more = f" (as in {len(wrong) - 1:,} more lines)" if len(wrong) > 1 else ""
        message = f"expected 1 or 0, found {lines[wrong[0]][:60]!r}{more}"
        problems.append(Problem(file, message, wrong[0] + 1))
        return [row for row, line in enumerate(lines) if line == "1"], wrong
