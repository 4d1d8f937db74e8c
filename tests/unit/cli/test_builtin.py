from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from query2label.cli.app import app


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_predict__without_a_model_says_which_one_answers(photo: Path) -> None:
    result = CliRunner().invoke(app, ["predict", str(photo), "--format", "csv"])
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("The model in the box answers; it knows bicycle, bird, ")
    header, row = result.stdout.splitlines()
    assert header.startswith("image,labels,error,score:bicycle,score:bird,")
    assert row.startswith(str(photo))


def test_explain__without_a_model_draws(photo: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["explain", str(photo), "--out", str(tmp_path / "looks"), "--labels", "dog"]
    )
    assert result.exit_code == 0, result.output
    assert "The model in the box answers" in result.stderr
    with Image.open(tmp_path / "looks" / "photo.png") as picture:
        assert picture.width > 100


@pytest.mark.parametrize("command", [["evaluate", "--data", "photos"], ["thresholds", "--set-all", "0.5"]])
def test_what_measures_or_changes_a_model_wants_its_name(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "--model" in result.stderr
