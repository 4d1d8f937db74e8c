"""What a model says about one image."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from query2label.decode import ImageSource, load_image
from query2label.errors import ConfigError, DataError, ImageError
from query2label.inference.drawing import LabelScore
from query2label.inference.notebook import prediction_html
from query2label.inference.plot import found_heading, plot_error, plot_scores
from query2label.storage import atomic_file

_NUM_BELOW: Final = 3
"""Labels that a picture shows where none is predicted."""
PICTURE_FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Prediction:
    """The labels of one image, with the scores of all labels."""

    labels: tuple[str, ...] = ()
    """Names of the predicted labels, best first."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Score in [0, 1] of every label of the model, in output order; empty for a broken image."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """The threshold of every label that was used; empty for a broken image."""
    source: str | None = None
    """Path of the image, where it came from a file."""
    error: str | None = None
    """Why there is no prediction: the image cannot be read."""
    logits: Mapping[str, float] = field(default_factory=dict)
    """What scores are made of, where that was to be kept; any number, one per label."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: image (its path), labels (best first), scores, error, logits if kept."""
        logits = {"logits": dict(self.logits)} if self.logits else {}
        return {
            "image": self.source,
            "labels": list(self.labels),
            "scores": dict(self.scores),
            "error": self.error,
            **logits,
        }

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)

    def plot(self, image: ImageSource | None = None) -> Image.Image:
        """A picture of the photo and its labels: each score, on a bar with a tick at the label's threshold.

        Where no label is predicted, the three best ones are shown in grey; where there is an `error`, the
        picture says why.

        Args:
            image: The photo; unset: the file it came from.

        Returns:
            RGB, at most 1,084 pixels wide, whatever the size of the photo.

        Raises:
            ConfigError: If the photo did not come from a file and is not given.
            DataError: If it cannot be read (any more).
        """
        title = self._title()
        if self.error is not None:
            return plot_error(self.error, title=title)
        photo = self.source if image is None else image
        if photo is None:
            raise ConfigError(
                "The image of this prediction did not come from a file: give it to plot(image)."
            )
        try:
            pixels = load_image(photo)
        except ImageError as error:
            name = photo if isinstance(photo, str | Path) else "the image"
            raise DataError(f"Cannot draw {name}: {error}") from None
        return plot_scores(pixels, self._rows(), title=title, num_found=len(self.labels))

    def save(self, path: Path | str) -> None:
        """Writes the prediction to a file, which appears as a whole or not at all.

        A photo that cannot be drawn is an error as in `plot`, a refused write a `StorageError`.

        Args:
            path: `.json` for the values of `to_dict`, `.png` or `.jpg` for the picture of `plot`.

        Raises:
            ConfigError: If the name ends otherwise.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            with atomic_file(path) as file:
                file.write(json.dumps(self.to_dict(), indent=2, ensure_ascii=True, allow_nan=False) + "\n")
        elif suffix in PICTURE_FORMATS:
            picture = self.plot()
            with atomic_file(path, mode="wb") as file:
                picture.save(file, format=PICTURE_FORMATS[suffix], quality=92)
        else:
            raise ConfigError(f"Cannot save a prediction as {path}: end the name with .json, .png or .jpg.")

    def _repr_html_(self) -> str:
        """What Jupyter shows: the photo, if its file can still be read, and its labels."""
        photo = None
        if self.source is not None and self.error is None:
            with contextlib.suppress(ImageError):
                photo = load_image(self.source)
        heading = self.error or found_heading(len(self.labels))
        return prediction_html(self._rows(), title=self._title(), heading=heading, photo=photo)

    def _title(self) -> str:
        return Path(self.source).name if self.source is not None else "image"

    def _rows(self) -> list[LabelScore]:
        best = sorted(self.scores, key=lambda label: -self.scores[label])[:_NUM_BELOW]
        return [
            LabelScore(label, self.scores[label], self.thresholds.get(label), label in self.labels)
            for label in self.labels or best
        ]

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels) or "no label"
        source = f"{self.source!r}: " if self.source is not None else ""
        return f"<Prediction {source}{'error: ' + self.error if self.error is not None else found}>"


def choose_labels(
    scores: Float[np.ndarray, " K"],
    reached: Bool[np.ndarray, " K"] | None,
    labels: Sequence[str],
    *,
    top_k: int | None,
) -> tuple[str, ...]:
    """Names of the chosen labels, best first; equal scores keep the order of the labels.

    Args:
        scores: One per label.
        reached: Whether each score reaches its threshold; None: it does not matter.
        labels: Their names.
        top_k: At most so many; None for any number.
    """
    order = np.argsort(-scores, kind="stable")
    if reached is not None:
        order = order[reached[order]]
    return tuple(labels[index] for index in order[:top_k])
