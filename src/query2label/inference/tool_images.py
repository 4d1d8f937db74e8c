"""Images for tools that show the files they lie in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from query2label.errors import ConfigError, DataError
from query2label.inference.prediction import Prediction


def images_for_tool(predictions: Iterable[Prediction], *, tool: str) -> list[tuple[Path, Prediction]]:
    """The absolute path of each image with its prediction; an image that could not be read is left out.

    Args:
        predictions: Of files.
        tool: Its name, for the message.

    Raises:
        DataError: If an image is no file of its own.
    """
    found = []
    for prediction in predictions:
        if prediction.error is not None:
            continue
        path = Path(prediction.source or "").absolute()
        if not path.is_file():
            raise DataError(
                f"{prediction.source} is no file that {tool} could show: unpack the images of archives, and "
                "predict them there."
            )
        found.append((path, prediction))
    return found


def require_folder(folder: Path, *, form: str) -> None:
    """Makes sure that a folder may be written.

    Raises:
        ConfigError: If its name is that of a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give a folder for the format {form}.")
