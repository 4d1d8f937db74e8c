"""Folders that FiftyOne opens: where the images are, and labels of them, each with a confidence.

The form is FiftyOne's `FiftyOneImageClassificationDataset` with several labels per image: `data.json` says by
key where each image is, and any number of label files give lists of labels by the same keys.

    import fiftyone as fo
    dataset = fo.Dataset.from_dir("folder", fo.types.FiftyOneImageClassificationDataset)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from query2label.inference.prediction import Prediction
from query2label.inference.tool_images import images_for_tool, require_folder
from query2label.storage import write_json

DATA_NAME: Final = "data.json"
LABELS_NAME: Final = "labels.json"
"""What FiftyOne reads where no other name is given."""


@dataclass(frozen=True)
class Classification:
    """One label of an image."""

    label: str
    confidence: float | None = None
    """In [0, 1]; None for what people said."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What else is to be said, such as its threshold."""

    def to_dict(self) -> dict[str, Any]:
        """In FiftyOne's form."""
        found: dict[str, Any] = {"label": self.label}
        if self.confidence is not None:
            found["confidence"] = self.confidence
        return found | ({"attributes": dict(self.attributes)} if self.attributes else {})


def write_images(folder: Path, images: Sequence[Path]) -> None:
    """Writes where the images are; their keys are their numbers, in order."""
    write_json(folder / DATA_NAME, {_key(i): str(path.absolute()) for i, path in enumerate(images)})


def write_labels(
    folder: Path, labels: Sequence[str], rows: Iterable[Sequence[Classification]], *, name: str = LABELS_NAME
) -> None:
    """Writes one file of labels, a list of them for each image in the order of `write_images`.

    Args:
        folder: Where the images were written.
        labels: All names that may occur; FiftyOne keeps them as the data set's classes.
        rows: The labels of each image.
        name: Of the file.
    """
    found = {_key(i): [each.to_dict() for each in row] for i, row in enumerate(rows)}
    write_json(folder / name, {"classes": list(labels), "labels": found})


def save_fiftyone(predictions: Iterable[Prediction], folder: Path, labels: Sequence[str]) -> int:
    """Writes predicted labels with their scores; gives the number of images.

    An image that could not be read is left out. A refused write is a `StorageError`, a file in the folder's
    place a `ConfigError`, an image in an archive a `DataError`.

    Args:
        predictions: Of files; their images are kept where they are.
        folder: Where to write; files of these names are replaced.
        labels: Names of all labels, in output order.
    """
    require_folder(folder, form="fiftyone")
    found = images_for_tool(predictions, tool="FiftyOne")
    write_images(folder, [path for path, _ in found])
    write_labels(folder, labels, (predicted_labels(prediction) for _, prediction in found))
    return len(found)


def predicted_labels(prediction: Prediction) -> list[Classification]:
    """The predicted labels of an image, best first, each with its score and threshold."""
    return [
        Classification(label, prediction.scores[label], _threshold(prediction, label))
        for label in prediction.labels
    ]


def _threshold(prediction: Prediction, label: str) -> dict[str, float]:
    return {"threshold": prediction.thresholds[label]} if label in prediction.thresholds else {}


def _key(number: int) -> str:
    return f"{number:08d}"
