"""The tasks in a Label Studio export, and what annotators answered, whatever the form of the export."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from query2label.data.extents import Extent, box_extent, ellipse_extent, number, outline_extent
from query2label.data.labelstudio_images import image_key
from query2label.data.samples import Problem, ProblemError
from query2label.errors import DataError

# What JSON-MIN writes beside the data and the answers.
_RECORD_KEYS: Final = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
)
_REGION_KEYS: Final = ("x", "y", "points")
_SHAPES_WITHOUT_LABEL: Final = frozenset(
    {"rectangle", "ellipse", "polygon", "keypoint", "brush", "vector", "relation"}
)


@dataclass(slots=True)
class Answers:
    """What one annotator said about an image."""

    names: set[str] = field(default_factory=set)
    boxes: list[tuple[str, Extent]] = field(default_factory=list)
    is_truth: bool = False


@dataclass(slots=True)
class Task:
    """One image and everybody's answers; none where nobody annotated it."""

    where: str
    """What begins a message about it, for example `task 7: `."""
    image: str
    answers: list[Answers]


def read_tasks(file: Path, value: Any, problems: list[Problem], notes: list[str]) -> list[Task]:
    """The tasks of an export, in its order; what is wrong or left out is added to `problems` and `notes`.

    Raises:
        ProblemError: If the value is no list of tasks.
    """
    if not isinstance(value, list):
        raise ProblemError(file, "is no Label Studio export: expected a list of tasks, [{...}, ...]")
    has_data = any(isinstance(_member(record, "data"), dict) for record in value)
    groups = [[record] for record in value] if has_data else _by_task(value)
    reader = _Reader(frozenset() if has_data else _questions(value))
    tasks: list[Task] = []
    for place, records in enumerate(groups):
        number_of_task = _member(records[0], "id")
        where = f"task {place} of the list: " if number_of_task is None else f"task {number_of_task}: "
        try:
            tasks.append(reader.full_task(where, records[0]) if has_data else reader.task(where, records))
        except DataError as error:
            problems.append(Problem(file, f"{where}{error}"))
    notes += reader.notes()
    return tasks


def _by_task(records: list[Any]) -> list[list[Any]]:
    """JSON-MIN has one record per annotation: those with one id are of one task."""
    groups: dict[Any, list[Any]] = {}
    for place, record in enumerate(records):
        number_of_task = _member(record, "id")
        is_known = isinstance(number_of_task, str | int)
        groups.setdefault(number_of_task if is_known else (place,), []).append(record)
    return list(groups.values())


def _questions(records: list[Any]) -> frozenset[str]:
    """The members of JSON-MIN records that are answers of one choice, which are plain strings.

    They are those that have several choices in another record; and those between `id` and `annotator`, where
    the data come first. Without these two, all strings but the image count.
    """
    found: set[str] = set()
    for record in records:
        if not isinstance(record, dict):
            continue
        keys = list(record)
        known = {key for key in keys if isinstance(_member(record[key], "choices"), list)}
        if "id" in keys and "annotator" in keys:
            keys = keys[keys.index("id") : keys.index("annotator")]
        skipped = {image_key(record), *_RECORD_KEYS}
        found |= known | {key for key in keys if isinstance(record[key], str) and key not in skipped}
    return frozenset(found)


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _refuse(reason: str) -> NoReturn:
    raise DataError(reason)


