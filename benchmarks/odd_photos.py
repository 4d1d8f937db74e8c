"""Exported files against their bundle in torch, on photos as people have them: turned, grey, CMYK, odd sizes.

    python -m benchmarks.odd_photos --photos VOC2012 --bundle BUNDLE --model model.onnx int8.onnx model.xml

Photos are saved anew in each form. The table has, per form and file, the largest and the mean difference of a
score in [0, 1], and how many photos get the same set of labels.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from query2label.inference.inputs import images_in
from query2label.inference.prediction import Prediction
from query2label.inference.predictor import Predictor

ORIENTATION = 274
SIZES = ((501, 37), (33, 447), (1, 1))


def jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    """A JPEG file with an EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def see_through(image: Image.Image) -> bytes:
    """A PNG file with a palette, of which one colour is transparent."""
    file = io.BytesIO()
    image.convert("P").save(file, "PNG", transparency=3)
    return file.getvalue()


FORMS: dict[str, Callable[[Image.Image], list[bytes]]] = {
    "as it is": lambda photo: [jpeg(photo)],
    "EXIF orientation 3, 6, 8": lambda photo: [jpeg(photo, orientation) for orientation in (3, 6, 8)],
    "grey": lambda photo: [jpeg(photo.convert("L"))],
    "CMYK": lambda photo: [jpeg(photo.convert("CMYK"))],
    "501 x 37, 33 x 447, 1 x 1": lambda photo: [jpeg(photo.resize(size)) for size in SIZES],
    "palette, transparent": lambda photo: [see_through(photo)],
}


def scores_of(predictions: list[Prediction]) -> np.ndarray:
    """All scores (n, K)."""
    return np.array([list(prediction.scores.values()) for prediction in predictions])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="a folder with photos below it")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--model", nargs="+", required=True, help="files exported from the bundle")
    parser.add_argument("--count", type=int, default=25, help="photos, spread over all")
    chosen = parser.parse_args()

    paths = list(images_in(chosen.photos))
    photos = [
        Image.open(path).convert("RGB")
        for path in paths[:: max(1, len(paths) // chosen.count)][: chosen.count]
    ]
    reference = Predictor.load(chosen.bundle)
    files = {Path(model).name: Predictor.load(model) for model in chosen.model}
    table = Table("photos", "file", "largest difference", "mean", "same labels")
    for form, made in FORMS.items():
        contents = [content for photo in photos for content in made(photo)]
        expected = reference(contents)
        for name, predictor in files.items():
            found = predictor(contents)
            difference = np.abs(scores_of(found) - scores_of(expected))
            same = sum(
                set(ours.labels) == set(theirs.labels) for ours, theirs in zip(found, expected, strict=True)
            )
            table.add_row(
                form,
                name,
                f"{difference.max():.0e}",
                f"{difference.mean():.1e}",
                f"{same} of {len(contents)}",
            )
        table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
