"""Optional packages: imported where they are needed, with an error that says what to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from query2label.errors import MissingExtraError


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """The module `module` of an optional package.

    Args:
        module: Dotted module name, for example `pyarrow.parquet`.
        extra: Name of our extra that installs it, for example `parquet`.
        purpose: What needs it, as the start of a sentence, for example `Reading Parquet files`.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package {package}: pip install 'query2label[{extra}]'."
        ) from error
