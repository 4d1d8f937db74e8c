"""The report folder: files beside the page, refusals, and what stands in the page."""

import base64
import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from query2label.cli.app import app
from query2label.errors import ConfigError, DataError, MissingExtraError
from query2label.evaluation.evaluate import evaluate, report_on
from query2label.inference.looking import explain_image
from query2label.inference.predictor import Predictor
from query2label.report import write as writing
from query2label.report.confusion import set_confusion
from query2label.report.curves import read_records, read_warnings
from query2label.report.label_errors import suspected_errors
from query2label.report.measured import Measured, find_model, require_same_images
from query2label.report.pictures import encoded_pictures
from query2label.report.statistics import dataset_statistics
from query2label.report.write import ReportOptions, write_report

from .conftest import HOSTILE, LABELS, save_model


def content_of(folder: Path) -> dict:
    html = (folder / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="content">(.*?)</script>', html, re.DOTALL)[1])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_write_report__reports_what_evaluate_does(report_folder, bundle_folder, photos):
    expected = evaluate(Predictor.load(bundle_folder, device="cpu"), photos, num_resamples=50)
    assert json.loads((report_folder / "report.json").read_text()) == json.loads(expected.to_json())
    model = content_of(report_folder)["models"][0]
    assert model["map"] == expected.map
    assert model["interval"]["low"] == expected.map_interval.low
    assert [row["ap"] for row in model["labels"]] == [row.ap for row in expected.per_label]


def test_write_report__tables_are_inert_and_hold_every_mistake(report_folder, measured):
    mistakes = table(report_folder / "mistakes.csv")
    thresholds = np.asarray(measured.bundle.thresholds, dtype=np.float32)
    chosen, targets = measured.scores >= thresholds, measured.targets
    assert len(mistakes) == int(((targets >= 0) & (chosen != (targets == 1))).sum())
    assert {row["label"] for row in mistakes} <= {"ant", HOSTILE, "cow", "'=1+1", "bee & bird"}
    apart = [abs(float(row["score"]) - float(row["threshold"])) for row in mistakes]
    assert apart == sorted(apart, reverse=True)
    for row in mistakes:
        assert (row["mistake"] == "false") == (float(row["score"]) >= float(row["threshold"]))
    errors = table(report_folder / "label_errors.csv")
    expected = suspected_errors(measured.scores, targets)
    assert [row["label"].removeprefix("'") for row in errors] == [LABELS[error.label] for error in expected]
    assert [row["given"] == "present" for row in errors] == [error.is_present for error in expected]
    assert {row["verdict"] for row in errors} <= {""}
    confusion = set_confusion(chosen, targets)
    rows = table(report_folder / "confusion.csv")
    assert sum(float(row["count"]) for row in rows if row["missed"]) == pytest.approx(
        ((targets == 1) & ~chosen).sum(), abs=0.01
    )
    assert len([row for row in rows if row["missed"] and row["predicted"]]) == len(confusion.pairs(100))


def test_write_report__names_no_folder_of_this_machine(report_folder, bundle_folder, photos):
    everything = "".join(
        path.read_text(errors="replace") for path in report_folder.iterdir() if path.is_file()
    )
    content = json.dumps(content_of(report_folder))
    assert str(photos.parent) not in content + (report_folder / "mistakes.csv").read_text()
    assert str(bundle_folder.parent) not in everything
    assert content_of(report_folder)["broken"][0][0] == "cut.png"


def test_write_report__maps_are_those_of_the_explanation(report_folder, bundle_folder, measured):
    pictures = content_of(report_folder)["pictures"]
    row, picture = next((row, picture) for row, picture in pictures.items() if picture["maps"][0]["by_label"])
    sample = measured.data.samples[int(measured.indices[int(row)])]
    maps = picture["maps"][0]
    explanation = explain_image(
        Predictor.load(bundle_folder, device="cpu"), sample.path, labels=list(maps["by_label"])
    )
    for label, encoded in maps["by_label"].items():
        expected = explanation.drawn_on_image(label, (maps["height"], maps["width"]))
        shown = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(expected.shape)
        np.testing.assert_allclose(shown / 255, expected, atol=0.003)


def test_encoded_pictures__a_model_that_cannot_say_where_it_looked_has_no_maps(measured):
    blind = Predictor(measured.bundle, lambda images: np.zeros((len(images), len(LABELS)), np.float32))
    found = encoded_pictures({3: measured.data.samples[3]}, {3: ["ant"]}, [blind])
    assert found[3]["maps"] == [{}]
    assert found[3]["uri"].startswith("data:image/webp;base64,UklGR")
    assert (found[3]["width"], found[3]["height"]) == (48, 32)


def test_encoded_pictures__an_image_that_is_gone_is_left_out(measured, tmp_path):
    gone = replace(measured.data.samples[3], path=tmp_path / "gone.png")
    assert encoded_pictures({3: gone}, {3: ["ant"]}, []) == {}


def test_write_report__takes_a_title_and_no_pictures_where_unwanted(other_folder, photos, tmp_path):
    options = ReportOptions(num_resamples=0, with_pictures=False, device="cpu")
    write_report([str(other_folder)], photos, tmp_path / "out", title="A <b>title</b>", options=options)
    content = content_of(tmp_path / "out")
    assert content["pictures"] == {}
    assert content["models"][0]["interval"] is None
    assert "<title>A &lt;b&gt;title&lt;/b&gt;</title>" in (tmp_path / "out" / "index.html").read_text()


def test_write_report__compares_by_paired_differences(compared_folder):
    content = content_of(compared_folder)
    first, second = content["models"]
    (compared,) = content["comparisons"]
    assert compared["map"]["difference"] == pytest.approx(second["map"] - first["map"])
    assert compared["map"]["low"] <= compared["map"]["difference"] <= compared["map"]["high"]
    assert len(compared["labels"]) == len(LABELS)
    assert content["files"] == [
        {"label_errors": "A/label_errors.csv"},
        {"label_errors": "B/label_errors.csv"},
    ]
    assert all(len(picture["maps"]) == 2 for picture in content["pictures"].values())


def test_write_report__refusals_say_what_to_do(bundle_folder, photos, tmp_path, monkeypatch):
    options = ReportOptions(num_resamples=0, with_pictures=False, device="cpu")
    with pytest.raises(ConfigError, match=r"A report is about 1 to 8 models, not 0\."):
        write_report([], photos, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file is a file: give a folder for the report\."):
        write_report([str(bundle_folder)], photos, tmp_path / "file")
    other = save_model(tmp_path / "other", labels=LABELS[::-1])
    with pytest.raises(DataError, match=r"first and other know different labels, or in another order: only"):
        write_report([str(bundle_folder), str(other)], photos, tmp_path / "out", options=options)
    monkeypatch.setattr(writing, "MAX_SCORES", 299)
    with pytest.raises(
        DataError, match=r"would hold 300 scores \(60 images, 5 labels, 1 models\), more than 299: choose a"
    ):
        write_report([str(bundle_folder)], photos, tmp_path / "out", options=options)
    monkeypatch.setattr(writing, "MAX_LABELS", 4)
    with pytest.raises(
        DataError, match=r"A page shows at most 4 labels, and first knows 5: q2l evaluate has"
    ):
        write_report([str(bundle_folder)], photos, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_write_report__says_what_to_install_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"The report needs the package jinja2: pip install 'query2l"):
        write_report(["nowhere"], tmp_path / "none", tmp_path / "out")


def test_require_same_images__refuses_models_that_could_read_different_ones(bundle_folder, measured):
    predictor = Predictor.load(bundle_folder, device="cpu")
    first = Measured("a", predictor, measured, report_on(measured, num_resamples=0))
    other = replace(first, name="b", labelled=replace(measured, indices=measured.indices[::-1].copy()))
    with pytest.raises(DataError, match=r"a and b were measured on different images, since some could be"):
        require_same_images([first, other])


def test_find_model__a_run_stands_for_its_best_bundle_and_brings_its_curve(tmp_path):
    run = tmp_path / "runs" / "birds"
    save_model(run / "best")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "map": 0.5}\n{"epoch": 2, "map": null}\n')
    for text in (str(run), str(run / "best")):
        place = find_model(text)
        assert (place.bundle, place.name) == (str(run / "best"), "birds")
        assert [record["epoch"] for record in place.records] == [1, 2]
    alone = save_model(tmp_path / "lr=0.1_seed=0")
    assert (find_model(str(alone)).name, find_model(str(alone)).records) == ("lr=0.1_seed=0", [])
    assert find_model("owner/name").bundle == "owner/name"


def test_read_records__refuses_what_is_no_list_of_epochs(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for text in ("[1]\n", "{\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"metrics\.jsonl is no list of epochs, one JSON object per line"):
            read_records(path)


def test_read_warnings__are_those_of_the_runs_report(tmp_path):
    run = tmp_path / "run"
    save_model(run / "best")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "map": 0.5}\n')
    assert find_model(str(run)).warnings == []
    (run / "evaluation").mkdir()
    path = run / "evaluation" / "report.json"
    path.write_text('{"warnings": ["2 of 9 validation images look alike."]}')
    assert find_model(str(run)).warnings == ["2 of 9 validation images look alike."]
    path.write_text('{"map": 0.5}')  # of an older version
    assert find_model(str(run)).warnings == []
    for text in ("[1]", "{", '{"warnings": 3}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"report\.json is no report: remove it, or finish the run"):
            read_warnings(path)


def test_dataset_statistics__count(measured):
    found = dataset_statistics(measured.data, measured.indices, measured.targets)
    positive = measured.targets == 1
    assert found["num_images"] == 60 == sum(found["images_by_count"])
    assert found["num_unknown"] == (measured.targets < 0).sum() > 0
    assert found["support"] == positive.sum(axis=0).tolist()
    together = found["together"]
    for i, a in enumerate(together["labels"]):
        for j, b in enumerate(together["labels"]):
            assert together["counts"][i][j] == (positive[:, a] & positive[:, b]).sum()


def test_report_command__writes_the_page_and_says_where(bundle_folder, photos, tmp_path):
    options = ["--workers", "0", "--resamples", "0", "--device", "cpu", "--no-pictures"]
    command = ["report", "--model", str(bundle_folder), "--data", str(photos), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, *options], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"Written: .*out/index\.html \(0\.\d MB\); open it in a browser\.\n", result.stdout)
    missing = CliRunner().invoke(app, [*command[:4], "nowhere", *command[5:], *options])
    assert missing.exit_code == 2
    assert missing.stderr.startswith("Error: nowhere does not exist: name the folder or file")
