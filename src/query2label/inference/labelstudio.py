"""Folders that Label Studio imports: tasks with predictions to accept or correct, and its labelling form.

`config.xml` is the labelling form (Settings, Labeling Interface, Code), `tasks.json` the tasks to import.
Images stay where they are; Label Studio serves them as local files below the folder in
`LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`, to which the tasks' paths are relative.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from query2label.inference.prediction import Prediction
from query2label.inference.tool_images import images_for_tool, require_folder
from query2label.storage import atomic_file, write_json

TASKS_NAME: Final = "tasks.json"
FORM_NAME: Final = "config.xml"
_QUESTION: Final = "labels"
_LOCAL_FILES: Final = "/data/local-files/?d="


def task(
    image: str,
    *,
    predicted: Mapping[str, float],
    given: Sequence[str] | None = None,
    version: str = "query2label",
) -> dict[str, Any]:
    """One task: an image with predicted labels, and with those that it has been given, where it has.

    Args:
        image: Its path below the folder that Label Studio serves.
        predicted: Score of each predicted label; the lowest is the task's, by which tasks can be sorted.
        given: Names of the labels that people gave it.
        version: What to call the model.
    """
    found: dict[str, Any] = {
        "data": {"image": _LOCAL_FILES + quote(image, safe="/")},
        "predictions": [
            {
                "model_version": version,
                "score": min(predicted.values(), default=0.0),
                "result": [_choices(list(predicted))],
            }
        ],
    }
    return found | ({} if given is None else {"annotations": [{"result": [_choices(list(given))]}]})


def write_tasks(folder: Path, labels: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> None:
    """Writes the tasks and the labelling form for them; a file in the folder's place is a `ConfigError`."""
    require_folder(folder, form="labelstudio")
    write_json(folder / TASKS_NAME, list(tasks))
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    with atomic_file(folder / FORM_NAME) as file:
        file.write(
            f'<View>\n  <Image name="image" value="$image"/>\n'
            f'  <Choices name="{_QUESTION}" toName="image" choice="multiple">\n{choices}\n'
            "  </Choices>\n</View>\n"
        )


def save_labelstudio(predictions: Iterable[Prediction], folder: Path, labels: Sequence[str]) -> Path:
    """Writes tasks with predicted labels; gives the folder that Label Studio has to serve.

    An image that could not be read is left out. A refused write is a `StorageError`, a file in the folder's
    place a `ConfigError`, an image in an archive a `DataError`.

    Args:
        predictions: Of files; their images are kept where they are.
        folder: Where to write; files of these names are replaced.
        labels: Names of all labels, in output order.
    """
    require_folder(folder, form="labelstudio")
    found = images_for_tool(predictions, tool="Label Studio")
    root = Path(os.path.commonpath([path.parent for path, _ in found])) if found else Path.cwd()
    tasks = [
        task(path.relative_to(root).as_posix(), predicted={label: row.scores[label] for label in row.labels})
        for path, row in found
    ]
    write_tasks(folder, labels, tasks)
    return root


def _choices(names: Sequence[str]) -> dict[str, Any]:
    return {"from_name": _QUESTION, "to_name": "image", "type": "choices", "value": {"choices": list(names)}}
