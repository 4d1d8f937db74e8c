import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from query2label.cli import app as app_module
from query2label.cli.app import CommandGroup, app
from query2label.cli.terminal import printable
from query2label.errors import BundleError

QUIET = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}


def q2l(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "query2label", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**QUIET, **environment},
        check=False,
    )


@pytest.fixture
def failing() -> typer.Typer:
    """An application like ours, whose commands fail."""
    failing = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)
    failing.callback()(app_module._options)

    @failing.command()
    def ours() -> None:
        raise BundleError("The file \x1b[31mred is broken.")

    @failing.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    @failing.command()
    def bug() -> None:
        raise ZeroDivisionError("a mistake of ours")

    return failing


def test_app__an_error_of_ours_is_one_sentence_and_code_2(failing: typer.Typer) -> None:
    result = CliRunner().invoke(failing, ["ours"])
    assert result.exit_code == 2
    assert result.stderr == "Error: The file \\x1b[31mred is broken.\n"
    assert result.stdout == ""


@pytest.mark.parametrize(("arguments", "environment"), [(["--debug"], {}), ([], {"Q2L_DEBUG": "1"})])
def test_app__debug_lets_the_error_through(
    failing: typer.Typer, arguments: list[str], environment: dict[str, str]
) -> None:
    result = CliRunner().invoke(failing, [*arguments, "ours"], env=environment)
    assert isinstance(result.exception, BundleError)


def test_app__an_interrupt_ends_with_code_130(failing: typer.Typer) -> None:
    result = CliRunner().invoke(failing, ["interrupted"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_app__a_bug_is_not_hidden(failing: typer.Typer) -> None:
    assert isinstance(CliRunner().invoke(failing, ["bug"]).exception, ZeroDivisionError)


def test_app__wrong_usage_ends_with_code_2() -> None:
    for arguments in (["predict"], ["no-such-command"], ["predict", "x.jpg", "--model", "b", "--top-k", "0"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, arguments
        assert "Traceback" not in result.output


def test_app__help_and_version_and_module() -> None:
    done = q2l("--help")
    assert done.returncode == 0
    for command in ("predict", "explain", "config", "doctor"):
        assert f" {command} " in done.stdout
    assert q2l("--version").stdout.startswith("query2label 0.")


def test_app__help_answers_in_half_a_second_of_processor_time() -> None:
    # Processor time: the wall clock of a busy machine says nothing about us.
    def seconds() -> float:
        before = os.times()
        q2l("--help")
        after = os.times()
        return (after.children_user + after.children_system) - (before.children_user + before.children_system)

    assert min(seconds() for _ in range(3)) < 0.5


def test_app__a_closed_pipe_is_no_error() -> None:
    reader = subprocess.Popen(
        [sys.executable, "-m", "query2label", "config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**QUIET, "PYTHONUNBUFFERED": "1"},
    )
    assert reader.stdout is not None
    assert reader.stderr is not None
    reader.stdout.close()
    error = reader.stderr.read()
    reader.stderr.close()
    reader.wait(timeout=60)
    assert b"Traceback" not in error


def test_app__a_real_error_has_no_traceback() -> None:
    started = time.monotonic()
    done = q2l("predict", "nowhere.jpg", "--model", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: There is no file or folder nowhere.jpg.\n"
    assert time.monotonic() - started < 30
    assert "Traceback" in q2l("--debug", "predict", "nowhere.jpg", "--model", "nowhere").stderr


def test_printable__shows_what_a_terminal_would_obey() -> None:
    assert printable("café, 猫\nnext") == "café, 猫\nnext"
    assert printable("\x1b]0;x\x07") == r"\x1b]0;x\x07"
    assert printable("a\u202eb\x9b\r\t") == r"a\u202eb\x9b\r\t"
    assert printable(os.fsdecode(b"x\xe9")) == r"x\udce9"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("arguments", [["config"], ["data", "check", "DATA"]])
def test_app__a_full_disk_behind_the_output_is_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / label / f"{label}.png")
    arguments = [str(tmp_path) if argument == "DATA" else argument for argument in arguments]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "query2label", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            env=QUIET,
            check=False,
        )
    wanted = "Error: No room to write the output: free some space and start again.\n"
    assert (result.returncode, result.stderr) == (2, wanted)
