"""The form of `config.json`: the Hugging Face keys around ours, and one sentence for whatever is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from query2label.bundle.schema import SCHEMA_VERSION, Bundle
from query2label.errors import BundleError

MODEL_TYPE: Final = "query2label"
MAX_CONFIG_BYTES: Final = 32_000_000
MAX_DEPTH: Final = 32
_HUB_KEYS: Final = ("model_type", "architectures", "problem_type", "id2label", "label2id")


def to_document(bundle: Bundle) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        BundleError: If `metrics` or `run` hold something that JSON cannot.
    """
    try:
        document = {
            "model_type": MODEL_TYPE,
            "architectures": ["Query2Label"],
            "problem_type": "multi_label_classification",
            "id2label": {str(index): name for index, name in enumerate(bundle.labels)},
            "label2id": {name: index for index, name in enumerate(bundle.labels)},
            **bundle.model_dump(mode="json", exclude={"labels"}),
        }
        json.dumps(document, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"The bundle cannot be written as JSON: {error}.") from None
    return document


def parse_json(file: Path) -> Any:
    """The JSON of `file`, bounded in size, depth and numbers; what is not such JSON is a `BundleError`.

    Raises:
        BundleError: If it is too large, cannot be read, or is not UTF-8.
    """
    try:
        size = file.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise BundleError(
                f"{file} has {size / 1e6:.0f} MB: more than {MAX_CONFIG_BYTES // 10**6} are refused."
            )
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BundleError(f"{file} is not JSON: it is not UTF-8 text.") from None
    return parse_json_text(text, where=file)


def parse_json_text(text: str, *, where: Path) -> Any:
    """The value of JSON text, bounded in size, depth and numbers.

    Args:
        text: JSON.
        where: The file it stood in, for the error message.

    Raises:
        BundleError: If it is not such JSON.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise BundleError(f"{where} describes its model in {len(text) / 1e6:.0f} MB of text: it is refused.")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON that can be used: {error}.") from None
    if _depth(value) > MAX_DEPTH:
        raise BundleError(f"{where} is nested more than {MAX_DEPTH} levels deep: it is refused.")
    return value


def from_document(document: Any, *, where: Path) -> Bundle:
    """The bundle that `config.json` describes.

    Args:
        document: Parsed JSON.
        where: The file, for the error message.

    Raises:
        BundleError: If a key is missing, unknown or has a wrong value, or the form is newer than we know.
    """
    if not isinstance(document, dict) or document.get("model_type") != MODEL_TYPE:
        raise BundleError(
            f'{where} does not describe a query2label model ("model_type" is not "{MODEL_TYPE}").'
        )
    version = document.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise BundleError(f'{where}: "schema_version" must be a whole number from 1 on, not {version!r:.80}.')
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{where} was written by a newer query2label (form {version}, this one knows {SCHEMA_VERSION}): "
            "pip install --upgrade query2label."
        )
    values = {key: value for key, value in document.items() if key not in _HUB_KEYS}
    try:
        return Bundle.model_validate({**values, "labels": _labels(document, where)})
    except ValidationError as error:
        raise BundleError(explain(error, where)) from None


def explain(error: ValidationError, where: Path) -> str:
    """The first thing that is wrong, as one sentence."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {name!r:.80}."
    if first["type"] == "missing":
        return f"{where}: the key {name!r} is missing."
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{where}: {name + ': ' if name else ''}{reason}."


def _labels(document: dict[str, Any], where: Path) -> list[str]:
    id2label, label2id = document.get("id2label"), document.get("label2id")
    if not isinstance(id2label, dict) or not isinstance(label2id, dict):
        raise BundleError(f'{where}: "id2label" and "label2id" must both be there, as objects.')
    labels = [id2label.get(str(index)) for index in range(len(id2label))]
    if not all(isinstance(label, str) for label in labels):
        raise BundleError(f'{where}: "id2label" must name every output from "0" to "{len(labels) - 1}".')
    if label2id != {label: index for index, label in enumerate(labels)}:
        raise BundleError(f'{where}: "id2label" and "label2id" disagree, or a label occurs twice.')
    return labels  # type: ignore[return-value]  # checked above


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _bounded(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"the number {text[:10]}... is too large")
    return int(text)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        children = [
            child.values() if isinstance(child, dict) else child
            for child in level
            if isinstance(child, dict | list)
        ]
        level = [item for group in children for item in group]
    return depth
