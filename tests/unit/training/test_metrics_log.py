import json

import pytest

from query2label.training.metrics_log import MetricsLog


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_log__has_one_line_per_epoch(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", [], tensorboard_dir=None, warn=pytest.fail)
    log.add({"epoch": 1, "step": 10, "map": 0.5})
    log.add({"epoch": 2, "step": 20, "map": None})
    assert lines(tmp_path / "metrics.jsonl") == [
        {"epoch": 1, "step": 10, "map": 0.5},
        {"epoch": 2, "step": 20, "map": None},
    ]


def test_metrics_log__takes_back_lines_ahead_of_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "step": 10}\n{"epoch": 2, "step": 20}\n{"epo')
    log = MetricsLog(path, [{"epoch": 1, "step": 10}], tensorboard_dir=None, warn=pytest.fail)
    log.add({"epoch": 2, "step": 20, "again": True})
    assert lines(path) == [{"epoch": 1, "step": 10}, {"epoch": 2, "step": 20, "again": True}]


def test_metrics_log__writes_tensorboard_files_and_survives_their_failure(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    warnings = []
    log = MetricsLog(tmp_path / "m.jsonl", [], tensorboard_dir=tmp_path / "tb", warn=warnings.append)
    log.add({"epoch": 1, "step": 10, "map": 0.5, "best": True})
    assert list((tmp_path / "tb").glob("events*"))

    def fail(*args):
        raise OSError("disk on fire")

    monkeypatch.setattr(log._tensorboard, "add_scalar", fail)
    log.add({"epoch": 2, "step": 20, "map": 0.6})
    log.add({"epoch": 3, "step": 30, "map": 0.7})
    log.close()
    assert len(warnings) == 1
    assert "disk on fire" in warnings[0]
    assert len(lines(tmp_path / "m.jsonl")) == 3
