"""Predictions as the PASCAL VOC evaluation server takes them: one file per label, a line per image.

The files are named and laid out as the VOC 2012 development kit has them:
`results/VOC2012/Main/comp2_cls_test_<label>.txt`, with lines `<image id> <confidence>`. `comp1` is the
competition of models that learned from VOC's own images only, `comp2` that of all others, such as those
that start from ImageNet weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from query2label.errors import ConfigError, DataError
from query2label.inference.prediction import Prediction
from query2label.storage import TEMPORARY_PREFIX, atomic_folder

Competition = Literal["comp1", "comp2"]

RESULTS_FOLDER: Final = Path("results") / "VOC2012" / "Main"


class VocResults:
    """Result files for the VOC server, to be written once all images are scored.

    Args:
        folder: Gets `results/VOC2012/Main` in it.
        labels: Names of all labels, in output order.
        competition: `comp1` or `comp2`.
        split: Name of the images' split; the server's is `test`.

    Raises:
        ConfigError: If the folder is a file or holds other results, or a label or split cannot be part of a
            file's name.
    """

    def __init__(
        self,
        folder: Path,
        labels: Sequence[str],
        *,
        competition: Competition = "comp2",
        split: str = "test",
    ) -> None:
        self.folder = Path(folder) / RESULTS_FOLDER
        self._names = [f"{competition}_cls_{split}_{label}.txt" for label in labels]
        unfit = [part for part in (split, *labels) if "/" in part or "\0" in part]
        if unfit:
            raise ConfigError(f"{unfit[0]!r} cannot be part of a file's name, so there are no VOC results.")
        for path in (self.folder, *self.folder.parents):
            if path.exists() and not path.is_dir():
                raise ConfigError(f"{path} is a file: name a folder for the VOC results.")
        others = self._others()
        if others:
            raise ConfigError(f"{self.folder} holds other results ({others[0]}): name another folder.")

    def write(self, predictions: Iterable[Prediction]) -> int:
        """Writes all files, or none.

        A refused write and a full disk are each a `StorageError`.

        Args:
            predictions: One per image; they are taken one by one, and only ids and scores are kept.

        Returns:
            The number of images.

        Raises:
            DataError: If an image cannot be read, or its name gives no id of its own.
        """
        scores: dict[str, np.ndarray] = {}
        for prediction in predictions:
            if prediction.error is not None:
                reason = prediction.error.rstrip(".")
                raise DataError(
                    f"{prediction.source} cannot be read: {reason}; the VOC server wants every image, so "
                    "nothing is written."
                )
            scores[_new_id(prediction, scores)] = np.fromiter(prediction.scores.values(), dtype=np.float32)
        with atomic_folder(self.folder) as folder:
            for column, name in enumerate(self._names):
                lines = (f"{image_id} {_decimal(row[column])}\n" for image_id, row in scores.items())
                (folder / name).write_text("".join(lines), encoding="utf-8", newline="\n")
        return len(scores)

    def _others(self) -> list[str]:
        """Files that would be lost: those that are not written anew."""
        found = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return [name for name in found if name not in self._names and not name.startswith(TEMPORARY_PREFIX)]


def _new_id(prediction: Prediction, seen: dict[str, np.ndarray]) -> str:
    image_id = Path(prediction.source or "").stem
    if not image_id or not image_id.isprintable() or " " in image_id:
        raise DataError(f"{prediction.source!r} gives no VOC image id: name the file like 2008_000001.jpg.")
    if image_id in seen:
        raise DataError(f"Two images have the VOC image id {image_id}; the second is {prediction.source}.")
    return image_id


def _decimal(score: np.float32) -> str:
    """The shortest decimal number, without exponent, that tells this score from all others."""
    return np.format_float_positional(score, unique=True, trim="0")
