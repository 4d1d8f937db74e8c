import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from query2label.cli.app import app

pytestmark = pytest.mark.usefixtures("colour_model")


def predict(*arguments: object, code: int = 0) -> Result:
    texts = ["predict", *map(str, arguments), "--model", "any"]
    result = CliRunner().invoke(app, texts, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == code, result.output
    return result


def test_predict__prints_a_table(photos: Path) -> None:
    result = predict(photos)
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()[3:] if line.strip()]
    assert rows[0] == [str(photos / "a.png"), "red 0.99, green 0.62".ljust(len(rows[0][1]))]
    assert rows[1][1].startswith("no label (best: red 0.19)")
    assert rows[2][1].startswith("error: It is not a JPEG")
    assert result.stderr == "1 of 3 images could not be read.\n"


def test_predict__streams_jsonl_and_csv(photos: Path) -> None:
    rows = [json.loads(line) for line in predict(photos, "--format", "jsonl").stdout.splitlines()]
    assert [row["labels"] for row in rows] == [["red", "green"], [], []]
    assert list(rows[0]["scores"]) == ["red", "green", "blue, dark"]
    table = list(csv.DictReader(io.StringIO(predict(photos, "--format", "csv").stdout)))
    assert [row["labels"] for row in table] == ["red|green", "", ""]
    assert float(table[0]["score:green"]) == pytest.approx(rows[0]["scores"]["green"], abs=1e-6)
    assert "not a JPEG" in table[2]["error"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_predict__writes_a_file_as_its_name_ends(photos: Path, suffix: str) -> None:
    out = photos / "new" / f"p.{suffix}"
    assert predict(photos, "--out", out).stdout == ""
    if suffix == "parquet":
        assert pq.read_table(out).num_rows == 3
    else:
        assert "a.png" in out.read_text()
    predict(photos / "a.png", "--out", out, "--format", "jsonl")
    assert json.loads(out.read_text())["labels"] == ["red", "green"]


def test_predict__what_it_writes_is_a_data_set(photos: Path) -> None:
    from query2label.data.load import load_dataset

    (photos / "c.png").unlink()
    predict(photos / "a.png", photos / "b.png", "--out", photos / "p.csv", "--top-k", 2)
    dataset = load_dataset(photos / "p.csv")
    assert [sample.path.name for sample in dataset.samples] == ["a.png", "b.png"]
    assert set(dataset.labels) >= {"red", "green"}


def test_predict__takes_thresholds_and_top_k(photos: Path) -> None:
    image = photos / "a.png"

    def labels(*options: object) -> list[str]:
        return json.loads(predict(image, "--format", "jsonl", *options).stdout)["labels"]

    assert labels("--threshold", 0.9) == ["red"]
    assert labels("--threshold", "green=0.9") == ["red"]
    assert labels("--threshold", "green=0.9", "--threshold", "red=1") == []
    assert labels("--threshold", "blue, dark=0") == ["red", "green", "blue, dark"]
    assert labels("--top-k", 1) == ["red"]
    assert labels("--top-k", 3) == ["red", "green", "blue, dark"]
    assert labels("--top-k", 3, "--threshold", 0.9) == ["red"]


def test_predict__takes_lists_and_patterns(photos: Path) -> None:
    (photos / "list.txt").write_text("b.png\na.png\n")
    rows = predict(f"@{photos / 'list.txt'}", photos / "[a]*.png", "--format", "jsonl").stdout.splitlines()
    assert [Path(json.loads(row)["image"]).name for row in rows] == ["b.png", "a.png", "a.png"]


def test_predict__ends_with_code_1_where_no_image_could_be_read(photos: Path) -> None:
    predict(photos / "c.png", code=1)
    predict(photos / "c.png", photos / "a.png")


def test_predict__a_name_with_line_ends_stays_on_its_line(photos: Path) -> None:
    (photos / "a.png").rename(photos / "new\nline.png")
    result = predict(photos / "new\nline.png")
    assert r"new\nline.png" in result.stdout
