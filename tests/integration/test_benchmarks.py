"""Benchmarks of trained runs, as processes, on drawn shapes and with a tiny backbone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = """
[model]
backbone = "test_resnet"
weights = "none"
freeze = "all"
attention = "direct"
feature_norm = true
num_encoder_layers = 0
num_decoder_layers = 1
num_heads = 1
feedforward_dim = 0
[data]
image_size = 64
num_workers = 0
[loss]
name = "bce"
[optim]
lr = 5e-4
[train]
epochs = 2
cache_features = true
cache_views = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE + f'cache_dir = "{tmp_path / "cache"}"\n')
    return path


def run(name: str, *options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, options)],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
    )


def row(table: str, head: str) -> list[str]:
    """The cells of a row, without its name."""
    line = next(line for line in table.splitlines() if re.search(rf"│ {re.escape(head)} +│", line))
    return [cell.strip() for cell in line.split("│")][2:-1]


def test_heads__trains_prints_and_reads_again(shapes: Path, tmp_path: Path, recipe: Path) -> None:
    out, chosen = tmp_path / "runs", ("--heads", "query2label", "linear", "--seeds", 0)
    options = ("--sets", shapes / "labels.csv", "--out", out, "--recipe", recipe)
    first = run("heads", *options, *chosen)
    assert first.returncode == 0, first.stderr
    assert 0 < float(row(first.stdout, "linear")[1].split()[0]) <= 100
    assert run("heads", *options, *chosen).stdout == first.stdout

    recipe.write_text(recipe.read_text().replace("epochs = 2", "epochs = 3"))
    of_another = run("heads", *options, *chosen)
    assert of_another.returncode == 1
    assert "has a run with epochs = 2 instead of epochs = 3: give another --out" in of_another.stderr


def test_splits__gives_each_head_the_same_photos(shapes: Path, tmp_path: Path, recipe: Path) -> None:
    options = ("--sets", shapes / "labels.csv", "--out", tmp_path, "--recipe", recipe, "--splits", 2)
    heads = ("linear, 20 epochs", "query2label", "linear, solved")
    result = run("splits", *options, "--heads", *heads)
    assert result.returncode == 0, result.stderr
    for head in heads:
        assert row(result.stdout, head)[0] == "2"
    low, high = row(result.stdout, "query2label")[3].split(" to ")
    assert float(low) < float(row(result.stdout, "query2label")[2]) < float(high)
