"""Predictions as Label Studio tasks; accepted there, our own reader reads them back."""

import json
from xml.etree import ElementTree

import pytest
from PIL import Image

from query2label.data.load import load_dataset
from query2label.errors import ConfigError
from query2label.inference.labelstudio import save_labelstudio, write_tasks
from query2label.inference.prediction import Prediction
from query2label.labels import LabelSet

LABELS = ("cat & co", 'do"g', "<cow>")


def test_save_labelstudio__accepted_tasks_are_read_back(tmp_path):
    photos = tmp_path / "photos"
    names = ("a/1 ü #%.png", "b/2.png")
    predictions = []
    for name, labels in zip(names, (LABELS[:2], ()), strict=True):
        (photos / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(photos / name)
        scores = {label: 0.9 - 0.1 * k for k, label in enumerate(LABELS)}
        predictions.append(Prediction(labels, scores, source=str(photos / name)))
    predictions.append(Prediction(source=str(photos / "cut.png"), error="cut off"))
    root = save_labelstudio(iter(predictions), tmp_path / "out", LABELS)
    assert root == photos
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [task["predictions"][0]["score"] for task in tasks] == [0.8, 0.0]
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=b/2.png"
    assert tasks[0]["predictions"][0]["result"] == [
        {
            "from_name": "labels",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": list(LABELS[:2])},
        }
    ]
    for task in tasks:
        task["annotations"] = task.pop("predictions")  # as Label Studio has it once they were accepted
    (tmp_path / "out" / "tasks.json").write_text(json.dumps(tasks))
    read = load_dataset(tmp_path / "out", image_root=root, labels=LabelSet(LABELS))
    assert read.format == "labelstudio"
    assert [sample.path for sample in read.samples] == [photos / name for name in names]
    assert [sample.positive for sample in read.samples] == [(0, 1), ()]


def test_write_tasks__form_is_xml_with_every_label(tmp_path):
    write_tasks(tmp_path, LABELS, [])
    form = ElementTree.parse(tmp_path / "config.xml")
    assert [choice.get("value") for choice in form.iter("Choice")] == list(LABELS)
    assert form.find("Image").attrib == {"name": "image", "value": "$image"}


def test_write_tasks__refuses_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"out is a file: give a folder for the format labelstudio\."):
        write_tasks(tmp_path / "out", LABELS, [])
