import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from query2label.errors import ConfigError
from query2label.inference.outputs import save_predictions, stream_writer
from query2label.inference.prediction import Prediction

LABELS = ("cat", "=dog")
SCORES = {"cat": float(np.float32(0.1)), "=dog": float(np.float32(0.987654321))}
PREDICTIONS = [
    Prediction(labels=("=dog", "cat"), scores=SCORES, source="a.jpg"),
    Prediction(labels=(), scores=SCORES, source="-b.jpg"),
    Prediction(source='+c, "quoted".jpg', error="It is damaged."),
]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_save_predictions__jsonl(tmp_path: Path) -> None:
    save_predictions(PREDICTIONS, tmp_path / "p.jsonl", LABELS, form="jsonl")
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows[0] == {"image": "a.jpg", "labels": ["=dog", "cat"], "scores": SCORES, "error": None}
    assert [row["error"] for row in rows] == [None, None, "It is damaged."]


def test_save_predictions__csv_cells_are_never_formulas(tmp_path: Path) -> None:
    save_predictions(PREDICTIONS, tmp_path / "p.csv", LABELS, form="csv")
    rows = read_csv(tmp_path / "p.csv")
    assert list(rows[0]) == ["image", "labels", "error", "score:cat", "score:=dog"]
    assert [row["image"] for row in rows] == ["a.jpg", "'-b.jpg", '\'+c, "quoted".jpg']
    assert [row["labels"] for row in rows] == ["'=dog|cat", "", ""]
    assert [row["score:cat"] for row in rows] == ["0.1", "0.1", ""]
    np.testing.assert_allclose(float(rows[0]["score:=dog"]), SCORES["=dog"], rtol=1e-6)
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


def test_save_predictions__parquet(tmp_path: Path) -> None:
    save_predictions(PREDICTIONS * 200, tmp_path / "p.parquet", LABELS, form="parquet")
    columns = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert columns["image"][:3] == ["a.jpg", "-b.jpg", '+c, "quoted".jpg']
    assert columns["labels"][:3] == [["=dog", "cat"], [], []]
    assert columns["error"][:3] == ["", "", "It is damaged."]
    assert columns["score:cat"][:3] == [SCORES["cat"], SCORES["cat"], None]
    assert len(columns["image"]) == 600


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_save_predictions__nothing_is_left_where_it_ends_early(tmp_path: Path, form: str) -> None:
    def interrupted() -> Iterator[Prediction]:
        yield PREDICTIONS[0]
        raise KeyboardInterrupt

    (tmp_path / "p").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        save_predictions(interrupted(), tmp_path / "p", LABELS, form=form)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert (tmp_path / "p").read_text() == "old"


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_save_predictions__a_name_that_is_not_utf8_is_written(tmp_path: Path, form: str) -> None:
    strange = [Prediction(scores=SCORES, source=os.fsdecode(b"\xe9.jpg"))]
    save_predictions(strange, tmp_path / "p", LABELS, form=form)
    assert (tmp_path / "p").stat().st_size > 0


def test_save_predictions__no_images_give_a_header(tmp_path: Path) -> None:
    for form in ("csv", "parquet", "jsonl"):
        save_predictions([], tmp_path / f"p.{form}", LABELS, form=form)
    assert (tmp_path / "p.csv").read_text() == "image,labels,error,score:cat,score:=dog\n"
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 0


def test_stream_writer__writes_each_row_as_it_comes() -> None:
    file = io.StringIO()
    seen = []

    def watched() -> Iterator[Prediction]:
        for prediction in PREDICTIONS:
            seen.append(file.getvalue().count("\n"))
            yield prediction

    stream_writer(LABELS, form="jsonl")(watched(), file)
    assert seen == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"parquet needs a file to write to: give --out"):
        stream_writer(LABELS, form="parquet")


def test_save_predictions__with_logits(tmp_path: Path) -> None:
    logits = {"cat": -2.1972246170043945, "=dog": 4.394449234008789}
    kept = [replace(PREDICTIONS[0], logits=logits), PREDICTIONS[2]]
    for form in ("jsonl", "csv", "parquet"):
        save_predictions(kept, tmp_path / f"p.{form}", LABELS, form=form, keep_logits=True)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows[0]["logits"] == logits
    assert "logits" not in rows[1]
    table = read_csv(tmp_path / "p.csv")
    assert list(table[0])[3:] == ["score:cat", "score:=dog", "logit:cat", "logit:=dog"]
    assert np.float32(table[0]["logit:cat"]) == np.float32(logits["cat"])
    assert table[1]["logit:cat"] == ""
    columns = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert columns["logit:=dog"] == [logits["=dog"], None]
    assert columns["score:cat"] == [SCORES["cat"], None]
