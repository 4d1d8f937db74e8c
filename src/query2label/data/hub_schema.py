"""Which columns of a Parquet or Arrow file hold photos and their labels, by its schema.

The `datasets` library writes what its columns mean into the schema's metadata: which are images, and what
names the numbers in a column of labels stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from query2label.data.annotation_files import check_label_name, parse_json
from query2label.data.columns import IMAGE_COLUMNS, LABEL_COLUMNS, UNKNOWN_COLUMNS
from query2label.data.samples import ProblemError
from query2label.errors import DataError, MissingExtraError
from query2label.extras import import_extra
from query2label.labels import LabelSet

PURPOSE: Final = "Reading images out of Parquet and Arrow files"
_BYTES: Final = "bytes"
_METADATA_KEY: Final = b"huggingface"
_MAX_DEPTH: Final = 4


@dataclass(frozen=True)
class ImageColumn:
    """The column with the images."""

    name: str
    in_struct: bool
    """Whether an image is a structure with its bytes and the path that it had."""

    @property
    def leaf(self) -> str:
        """The column of bytes, as Parquet names it."""
        return f"{self.name}.{_BYTES}" if self.in_struct else self.name


@dataclass(frozen=True)
class HubColumns:
    """The columns that are read."""

    image: ImageColumn
    label: str
    unknown: str | None
    names: LabelSet | None
    """What indices in the columns of labels stand for."""
    spare: tuple[str, ...]
    """The columns that are not read."""

    @property
    def label_columns(self) -> list[str]:
        """The columns of labels."""
        return [self.label] if self.unknown is None else [self.label, self.unknown]


def image_column(path: Path, schema: Any) -> ImageColumn:
    """The column of a file with the bytes of images, by its Arrow schema.

    Raises:
        ProblemError: If there is none.
    """
    features = _features(schema)
    images = _image_columns(schema)
    if not images:
        raise ProblemError(path, f"has no column with the bytes of images; the columns are {_named(schema)}")
    marked = [name for name in images if _kind(features.get(name)) == "Image"]
    name = _first_called(IMAGE_COLUMNS, marked or images) or (marked or images)[0]
    return ImageColumn(name, name in _structs(schema))


def hub_columns(path: Path, schema: Any) -> HubColumns:
    """The columns of a file, by its Arrow schema; one without images is a `ProblemError` too.

    Raises:
        ProblemError: If no column holds labels, or a label's name is unfit.
    """
    features = _features(schema)
    image = image_column(path, schema)
    others = [name for name in schema.names if name != image.name]
    with_names = [name for name in others if _class_names(features.get(name)) is not None]
    label = _first_called(LABEL_COLUMNS, others) or next(iter(with_names), None)
    if label is None:
        raise ProblemError(
            path,
            f"has no column with labels: looked for {', '.join(LABEL_COLUMNS[:4])} and alike; "
            f"the columns are {_named(schema)}",
        )
    unknown = _first_called(UNKNOWN_COLUMNS, others)
    spare = tuple(name for name in others if name not in {label, unknown})
    names = _label_set(path, _class_names(features.get(label)))
    return HubColumns(image, label, unknown, names, spare)


def has_images(schema: Any) -> bool:
    """Whether the images of a file are the bytes in it, not files that another column names."""
    images = _image_columns(schema)
    others = [name for name in schema.names if name not in images]
    is_told = any(_kind(feature) == "Image" for feature in _features(schema).values())
    is_called_so = _first_called(IMAGE_COLUMNS, images) is not None
    return bool(images) and (is_told or is_called_so or _first_called(IMAGE_COLUMNS, others) is None)


def parquet_schema(path: Path) -> Any | None:
    """The Arrow schema of a Parquet file; None where it cannot be read, or pyarrow is not there."""
    try:
        arrow = import_extra("pyarrow", extra="parquet", purpose=PURPOSE)
        parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=PURPOSE)
    except MissingExtraError:
        return None
    try:
        return parquet.read_schema(path)
    except (arrow.ArrowException, OSError, ValueError):
        return None


def _image_columns(schema: Any) -> list[str]:
    types = import_extra("pyarrow.types", extra="parquet", purpose=PURPOSE)
    structs = _structs(schema)
    return [
        part.name
        for part in schema
        if part.name in structs or types.is_binary(part.type) or types.is_large_binary(part.type)
    ]


def _structs(schema: Any) -> set[str]:
    types = import_extra("pyarrow.types", extra="parquet", purpose=PURPOSE)
    found = set()
    for part in schema:
        if types.is_struct(part.type) and part.type.get_field_index(_BYTES) >= 0:
            inner = part.type.field(_BYTES).type
            if types.is_binary(inner) or types.is_large_binary(inner):
                found.add(part.name)
    return found


def _features(schema: Any) -> dict[str, Any]:
    """Column -> what the `datasets` library says of it; empty where the file is not from there."""
    try:
        value = parse_json(str((schema.metadata or {}).get(_METADATA_KEY, b"{}"), "utf-8"))
        features = value["info"]["features"]
    except (DataError, UnicodeDecodeError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _layers(feature: Any) -> Iterator[dict[str, Any]]:
    """A feature, and what lists it is of: `{"feature": {...}}`, or `[{...}]` as earlier versions wrote."""
    for _ in range(_MAX_DEPTH):
        feature = feature[0] if isinstance(feature, list) and feature else feature
        if not isinstance(feature, dict):
            return
        yield feature
        feature = feature.get("feature")


def _kind(feature: Any) -> str | None:
    return next((layer.get("_type") for layer in _layers(feature)), None)


def _class_names(feature: Any) -> list[Any] | None:
    names = next(
        (layer.get("names") for layer in _layers(feature) if layer.get("_type") == "ClassLabel"), None
    )
    return names if isinstance(names, list) else None


def _label_set(path: Path, names: list[Any] | None) -> LabelSet | None:
    if not names:
        return None
    try:
        for name in names:
            check_label_name(name if isinstance(name, str) else "")
        return LabelSet(names)
    except DataError as error:
        raise ProblemError(path, f"has unfit names of labels: {error}") from error


def _first_called(wanted: tuple[str, ...], names: list[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def _named(schema: Any) -> str:
    return ", ".join(map(repr, schema.names[:8])) + (" ..." if len(schema.names) > 8 else "")
