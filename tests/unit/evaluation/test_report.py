"""What a report holds, by hand on small tables, and how it is written."""

import csv
import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from rich.console import Console

from query2label.evaluation.bootstrap import mean_ap_interval
from query2label.evaluation.protocols import PROTOCOLS
from query2label.evaluation.report import report_from_scores
from query2label.evaluation.text import print_report
from query2label.metrics import average_precision, calibration_error, mean_average_precision, roc_auc

LABELS = ["cat", "dog", "=HYPERLINK(1)", "ghost\x1b[31m"]


def make_scores(num_images=120, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, 4)) < [0.5, 0.2, 0.1, 0]).astype(np.int8)
    targets[rng.random(targets.shape) < 0.1] = -1
    logits = rng.normal(size=targets.shape) + 3 * (targets == 1) - 1
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets


def make_report(**changes):
    scores, targets = make_scores()
    options = {"labels": LABELS, "thresholds": [0.5, 0.4, 0.3, 0.5], "num_resamples": 50} | changes
    return report_from_scores(scores, targets, **options)


def test_report_from_scores__collects_the_metrics():
    scores, targets = make_scores()
    report = make_report()
    assert report.num_images == 120
    assert report.map == mean_average_precision(scores, targets)
    assert report.map_voc == mean_average_precision(scores, targets, kind="voc")
    assert report.map_voc11 == mean_average_precision(scores, targets, kind="voc11")
    assert report.auc == roc_auc(scores, targets).mean()
    assert report.calibration_error == pytest.approx(calibration_error(scores, targets))
    assert report.map_interval.low < report.map < report.map_interval.high
    assert list(report.decisions) == ["thresholds", "0.5", "top-3", "top-3 at 0.5"]
    assert report.absent_labels == ("ghost\x1b[31m",)
    assert [row.ap for row in report.per_label] == average_precision(scores, targets).to_list()


def test_report_from_scores__label_rows_add_up_and_use_their_thresholds():
    scores, targets = make_scores()
    report = make_report()
    for k, row in enumerate(report.per_label):
        assert (row.num_positives, row.num_unknown) == (
            (targets[:, k] == 1).sum(),
            (targets[:, k] == -1).sum(),
        )
        assert row.num_positives + row.num_negatives + row.num_unknown == 120
    dog, ghost = report.per_label[1], report.per_label[3]
    predicted = (scores[:, 1] >= np.float32(0.4)) & (targets[:, 1] >= 0)
    hits = (predicted & (targets[:, 1] == 1)).sum()
    assert dog.threshold == 0.4
    assert dog.precision == pytest.approx(hits / predicted.sum())
    assert dog.recall == pytest.approx(hits / dog.num_positives)
    assert dog.best_f1 >= dog.f1
    assert (ghost.ap, ghost.auc, ghost.recall, ghost.f1, ghost.best_threshold) == (None,) * 5


def test_report_from_scores__by_number_of_labels_covers_all_images():
    scores, targets = make_scores()
    report = make_report()
    counts = (targets == 1).sum(axis=1)
    assert [row.num_labels for row in report.by_num_labels] == ["0", "1", "2", "3"]
    for row in report.by_num_labels:
        inside = counts == int(row.num_labels)
        assert row.num_images == inside.sum()
        assert row.map == mean_average_precision(scores[inside], targets[inside])
    assert report.by_num_labels[0].map is None
    assert report.by_num_labels[0].of1 is None


def test_report_from_scores__by_size_takes_positives_of_one_size_against_images_without_the_label():
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]], np.float32)
    targets = np.array([[1], [0], [1], [1], [-1], [0]], np.int8)
    sizes = np.array([[0], [-1], [2], [-1], [2], [2]], np.int8)  # one positive has no box
    report = report_from_scores(
        scores, targets, labels=["cat"], thresholds=[0.5], object_sizes=sizes, num_resamples=0
    )
    small, medium, large = report.by_size
    assert (small.size, small.num_positives, small.num_labels, small.map) == ("small", 1, 1, 1.0)
    assert (medium.num_positives, medium.num_labels, medium.map) == (0, 0, None)
    assert (large.num_positives, large.map) == (1, 0.5)
    assert make_report().by_size == ()


def test_report_from_scores__measures_calibration_without_the_temperature():
    logits = np.log(make_scores()[0] / (1 - make_scores()[0])).astype(np.float64)
    targets = make_scores()[1]
    softened = (1 / (1 + np.exp(-logits / 3))).astype(np.float32)
    report = report_from_scores(
        softened, targets, labels=LABELS, thresholds=[0.5] * 4, temperature=3.0, num_resamples=0
    )
    assert report.calibration_error == pytest.approx(calibration_error(softened, targets), abs=1e-6)
    assert report.uncalibrated_error == pytest.approx(calibration_error(make_scores()[0], targets), abs=1e-6)


def test_report_from_scores__refuses_nan():
    scores, targets = make_scores()
    scores[3, 2], targets[3, 2] = math.nan, 0
    with pytest.raises(ValueError, match="NaN"):
        report_from_scores(scores, targets, labels=LABELS, thresholds=[0.5] * 4)


