"""Reading back the rows that `save_predictions` wrote."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from query2label.data.annotation_files import parse_json
from query2label.errors import DataError
from query2label.extras import import_extra
from query2label.inference.prediction import Prediction
from query2label.spreadsheet import original_cell

FORMS: Final = ("jsonl", "csv", "parquet")
_PURPOSE: Final = "Reading Parquet files"
_ROWS_AT_ONCE: Final = 256


def saved_labels(path: Path) -> tuple[str, ...]:
    """The labels that a file of predictions has scores of, in output order.

    A file that cannot be read, or is of another form, is a `DataError`.

    Raises:
        DataError: If there is none.
    """
    if path.suffix == ".jsonl":
        labels = next((tuple(row["scores"]) for row in _json_rows(path) if row["scores"]), ())
    else:
        columns = _parquet_columns(path) if path.suffix == ".parquet" else _csv_header(path)
        labels = tuple(name.removeprefix("score:") for name in columns if name.startswith("score:"))
    if not labels:
        raise DataError(f"{path} has no scores in it: it is no file that `q2l predict` wrote.")
    return labels


def saved_predictions(path: Path, labels: Sequence[str]) -> Iterator[Prediction]:
    """The predictions in a file one by one: image, error, scores, logits where they were kept; no labels.

    A file that cannot be read, or is of another form, is a `DataError` where it goes wrong.

    Args:
        path: Its name ends with `.jsonl`, `.csv` or `.parquet`.
        labels: Of the scores and logits, in output order.
    """
    if path.suffix == ".jsonl":
        for row in _json_rows(path):
            yield _prediction(path, row["image"], row["error"], row["scores"], row.get("logits", {}), labels)
        return
    for row in _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path):
        scores, logits = (
            {
                label: row[f"{kind}:{label}"]
                for label in labels
                if row.get(f"{kind}:{label}") not in {None, ""}
            }
            for kind in ("score", "logit")
        )
        yield _prediction(path, row.get("image"), row.get("error"), scores, logits, labels)


def _prediction(
    path: Path,
    image: Any,
    error: Any,
    scores: Mapping[str, Any],
    logits: Mapping[str, Any],
    labels: Sequence[str],
) -> Prediction:
    try:
        if error:
            return Prediction(source=str(image), error=str(error))
        return Prediction(
            source=str(image),
            scores={label: float(scores[label]) for label in labels},
            logits={label: float(logits[label]) for label in labels} if logits else {},
        )
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} has a row for {image!r:.80} without the numbers of all labels.") from None


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = parse_json(line)
        except DataError as error:
            raise DataError(f"{path}:{number} {error}.") from None
        if not isinstance(row, dict) or not {"image", "error"} <= row.keys():
            raise DataError(f"{path}:{number} is not a row that `q2l predict` wrote.")
        if not all(isinstance(row.get(name, {}), dict) for name in ("scores", "logits")):
            raise DataError(f"{path}:{number} is not a row that `q2l predict` wrote.")
        yield {"scores": {}, **row}


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        for row in csv.DictReader(_lines(path), strict=True):
            yield {**row, **{name: original_cell(row[name] or "") for name in ("image", "error")}}
    except (csv.Error, KeyError):
        raise DataError(f"{path} is not a CSV file that `q2l predict` wrote.") from None


def _csv_header(path: Path) -> Iterable[str]:
    return csv.DictReader(_lines(path)).fieldnames or ()


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from file
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.") from None


def _parquet_columns(path: Path) -> list[str]:
    with _explained(path), _opened(path) as file:
        return list(file.schema_arrow.names)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    with _explained(path), _opened(path) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            yield from batch.to_pylist()


def _opened(path: Path) -> Any:
    return import_extra("pyarrow.parquet", extra="parquet", purpose=_PURPOSE).ParquetFile(path)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    arrow = import_extra("pyarrow", extra="parquet", purpose=_PURPOSE)
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataError(f"{path} is not a Parquet file that can be read: {reason}.") from None