class _Reader:
    def __init__(self, questions: frozenset[str]) -> None:
        self._questions = questions
        self._unread: set[str] = set()
        self._asked: defaultdict[str, set[str]] = defaultdict(set)
        """Choice -> the questions that it answers."""

    def notes(self) -> list[str]:
        notes = [
            f"{choice!r} answers several questions ({', '.join(sorted(names))}) and is one label here."
            for choice, names in self._asked.items()
            if len(names) > 1
        ]
        if self._questions:
            notes.append(f"Read as choices: {', '.join(sorted(self._questions))}.")
        if self._unread:
            notes.append(f"Answers of these kinds are not read: {', '.join(sorted(self._unread))}.")
        return notes

    def full_task(self, where: str, task: Any) -> Task:
        """A task of the JSON export: `data`, and `annotations` with a list `result` each."""
        data = _member(task, "data")
        if not isinstance(data, dict):
            _refuse("it has no data")
        # Before version 1.0 they were called completions.
        annotations = task.get("annotations") or task.get("completions") or []
        if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
            _refuse("its annotations are no list of objects")
        answers = []
        for annotation in annotations:
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                continue
            results = annotation.get("result")
            if not isinstance(results, list):
                _refuse("an annotation has no list called result")
            found = Answers(is_truth=annotation.get("ground_truth") is True)
            for result in results:
                kind, value = _member(result, "type"), _member(result, "value")
                size = _member(result, "original_width"), _member(result, "original_height")
                self._add(found, str(kind), value, str(_member(result, "from_name")), size)
            answers.append(found)
        return Task(where, _image(data), answers)

    def task(self, where: str, records: list[Any]) -> Task:
        """A task of the JSON-MIN export: one object per annotation, with data and answers side by side."""
        answers = []
        for record in records:
            if not isinstance(record, dict):
                _refuse(f"it is {str(record)[:40]}: expected an object")
            found = Answers()
            for key, value in record.items():
                if key in self._questions:
                    self._add_answer(found, key, value)
                elif isinstance(value, list):
                    for region in value:
                        self._add_answer(found, key, region)
            if record.get("annotation_id", 0) is not None:
                answers.append(found)
        return Task(where, _image(records[0]), answers)

    def _add_answer(self, answers: Answers, question: str, value: Any) -> None:
        if isinstance(value, str):
            value = {"choices": [value]}
        for kind in value if isinstance(value, dict) else ():
            if kind == "choices" or kind.endswith("labels"):
                size = value.get("original_width"), value.get("original_height")
                self._add(answers, kind, value, question, size)

    def _add(
        self, answers: Answers, kind: str, value: Any, question: str, size: tuple[object, object]
    ) -> None:
        is_region = any(key in value for key in _REGION_KEYS) if isinstance(value, dict) else False
        if kind == "choices" and is_region:
            self._unread.add("choices of a region")
            return
        if kind != "choices" and not kind.endswith("labels"):
            if kind not in _SHAPES_WITHOUT_LABEL:
                self._unread.add(kind)
            return
        names = _member(value, kind)
        if isinstance(names, str):
            names = [names]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            _refuse(f"an answer of the kind {kind} has no list of names called {kind}")
        names = [name.strip() for name in names]
        if kind == "choices":
            for name in names:
                self._asked[name].add(question)
        answers.names.update(names)
        extent = _extent(value, size) if is_region else None
        if extent is not None:
            answers.boxes += [(name, extent) for name in names]


def _image(data: dict[str, Any]) -> str:
    key = image_key(data)
    if key is None:
        _refuse(f"it names no image: its data are {', '.join(map(repr, list(data)[:5]))}")
    return str(data[key])


def _extent(value: dict[str, Any], size: tuple[object, object]) -> Extent | None:
    """The extent of a region, whose numbers are percent of the image's size; None where it has no area."""
    if None in size:
        return None
    across, down = (number(side, "the original size") / 100 for side in size)
    degrees = number(value.get("rotation") or 0, "rotation")
    if isinstance(value.get("points"), list):
        return _polygon(value["points"], across, down)
    left, top = number(value.get("x"), "x") * across, number(value.get("y"), "y") * down
    if "radiusX" in value:
        radii = number(value["radiusX"], "radiusX") * across, number(value.get("radiusY"), "radiusY") * down
        return ellipse_extent(left, top, *radii, degrees=degrees)
    if "height" not in value:
        return None
    width, height = number(value.get("width"), "width") * across, number(value["height"], "height") * down
    box = box_extent(left, top, width, height)
    if degrees == 0:
        return box
    # A turned box was turned about its top left corner.
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [
        (x * cosine - y * sine, x * sine + y * cosine)
        for x, y in ((0, 0), (width, 0), (width, height), (0, height))
    ]
    return outline_extent([left + x for x, _ in corners], [top + y for _, y in corners])


def _polygon(points: list[Any], across: float, down: float) -> Extent:
    if not all(isinstance(point, list) and len(point) == 2 for point in points):
        _refuse("the points of a polygon are no pairs of x and y")
    xs = [number(point[0], "x") * across for point in points]
    ys = [number(point[1], "y") * down for point in points]
    return outline_extent(xs, ys)
