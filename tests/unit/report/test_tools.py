"""What other tools read: FiftyOne's documented form, and Label Studio tasks, read back by our reader."""

import json
from xml.etree import ElementTree

import numpy as np

from query2label.bundle import predicted
from query2label.data.load import load_dataset
from query2label.labels import LabelSet
from query2label.report.label_errors import suspected_errors

from .conftest import LABELS


def chosen_of(measured):
    return predicted(measured.scores, np.asarray(measured.bundle.thresholds))


def test_fiftyone__files_have_its_documented_form_and_hold_every_decision(report_folder, measured):
    folder = report_folder / "fiftyone"
    paths = json.loads((folder / "data.json").read_text())
    files = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ("ground_truth", "predictions", "mistakes", "label_errors")
    }
    samples = [measured.data.samples[index] for index in measured.indices.tolist()]
    assert list(paths.values()) == [str(sample.path) for sample in samples]
    assert all("." not in key for key in paths)  # FiftyOne takes what follows a dot for a suffix
    chosen, targets = chosen_of(measured), measured.targets
    for content in files.values():
        assert content["classes"] == list(LABELS)
        assert list(content["labels"]) == list(paths)
        for labels in content["labels"].values():
            assert all({"label"} <= set(label) <= {"label", "confidence", "attributes"} for label in labels)
    wrong = (targets >= 0) & (chosen != (targets == 1))
    for row, key in enumerate(paths):
        names = {
            name: [label["label"] for label in content["labels"][key]] for name, content in files.items()
        }
        assert names["ground_truth"] == [LABELS[k] for k in np.flatnonzero(targets[row] == 1)]
        assert set(names["predictions"]) == {LABELS[k] for k in np.flatnonzero(chosen[row])}
        assert set(names["mistakes"]) == {LABELS[k] for k in np.flatnonzero(wrong[row])}
        for label in files["mistakes"]["labels"][key]:
            k = LABELS.index(label["label"])
            assert label["confidence"] == measured.scores[row, k]
            assert label["attributes"]["mistake"] == ("false" if chosen[row, k] else "missed")
    assert sum(map(len, files["label_errors"]["labels"].values())) == len(
        suspected_errors(measured.scores, targets)
    )


def test_labelstudio__tasks_are_read_back_with_the_labels_that_were_given(report_folder, measured, photos):
    file = report_folder / "labelstudio" / "tasks.json"
    read = load_dataset(file, image_root=photos, labels=LabelSet(LABELS))
    assert read.format == "labelstudio"
    row_of = {measured.data.samples[index].path: row for row, index in enumerate(measured.indices.tolist())}
    chosen, targets = chosen_of(measured), measured.targets
    wrong = ((targets >= 0) & (chosen != (targets == 1))).any(axis=1)
    suspected = {error.row for error in suspected_errors(measured.scores, targets)}
    rows = [row_of[sample.path] for sample in read.samples]
    assert set(rows) == set(np.flatnonzero(wrong).tolist()) | suspected
    assert rows[0] in suspected
    for row, sample in zip(rows, read.samples, strict=True):
        assert set(sample.positive) == set(np.flatnonzero(targets[row] == 1).tolist())


def test_labelstudio__accepted_predictions_are_what_the_model_said(report_folder, measured, photos, tmp_path):
    tasks = json.loads((report_folder / "labelstudio" / "tasks.json").read_text())
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    (tmp_path / "accepted.json").write_text(json.dumps(tasks))
    read = load_dataset(tmp_path / "accepted.json", image_root=photos, labels=LabelSet(LABELS))
    row_of = {measured.data.samples[index].path: row for row, index in enumerate(measured.indices.tolist())}
    chosen = chosen_of(measured)
    for sample in read.samples:
        assert set(sample.positive) == set(np.flatnonzero(chosen[row_of[sample.path]]).tolist())


def test_labelstudio__form_has_the_labels_whatever_they_are_called(report_folder):
    form = ElementTree.parse(report_folder / "labelstudio" / "config.xml")
    assert [choice.get("value") for choice in form.iter("Choice")] == list(LABELS)
    (choices,) = form.iter("Choices")
    assert (choices.get("name"), choices.get("toName"), choices.get("choice")) == (
        "labels",
        "image",
        "multiple",
    )
