"""Optional packages: imported where they are, explained where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from query2label.errors import MissingExtraError
from query2label.extras import import_extra


def test_import_extra__gives_the_module() -> None:
    assert import_extra("json", extra="none", purpose="Nothing") is json
    assert import_extra("os.path", extra="none", purpose="Nothing").__name__ == "posixpath"


def test_import_extra__says_what_to_install() -> None:
    wanted = r"^Reading Parquet files needs the package no_such: pip install 'query2label\[parquet\]'\.$"
    with pytest.raises(MissingExtraError, match=wanted):
        import_extra("no_such.parquet", extra="parquet", purpose="Reading Parquet files")


def test_import_extra__names_the_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import no_such_dependency.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"^Drawing needs the package no_such_dependency: pip"):
        import_extra("half_installed", extra="drawing", purpose="Drawing")
