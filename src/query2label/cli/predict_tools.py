"""Predictions for other programs to look at: folders for FiftyOne and Label Studio."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from query2label.cli.terminal import printable_name

if TYPE_CHECKING:
    from query2label.inference.prediction import Prediction


def write_for_tool(
    predictions: Iterable[Prediction], out: Path, labels: tuple[str, ...], *, form: str
) -> None:
    """Writes the folder for `fiftyone` or `labelstudio`, and says how it is opened there."""
    if form == "fiftyone":
        from query2label.inference.fiftyone import save_fiftyone

        num_images = save_fiftyone(predictions, out, labels)
        told = (
            f"{num_images} images; fo.Dataset.from_dir({str(out)!r}, "
            "fo.types.FiftyOneImageClassificationDataset) opens it."
        )
    else:
        from query2label.inference.labelstudio import save_labelstudio

        root = save_labelstudio(predictions, out, labels)
        told = (
            "tasks.json to import and config.xml, the labelling form; Label Studio finds the images with "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root}."
        )
    typer.echo(printable_name(f"Written: {out}, {told}"))
