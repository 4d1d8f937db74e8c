"""`q2l data split --out` where something is already there."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from query2label.cli.app import app
from query2label.data.load import load_dataset

ROWS = "".join(f"{number}.png,dog,Ann\n" for number in range(10))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(10):
        Image.new("RGB", (8, 6), (number * 10, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def split(path: Path, out: Path) -> Result:
    return CliRunner().invoke(app, ["data", "split", str(path), "--out", str(out)])


@pytest.mark.parametrize("by_folder", [True, False])
def test_split__loses_no_columns_of_the_table_it_reads(photos: Path, by_folder: bool) -> None:
    table = photos / "labels.csv"
    table.write_text(text := f"image,labels,photographer\n{ROWS}")
    result = split(photos if by_folder else table, table)
    assert result.exit_code == 2
    assert result.output == (
        f"Error: --out {table} is the table itself: name another. Columns that were not used: photographer.\n"
    )
    assert table.read_text() == text


def test_split__in_place_where_nothing_is_lost(photos: Path) -> None:
    table = photos / "labels.csv"
    table.write_text("image,labels\n" + ROWS.replace(",Ann", ""))
    assert split(photos, table).exit_code == 0
    assert set(load_dataset(table).splits()) == {"train", "val", "test"}
