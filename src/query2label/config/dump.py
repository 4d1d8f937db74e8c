"""A configuration as TOML text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from query2label.config.run import RunConfig


def dump_config(config: RunConfig) -> str:
    """The complete configuration as TOML; `load_config` reads it back to an equal one."""
    lines: list[str] = []
    for table, values in _tables("", config.model_dump(mode="json")):
        lines += [f"[{table}]", *(f"{key} = {_toml_value(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


def _tables(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
    if prefix:
        yield prefix, plain
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _tables(f"{prefix}.{key}".lstrip("."), value)


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON scalars are TOML scalars
