"""Predictions as files for other programs: JSON lines, CSV and Parquet.

Every form has the image, its labels (best first), an error for an image that cannot be read, and the score of
each label, and its logit where that is kept; each can be read back as a table of labelled images.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol, runtime_checkable

from query2label.errors import ConfigError
from query2label.extras import import_extra
from query2label.inference.prediction import Prediction
from query2label.spreadsheet import inert_cell
from query2label.storage import atomic_file

LABEL_SEPARATOR: Final = "|"
_ROWS_PER_GROUP: Final = 256


@runtime_checkable
class TextSink(Protocol):
    """An open text file."""

    def write(self, text: str, /) -> object:
        """Takes more text."""
        ...

    def flush(self) -> object:
        """Lets everybody see what was written."""
        ...


def save_predictions(
    predictions: Iterable[Prediction],
    path: Path,
    labels: Sequence[str],
    *,
    form: str,
    keep_logits: bool = False,
) -> None:
    """Writes predictions to a file, which appears when the last one is written, or not at all.

    Args:
        predictions: They are taken one by one, and not kept.
        path: The file; one that is there is replaced.
        labels: Names of all labels, in output order.
        form: `jsonl`, `csv` or `parquet`.
        keep_logits: Whether there are columns of logits; JSON lines have those that predictions have.

    A missing package (for Parquet) is a `MissingExtraError`, a refused write a `StorageError`.
    """
    write: Callable[[Iterable[Prediction], Any], None]
    if form == "parquet":
        write = _parquet_writer(labels, keep_logits=keep_logits)
    else:
        write = stream_writer(labels, form=form, keep_logits=keep_logits)
    with atomic_file(path, mode="wb" if form == "parquet" else "w") as file:
        write(predictions, file)


def stream_writer(
    labels: Sequence[str], *, form: str, keep_logits: bool = False
) -> Callable[[Iterable[Prediction], TextSink], None]:
    """What writes predictions to an open text file, row by row as they come.

    Raises:
        ConfigError: If `form` cannot be written to a stream of text.
    """
    if form == "jsonl":
        return _write_jsonl
    if form == "csv":
        return lambda predictions, file: _write_csv(predictions, file, labels, keep_logits=keep_logits)
    raise ConfigError(f"The format {form} needs a file to write to: give --out.")


def _write_jsonl(predictions: Iterable[Prediction], file: TextSink) -> None:
    for prediction in predictions:
        file.write(f"{prediction.to_json()}\n")
        file.flush()


def _write_csv(
    predictions: Iterable[Prediction], file: TextSink, labels: Sequence[str], *, keep_logits: bool
) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["image", "labels", "error", *number_columns(labels, keep_logits=keep_logits)])
    for prediction in predictions:
        row = _row(prediction, labels)
        texts = (row["image"], LABEL_SEPARATOR.join(row["labels"]), row["error"])
        scores = ("" if score is None else f"{score:.7g}" for score in row["scores"])
        # Nine digits give the very number back.
        logits = ("" if logit is None else f"{logit:.9g}" for logit in row["logits"] if keep_logits)
        writer.writerow([*map(inert_cell, texts), *scores, *logits])
        file.flush()


def number_columns(labels: Sequence[str], *, keep_logits: bool) -> list[str]:
    """Names of the columns of scores, and of logits after them."""
    kinds = ("score", "logit") if keep_logits else ("score",)
    return [f"{kind}:{label}" for kind in kinds for label in labels]


def _parquet_writer(
    labels: Sequence[str], *, keep_logits: bool
) -> Callable[[Iterable[Prediction], IO[bytes]], None]:
    arrow = import_extra("pyarrow", extra="parquet", purpose="Writing Parquet files")
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="Writing Parquet files")
    texts = [("image", arrow.string()), ("labels", arrow.list_(arrow.string())), ("error", arrow.string())]
    numbers = number_columns(labels, keep_logits=keep_logits)
    schema = arrow.schema([*texts, *((name, arrow.float32()) for name in numbers)])

    def write(predictions: Iterable[Prediction], file: IO[bytes]) -> None:
        with parquet.ParquetWriter(file, schema) as writer:
            for group in _groups(predictions):
                rows = [_row(prediction, labels) for prediction in group]
                columns = [[row[name] for row in rows] for name, _ in texts]
                cells = [row["scores"] + row["logits"][: len(numbers) - len(labels)] for row in rows]
                columns += [list(column) for column in zip(*cells, strict=True)]
                writer.write_table(
                    arrow.Table.from_arrays(
                        [
                            arrow.array(column, field.type)
                            for column, field in zip(columns, schema, strict=True)
                        ],
                        schema=schema,
                    )
                )

    return write


def _row(prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    # A file name that is no valid UTF-8 cannot be written as it is.
    image = (prediction.source or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {
        "image": image,
        "labels": list(prediction.labels),
        "error": prediction.error or "",
        "scores": [prediction.scores.get(label) for label in labels],
        "logits": [prediction.logits.get(label) for label in labels],
    }


def _groups(predictions: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    rest = iter(predictions)
    while group := list(islice(rest, _ROWS_PER_GROUP)):
        yield group
