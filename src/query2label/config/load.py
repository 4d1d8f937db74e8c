"""Configurations from recipes, overrides and plain values, with errors that name the setting."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from query2label.config.run import RunConfig, settings
from query2label.errors import ConfigError

LONGEST_VALUE: Final = 100  # characters of a wrong value that an error message shows
_MAX_BITS: Final = 64  # of a whole number, as TOML has it; Python cannot write those of 4,300 digits
_MAX_DEPTH: Final = 8
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # what bytes that are no UTF-8 become on a command line


def load_config(recipe: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration of a run.

    Args:
        recipe: Name of a shipped recipe (`laptop`), path of a TOML file, or None for the defaults.
        overrides: Settings like `optim.lr=3e-4`; the value is read as TOML, else as a plain word.

    A missing recipe, a file that is not TOML and a wrong key or value are each a `ConfigError`.
    """
    values, where = read_settings(recipe, overrides)
    return parse_config(values, where=where)


def read_settings(
    recipe: str | Path | None = None, overrides: Iterable[str] = ()
) -> tuple[dict[str, Any], str]:
    """The settings that a recipe and overrides give, not yet checked, and what they came from.

    A missing recipe, a file that is not TOML and an override without the form are each a `ConfigError`.
    """
    values: dict[str, Any] = {}
    where = "the configuration"
    if recipe is not None:
        values, where = _read_recipe(recipe)
    for override in overrides:
        _apply_override(values, override)
    return values, where


def parse_config(values: Mapping[str, Any], *, where: str) -> RunConfig:
    """A configuration from plain values, as a recipe or a bundle has them.

    Args:
        values: Nested settings.
        where: What they came from, for the error message.

    Raises:
        ConfigError: If a key or value is wrong.
    """
    _refuse_extremes(values, where)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from None


def _refuse_extremes(value: object, where: str, name: str = "", depth: int = 0) -> None:
    """Refuses what no message could show, and no configuration file give back.

    Raises:
        ConfigError: If there is a whole number that is too large, or too deep a nest.
    """
    reason = None
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        reason = f"is a whole number of more than {_MAX_BITS} bits"
    elif depth > _MAX_DEPTH:
        reason = "is nested too deeply"
    if reason is not None:
        raise ConfigError(f"{name} in {where} {reason}.")
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, part in parts:
        _refuse_extremes(part, where, f"{name}.{key}".lstrip("."), depth + 1)


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(
        file.name.removesuffix(".toml") for file in _recipe_folder().iterdir() if file.name.endswith(".toml")
    )


def _recipe_folder() -> Any:
    return importlib.resources.files("query2label") / "recipes"


def _read_recipe(recipe: str | Path) -> tuple[dict[str, Any], str]:
    path = Path(recipe)
    if path.suffix != ".toml":
        if str(recipe) not in recipe_names():
            raise ConfigError(
                f"There is no recipe {str(recipe)!r}: shipped are {', '.join(recipe_names())}; "
                "for a file of your own give its path, ending in .toml."
            )
        path = _recipe_folder() / f"{recipe}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), f"recipe {recipe}"
    except OSError as error:
        raise ConfigError(f"Cannot read recipe {recipe}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Recipe {recipe} is not TOML: {error}.") from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    if _SURROGATE.search(override):
        raise ConfigError(f"--set {override!r} is no Unicode text.")
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r} is not of the form section.key=value.")
    value = _toml_or_word(text.strip())
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {key} is a setting, not a section.")
    values[keys[-1]] = None if value == "unset" else value


def _toml_or_word(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [*(dotted for dotted, _ in settings()), *RunConfig.model_fields]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`q2l config` lists all settings."
        return f"Unknown setting {name} in {where}: {hint}"
    if first["type"] == "model_type":
        return f"{name} in {where} is a section, not a setting: `q2l config` lists the settings in it."
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # of a whole section
        return f"Wrong settings in {where}: {reason}."
    value = repr(first["input"])
    if len(value) > LONGEST_VALUE:
        value = f"{value[:LONGEST_VALUE]}..."
    return f"Wrong value {value} for {name} in {where}: {reason}."
