"""The errors that query2label raises on purpose.

Each message is one sentence (or two) that says what was wrong, where, and what to do next; the command
line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations


class Q2LError(Exception):
    """Base of every error that query2label raises on purpose."""


class ConfigError(Q2LError):
    """A recipe, an override or an option is wrong."""


class DataError(Q2LError):
    """Labelled images cannot be read as they are."""


class ImageError(DataError):
    """One image cannot be decoded, or is refused; the message says why, without naming the file."""


class BundleError(Q2LError):
    """A bundle, or the weights in it, cannot be read or does not fit."""


class TrainingError(Q2LError):
    """A run cannot go on."""


class StorageError(Q2LError):
    """Something could not be written: full disk, missing permission."""


class ExportError(Q2LError):
    """A model cannot be exported, or the export disagrees with it."""


class MissingExtraError(Q2LError):
    """A feature needs an optional package that is not installed."""
