"""What the arguments of `q2l predict` stand for: samples, which are files or parts of archives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from query2label.data.load import load_dataset
from query2label.data.samples import Sample
from query2label.errors import DataError, ImageError
from query2label.inference.inputs import expand_inputs
from query2label.inference.prediction import Prediction
from query2label.inference.predictor import Predictor


def samples_of(arguments: Iterable[str], *, split: str | None = None) -> list[Sample]:
    """The images that arguments stand for, in their order; nothing there, or wrong data, is a `DataError`.

    Args:
        arguments: As for `expand_inputs`; with a split, each the path of a data set.
        split: Takes the images of this split of each data set, whether or not their labels are known.
    """
    if split is None:
        return [Sample(path) for path in expand_inputs(arguments)]
    return [sample for path in arguments for sample in load_dataset(path, split=split).samples]


def predict_samples(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    top_k: int | None = None,
    threshold: float | dict[str, float] | None = None,
    batch_size: int = 16,
) -> Iterator[Prediction]:
    """Predictions of samples, one after the other; options as in `Predictor.stream`.

    An image in an archive is read when its turn comes, and its prediction has the name that the sample has
    for people as its source; an archive that cannot be read any more is a `DataError`.
    """
    predictions = predictor.stream(
        map(_source, samples), top_k=top_k, threshold=threshold, batch_size=batch_size
    )
    for prediction, sample in zip(predictions, samples, strict=True):
        yield replace(prediction, source=str(sample.path))


def _source(sample: Sample) -> Path | bytes:
    try:
        return sample.image_source()
    except ImageError as error:
        raise DataError(f"{sample.path} cannot be read: {error}") from None
