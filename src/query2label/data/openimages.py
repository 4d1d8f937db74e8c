"""Open Images: files of image-level labels that people have verified, and whatever images were downloaded.

In `*-annotations-human-imagelabels*.csv`, confidence 1 says that a label is in an image and 0 that it is not;
what is not listed is unknown, as is a label that people contradict each other about. What machines have
guessed (`*-machine-imagelabels*.csv`) nobody has verified: these files are not read.

The labels are those that are in at least one of the images, of any split, in alphabetical order; if
`*classes-trainable*.txt` is there, only those that it names. Their names come from
`*class-descriptions*.csv`. Few people have all nine million images: rows about others are left out and
counted in the notes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from query2label.data.annotation_files import check_label_name, split_name
from query2label.data.image_root import ImageRoot, is_image_name, refuse_outside
from query2label.data.listed_images import ListedImage, find_images, outputs_of
from query2label.data.openimages_files import LabelFile, label_files, read_class_names, read_trainable
from query2label.data.openimages_rows import CONTRADICTORY, PRESENT, Judgements
from query2label.data.samples import AllBut, Dataset, Problem, ProblemError, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet

_IMAGE_FOLDERS: Final = ("{split}", "images/{split}", "{split}/data", "images", "data", ".")
_UNPACKED: Final = ("{split}_[0-9a-f]", "images/{split}_[0-9a-f]")
"""What the archives `train_0.tar.gz` to `train_f.tar.gz` unpack to."""


class _Judged(NamedTuple):
    """An image by the name of its file, with what was said about its labels."""

    image: ListedImage
    verdicts: dict[str, int]
    """Id of a label -> 1, 0, or -1 where people contradict each other."""


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads a folder with Open Images' label files.

    Args:
        path: The folder; the files are right in it, in `annotations`, `labels`, `metadata` or `csv`, or where
            FiftyOne saves them.
        labels: The label set and its order. A label that is in an image and not in the set is a problem.
        image_root: Folder that holds the images, perhaps in folders of the splits.
        check_files: Whether images that are not on disk are left out.

    Returns:
        The images by split and id.

    Raises:
        DataError: If there is no file of verified labels, or no image has any label.
    """
    files = label_files(path)
    human = [file for file in files if file.is_human]
    if not human:
        raise DataError(
            f"{path} has no labels that people have verified: expected *-annotations-human-imagelabels*.csv."
        )
    collected = _Collected(path, ImageRoot(image_root or path, check_files=check_files), check_files)
    collected.notes += [
        f"Left out, as nobody has verified them: {file.path.name}." for file in files if not file.is_human
    ]
    collected.read_all(human)
    judged, problems, notes = collected.judged, collected.problems, collected.notes
    names = read_class_names(path)
    wanted = _wanted_names(path, judged, names, notes)
    if not wanted:
        reason = f"{path} has no label that is in any of the {len(judged):,} images there."
        raise DataError(f"{problems[0]}." if problems else reason)
    label_set = labels or LabelSet(wanted)
    outputs_of(wanted, label_set, path, problems)
    output_of = {
        label: label_set.index(name)
        for label in {label for part in judged for label in part.verdicts}
        if (name := names.get(label, label)) in label_set
    }
    found = find_images(collected.root, [part.image for part in judged], lambda name: [name], problems)
    samples: list[Sample] = []
    num_without = 0
    for part, place in zip(judged, found.paths, strict=True):
        known = {
            output_of[label]: verdict
            for label, verdict in part.verdicts.items()
            if label in output_of and verdict != CONTRADICTORY
        }
        if not known:
            num_without += 1
        elif place is not None:
            positive = sorted(output for output, verdict in known.items() if verdict == PRESENT)
            unknown = AllBut(len(label_set), known)
            samples.append(Sample(place, tuple(positive), unknown, split=part.image.split))
    if num_without:
        notes.append(f"Images about which nothing is known for these labels, left out: {num_without:,}.")
    return Dataset(label_set, samples, path, "openimages", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether a folder has files of image-level labels, by their names."""
    return bool(label_files(path))


@dataclass
class _Collected:
    """The images and what the label files say about them."""

    path: Path
    root: ImageRoot
    check_files: bool
    judged: list[_Judged] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read_all(self, files: Sequence[LabelFile]) -> None:
        """Adds the images of all splits.

        Raises:
            DataError: If none is on disk.
        """
        folders = list(dict.fromkeys(file.folder for file in files))
        found = {folder: _images_on_disk(self.root.folder, folder) for folder in folders}
        if self.check_files and not any(found.values()):
            places = ", ".join(_IMAGE_FOLDERS).format(split=folders[0])
            raise DataError(
                f"{self.root.folder} has no image of {' or '.join(folders)}: looked in {places}; name the "
                "folder of the images (image_root, --images)."
            )
        for folder, images in found.items():
            paths = [file.path for file in files if file.folder == folder]
            if images or not self.check_files:
                self._read_split(folder, images if self.check_files else None, paths)
            else:
                self.notes.append(f"Left out, as no image of {folder} is on disk: {_named(paths)}.")
        on_disk = {name for images in found.values() for name in images.values()}
        num_silent = len(on_disk - {part.image.name for part in self.judged})
        if self.check_files and num_silent:
            self.notes.append(
                f"Images on disk of which no verified label is known, left out: {num_silent:,}."
            )

    def _read_split(self, folder: str, images: dict[str, str] | None, files: Sequence[Path]) -> None:
        judgements = Judgements(images)
        for file in files:
            try:
                refuse_outside(file, self.path)
                judgements.read(file, self.problems)
            except ProblemError as error:
                self.problems.append(error.problem)
        if judgements.num_others:
            number = f"{judgements.num_others:,}"
            self.notes.append(
                f"Rows of {_named(files)} about images that are not on disk, left out: {number}."
            )
        for image, verdicts in sorted(judgements.of_image.items()):
            name = f"{folder}/{image}.jpg" if images is None else images[image]
            listed = ListedImage(name, split_name(folder), *judgements.places[image])
            self.judged.append(_Judged(listed, verdicts))


def _named(files: Sequence[Path]) -> str:
    return " and ".join(file.name for file in files)


def _images_on_disk(root: Path, folder: str) -> dict[str, str]:
    """Id -> name below the root, of the images that may be of a split."""
    found: dict[str, str] = {}
    places = [place.format(split=folder) for place in _IMAGE_FOLDERS]
    for pattern in _UNPACKED:
        parts = sorted(root.glob(pattern.format(split=folder)))
        places += [part.relative_to(root).as_posix() for part in parts]
    for where in places:
        try:
            with os.scandir(root / where) as entries:
                names = sorted(entry.name for entry in entries if is_image_name(entry.name))
        except OSError:
            continue
        for name in names:
            found.setdefault(Path(name).stem, f"{where}/{name}")
    return found


def _wanted_names(
    path: Path, judged: Sequence[_Judged], names: Mapping[str, str], notes: list[str]
) -> list[str]:
    """The names of the labels that are in any of the images, in alphabetical order."""
    present = {label for part in judged for label, verdict in part.verdicts.items() if verdict == PRESENT}
    trainable = read_trainable(path)
    wanted = present if trainable is None else present & trainable
    if wanted != present:
        notes.append(f"Labels of the images that are not trainable, left out: {len(present - wanted):,}.")
    nameless = sorted(wanted - names.keys())
    if nameless:
        number = f"{len(nameless):,}"
        notes.append(f"Labels without a name in *class-descriptions*.csv, called by their ids: {number}.")
    for label in nameless:
        check_label_name(label)
    return sorted(names.get(label, label) for label in wanted)
