"""The errors: one base for all that is raised on purpose."""

from __future__ import annotations

import inspect

from query2label import errors


def test_errors__all_have_one_base_and_a_docstring() -> None:
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    assert {error.__name__ for error in found} >= {"ConfigError", "DataError", "BundleError", "TrainingError"}
    for error in found:
        assert issubclass(error, errors.Q2LError)
        assert error.__doc__


def test_image_error__is_a_data_error() -> None:
    assert issubclass(errors.ImageError, errors.DataError)
