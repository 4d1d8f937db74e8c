"""Predictions in the form that FiftyOne documents for several labels per image; it is not installed here."""

import json
from pathlib import Path

import pytest

from query2label.errors import ConfigError
from query2label.inference.fiftyone import Classification, save_fiftyone
from query2label.inference.prediction import Prediction

PREDICTIONS = (
    Prediction(("dog", "cat"), {"cat": 0.6, "dog": 0.9}, {"cat": 0.5, "dog": 0.4}, source="a/x.y.jpg"),
    Prediction(source="broken.jpg", error="cut off"),
    Prediction((), {"cat": 0.1, "dog": 0.2}, {"cat": 0.5, "dog": 0.4}, source="/photos/b.jpg"),
)


def test_save_fiftyone__says_where_images_are_and_what_was_predicted(tmp_path):
    assert save_fiftyone(iter(PREDICTIONS), tmp_path / "out", ("cat", "dog")) == 2
    assert json.loads((tmp_path / "out" / "data.json").read_text()) == {
        "00000000": str(Path("a/x.y.jpg").absolute()),
        "00000001": "/photos/b.jpg",
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


def test_save_fiftyone__refuses_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"out is a file: give a folder for the format fiftyone\."):
        save_fiftyone(PREDICTIONS, tmp_path / "out", ("cat", "dog"))


def test_classification__what_people_said_has_no_confidence():
    assert Classification("cat").to_dict() == {"label": "cat"}
