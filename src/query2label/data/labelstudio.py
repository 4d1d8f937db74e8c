"""Label Studio exports: JSON (tasks with `data` and `annotations`) and JSON-MIN (answers beside the data).

A label is in an image if it is a choice, or the label of a region. Annotations that were cancelled do not
count; of several of one task, those marked as ground truth count, or else all: a label is present if most of
them have it, unknown if exactly half have it, and absent otherwise. Tasks without annotations are left out
and noted. Labels are in alphabetical order, unless `labels.txt` or `classes.txt` beside the file fixes it.
Images are found by name; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from query2label.data.annotation_files import read_json
from query2label.data.file_starts import file_start
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.labelstudio_images import find_task_image
from query2label.data.labelstudio_tasks import Answers, Task, read_tasks
from query2label.data.named_images import NamedImage, as_samples, used_labels
from query2label.data.samples import Dataset, Problem, ProblemError
from query2label.data.sidecar import label_file
from query2label.errors import DataError
from query2label.labels import LabelSet

_LIST: Final = re.compile(rb"\s*\[\s*[{\]]")
_MARK: Final = re.compile(rb'"(annotations|completions|data|annotation_id|annotator|lead_time)"\s*:')
_HEAVY: Final = ("predictions", "prediction", "drafts", "rle", "history")


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads an export, or the folder with exactly one.

    Args:
        path: A JSON file, or a folder with one.
        labels: The label set and its order, before any file's; a label that is not in it is a problem.
        image_root: Folder that holds the images, perhaps in `images`; the file's folder where left out.
        check_files: Whether a missing image file is a problem.

    Returns:
        The images in the order of the tasks.

    Raises:
        ProblemError: If no task can be used. The file is refused so too if it is no list of tasks.
    """
    file = path if path.is_file() else _only_file(path)
    root = ImageRoot(image_root or file.parent, check_files=check_files)
    problems: list[Problem] = []
    notes: list[str] = []
    images: dict[Path, NamedImage] = {}
    num_without = 0
    for task in read_tasks(file, read_json(file, object_hook=_without_heavy), problems, notes):
        if not task.answers:
            num_without += 1
            continue
        try:
            image = _image(file, root, task)
            if image.path in images:
                raise ProblemError(file, f"{task.where}its image is that of {images[image.path].where[:-2]}")
            images[image.path] = image
        except ProblemError as error:
            problems.append(error.problem)
    if problems and not images:
        reason = f"has no task that can be used; the first because: {problems[0].message}"
        raise ProblemError(file, f"{reason} (images that lie elsewhere: --images FOLDER)")
    if num_without:
        notes.append(f"Tasks without annotations, left out: {num_without}.")
    label_set = labels or label_file(file.parent) or used_labels(file, images.values())
    samples = as_samples(images.values(), label_set, problems)
    return Dataset(label_set, samples, path, "labelstudio", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether `path` is a JSON list of objects, or a folder with one that begins as exports do."""
    if path.is_file():
        return path.suffix.lower() == ".json" and _LIST.match(file_start(path)) is not None
    return bool(_files(path))


def _files(folder: Path) -> list[Path]:
    starts = ((file, file_start(file)) for file in sorted(folder.glob("*.json")))
    return [file for file, start in starts if _LIST.match(start) and _MARK.search(start)]


def _only_file(folder: Path) -> Path:
    files = _files(folder)
    if not files:
        raise DataError(f"{folder} has no Label Studio export: expected a .json file with a list of tasks.")
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise DataError(f"{folder} has several exports in it ({names}): name the one that is meant.")
    refuse_outside(files[0], folder)
    return files[0]


def _without_heavy(value: dict[str, Any]) -> dict[str, Any]:
    # Predictions and painted masks are most of such a file: dropping each as it is read saves memory.
    for key in _HEAVY:
        value.pop(key, None)
    return value


def _image(file: Path, root: ImageRoot, task: Task) -> NamedImage:
    try:
        path = find_task_image(root, task.image)
    except DataError as error:
        raise ProblemError(file, f"{task.where}{error}") from error
    counting = [answers for answers in task.answers if answers.is_truth] or task.answers
    votes = Counter(name for answers in counting for name in answers.names)
    positive = [name for name, count in votes.items() if 2 * count > len(counting)]
    unknown = frozenset(name for name, count in votes.items() if 2 * count == len(counting))
    image = NamedImage(path, None, file, task.where, dict.fromkeys(positive), unknown)
    for name in positive:
        image.boxes += _boxes(name, counting)
    return image


def _boxes(name: str, counting: Sequence[Answers]) -> list[Any]:
    """The boxes of a label as one annotator drew them: those of others show the same objects."""
    drawn = ([box for box in answers.boxes if box[0] == name] for answers in counting)
    return next((boxes for boxes in drawn if boxes), [])
