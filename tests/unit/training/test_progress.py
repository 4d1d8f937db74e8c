import io

import pytest
from rich.console import Console

from query2label.training import progress
from query2label.training.progress import Reporter, in_words


def test_reporter__says_everything_to_the_person_and_the_log(tmp_path):
    person = io.StringIO()
    with Reporter(console=Console(file=person), log_path=tmp_path / "run" / "log.txt") as reporter:
        reporter.say("epoch 1 [bold] done")
        reporter.warn("no positives")
    assert person.getvalue() == "epoch 1 [bold] done\nWarning: no positives\n"
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [line[20:] for line in log] == ["epoch 1 [bold] done", "Warning: no positives"]


def test_reporter__appends_to_the_log(tmp_path):
    for text in ("one", "two"):
        with Reporter(console=None, log_path=tmp_path / "log.txt") as reporter:
            reporter.say(text)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


def test_phase__plain_output_says_where_it_is_now_and_then(monkeypatch):
    person = io.StringIO()
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with (
        Reporter(console=Console(file=person), log_path=None) as reporter,
        reporter.phase("epoch 1/2", total=2) as phase,
    ):
        phase.advance(images=4, note="loss 1.5")
        assert phase.images_per_second > 0
    assert person.getvalue().startswith("epoch 1/2: 1 of 2, ")
    assert person.getvalue().rstrip().endswith("images/s, loss 1.5")


def test_phase__draws_a_bar_on_a_terminal():
    person = io.StringIO()
    console = Console(file=person, force_terminal=True, width=120)
    with (
        Reporter(console=console, log_path=None) as reporter,
        reporter.phase("epoch 1/2", total=4, done=2) as phase,
    ):
        phase.advance(images=4, note="loss 1.5")
    assert "3/4" in person.getvalue()
    assert "loss 1.5" in person.getvalue()
    assert "images/s" in person.getvalue()


@pytest.mark.parametrize(("seconds", "expected"), [(12.2, "12 s"), (300.0, "5 min"), (10800.0, "3.0 h")])
def test_in_words__rounds_to_what_matters(seconds, expected):
    assert in_words(seconds) == expected
