"""Predictions in the form that FiftyOne documents for several labels per image; it is not installed here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from query2label.errors import ConfigError, DataError
from query2label.inference.fiftyone import Classification, save_fiftyone
from query2label.inference.prediction import Prediction


def predictions_in(folder: Path) -> list[Prediction]:
    thresholds = {"cat": 0.5, "dog": 0.4}
    for name in ("x.y.jpg", "b.jpg"):
        (folder / name).touch()
    return [
        Prediction(("dog", "cat"), {"cat": 0.6, "dog": 0.9}, thresholds, source=str(folder / "x.y.jpg")),
        Prediction(source="broken.jpg", error="cut off"),
        Prediction((), {"cat": 0.1, "dog": 0.2}, thresholds, source=str(folder / "b.jpg")),
    ]


def test_save_fiftyone__says_where_images_are_and_what_was_predicted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictions = predictions_in(tmp_path)
    predictions[0] = replace(predictions[0], source="x.y.jpg")
    assert save_fiftyone(iter(predictions), tmp_path / "out", ("cat", "dog")) == 2
    assert json.loads((tmp_path / "out" / "data.json").read_text()) == {
        "00000000": str(tmp_path / "x.y.jpg"),
        "00000001": str(tmp_path / "b.jpg"),
    }
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {
        "classes": ["cat", "dog"],
        "labels": {
            "00000000": [
                {"label": "dog", "confidence": 0.9, "attributes": {"threshold": 0.4}},
                {"label": "cat", "confidence": 0.6, "attributes": {"threshold": 0.5}},
            ],
            "00000001": [],
        },
    }


def test_save_fiftyone__refuses_a_file_and_images_that_are_none(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"out is a file: give a folder for the format fiftyone\."):
        save_fiftyone(predictions_in(tmp_path), tmp_path / "out", ("cat", "dog"))
    inside = Prediction((), {"cat": 0.1, "dog": 0.2}, source="photos.tar/1.jpg")
    with pytest.raises(
        DataError, match=r"photos\.tar/1\.jpg is no file that FiftyOne could show: unpack the im"
    ):
        save_fiftyone([inside], tmp_path / "new", ("cat", "dog"))


def test_classification__what_people_said_has_no_confidence():
    assert Classification("cat").to_dict() == {"label": "cat"}
