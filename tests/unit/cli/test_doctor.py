import importlib.metadata

import pytest
from typer.testing import CliRunner

from query2label.cli.app import app


def test_doctor__prints_versions_threads_and_accelerators() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    for name in ("torch", "timm", "pillow", "pyarrow"):
        row = next(line for line in result.stdout.splitlines() if f" {name} " in f" {line} ")
        assert importlib.metadata.version(name) in row
    assert "threads of PyTorch" in result.stdout
    assert "missing" not in result.stdout


def test_doctor__says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_parquet(name: str) -> str:
        if name == "pyarrow":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_parquet)
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "pyarrow" in line)
    assert "missing: pip install 'query2label[parquet]'" in row


def test_doctor__names_what_users_need_and_in_full() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert "query2label[dev]" not in result.stdout
    assert "mypy" not in result.stdout
    assert "…" not in result.stdout