def test_report_from_scores__refuses_another_number_of_labels_or_thresholds():
    with pytest.raises(ValueError, match="4 labels and 1 thresholds for 4 columns"):
        make_report(thresholds=[0.5])
    with pytest.raises(ValueError, match="3 labels and 4 thresholds for 4 columns"):
        make_report(labels=LABELS[:3])


def test_report_from_scores__works_where_nothing_is_known():
    for num_images in (0, 3):
        scores = np.full((num_images, 2), 0.5, np.float32)
        targets = np.full((num_images, 2), -1, np.int8)
        report = report_from_scores(scores, targets, labels=["a", "b"], thresholds=[0.5, 0.5])
        assert report.map is None
        assert report.map_interval is None
        assert report.calibration_error is None
        assert report.absent_labels == ("a", "b")
        assert json.loads(report.to_json())["map"] is None
        print_report(report, Console(quiet=True))


def test_report__is_frozen():
    with pytest.raises(FrozenInstanceError):
        make_report().map = 1.0


def test_report__json_has_plain_values_and_the_usual_names():
    report = make_report(broken_images={"a.jpg": "cut off"})
    read = json.loads(report.to_json())
    assert read == json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["map"] == report.map
    assert read["decisions"]["top-3 at 0.5"]["CF1"] == report.decisions["top-3 at 0.5"].cf1
    assert read["per_label"][3]["ap"] is None
    assert read["map_interval"]["level"] == 0.95
    assert read["broken_images"] == {"a.jpg": "cut off"}
    assert report.headline()["CF1"] == report.decisions["thresholds"].cf1


def test_report__save_writes_json_and_a_table_that_spreadsheets_do_not_run(tmp_path):
    report = make_report()
    folder = tmp_path / "results" / "test"
    report.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.csv", "report.json"]
    assert json.loads((folder / "report.json").read_text()) == json.loads(report.to_json())
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["cat", "dog", "'=HYPERLINK(1)", "ghost\x1b[31m"]
    assert float(rows[1]["ap"]) == report.per_label[1].ap
    assert rows[3]["ap"] == ""


def text_of(report, **options):
    console = Console(width=140, force_terminal=False)
    with console.capture() as capture:
        print_report(report, console, **options)
    return capture.get()


def test_report_text__begins_with_the_headline_and_names_what_is_missing():
    report = make_report(broken_images={"a.jpg": "cut off"}, images="split test of photos (table)")
    text = text_of(report)
    low, high = 100 * report.map_interval.low, 100 * report.map_interval.high
    assert text.startswith(f"mAP {100 * report.map:.1f} (95% interval {low:.1f} to {high:.1f})   CF1")
    assert "120 images: plain (average precision as scikit-learn's): split test of photos (table); " in text
    assert "No image shows, and no mean counts: ghost\\x1b[31m" in text
    assert "Could not be read, and is left out: a.jpg (cut off)" in text
    assert "\x1b" not in text


def test_report_text__the_headline_and_the_labels_follow_the_protocol():
    report = make_report(protocol=PROTOCOLS["voc-allpoint"], object_sizes=np.zeros((120, 4), np.int8))
    assert report.headline_map == report.map_voc > report.map
    assert report.map_interval == mean_ap_interval(*make_scores(), kind="voc", num_resamples=50)
    assert report.map_interval.low > make_report().map_interval.low
    text = text_of(report)
    low, high = 100 * report.map_interval.low, 100 * report.map_interval.high
    assert text.startswith(
        f"mAP (all-point) {100 * report.map_voc:.1f} (95% interval {low:.1f} to {high:.1f})"
    )
    assert f"\nplain {100 * report.map:.1f}, 11-point {100 * report.map_voc11:.1f}, AUC" in text
    assert "voc-allpoint (all-point interpolated average precision): the given images; unknown" in text
    assert text.count("plain mAP") == 2  # by size and by number of labels
    cat = next(line for line in text.splitlines() if line.startswith(" cat"))
    assert cat.split()[2] == f"{100 * report.per_label[0].ap_voc:.1f}"
    eleven = text_of(make_report(protocol=PROTOCOLS["voc-11pt"]))
    assert eleven.startswith(f"mAP (11-point) {100 * report.map_voc11:.1f} (95%")
    assert f"\nplain {100 * report.map:.1f}, all-point {100 * report.map_voc:.1f}, AUC" in eleven


def test_report_text__shows_the_worst_labels_where_there_are_too_many():
    report = make_report()
    worst = min(report.per_label[:3], key=lambda row: row.ap).label
    text = text_of(report, max_labels=1)
    assert "The 1 of 4 labels with the lowest AP" in text
    table = text.partition("lowest AP")[2]
    assert worst in table
    assert not any(label in table for label in ("cat", "dog", "=HYPERLINK(1)") if label != worst)


def test_report_text__has_the_size_table_where_there_are_sizes():
    assert "Size of the label's largest object" not in text_of(make_report())
    sizes = np.zeros((120, 4), np.int8)
    assert "Size of the label's largest object" in text_of(make_report(object_sizes=sizes))


def test_report_text__says_what_makes_the_numbers_less_sure():
    report = make_report(warnings=["2 of 9 validation images look alike.\x1b[31m"])
    assert report.to_dict()["warnings"] == ("2 of 9 validation images look alike.\x1b[31m",)
    assert "Warning: 2 of 9 validation images look alike.\\x1b[31m\n" in text_of(report)
