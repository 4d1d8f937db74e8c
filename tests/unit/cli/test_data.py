import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from query2label.cli.app import app
from query2label.data.load import load_dataset

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    """Runs `q2l data ...`; gives the exit code and all that was printed."""

    def run_command(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["data", *map(str, arguments)])
        return result.exit_code, result.output

    return run_command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number in range(20):
        Image.new("RGB", (8, 6), (number * 10, 0, 0)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'dog|cat' if number % 2 else 'dog'}")
    (folder / "labels.csv").write_text("image,labels\n" + "\n".join(rows) + "\n")
    return folder


def test_check__good_data(run: Run, data: Path) -> None:
    code, text = run("check", data)
    assert code == 0
    assert "Images: 20 (20 all)" in text
    assert "Labels: 2; 1.50 per image" in text
    assert "cat + dog" in text
    assert "no errors, no warnings." in text


def test_check__bad_data_names_files_and_lines_and_exits_1(run: Run, data: Path) -> None:
    (data / "3.png").unlink()
    (data / "4.png").write_bytes(b"x")
    with (data / "labels.csv").open("a") as file:
        file.write("../../etc/passwd,dog\n")
    code, text = run("check", data)
    assert code == 1
    assert f"Error: {data}/labels.csv:5: image '3.png' is missing" in text
    assert f"Error: {data}/labels.csv:22: image '../../etc/passwd' leads out of" in text
    assert f"Error: {data}/4.png: " in text
    assert "3 errors" in text
    assert run("check", data, "--no-decode")[1].count("Error: ") == 2


def test_check__duplicates_are_named(run: Run, data: Path) -> None:
    (data / "4.png").write_bytes((data / "2.png").read_bytes())
    code, text = run("check", data)
    assert code == 0
    assert f"same content: {data / '2.png'}, {data / '4.png'}" in text


def test_check__many_errors_are_cut(run: Run, data: Path) -> None:
    rows = [f"absent{number}.png,dog" for number in range(1005)]
    (data / "labels.csv").write_text("image,labels\n0.png,dog\n" + "\n".join(rows))
    code, text = run("check", data)
    assert code == 1
    assert text.count("Error: ") == 1000
    assert "and 5 more errors (--json has all)" in text
    assert "1005 errors, no warnings." in text


def test_check__json(run: Run, data: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(data), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["num_images"] == {"all": 20}


def test_check__names_are_shown_never_obeyed(run: Run, data: Path) -> None:
    (data / "labels.csv").write_text(
        "image,labels\n0.png,[red]dog[/red]\n1.png,\N{RIGHT-TO-LEFT OVERRIDE}cat\n"
    )
    code, text = run("check", data)
    assert code == 0
    assert "[red]dog[/red]" in text
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "absent"], "absent does not exist"),
        (["check", "nothing"], "nothing has no known layout"),
        (["split", "data", "--fractions", "train"], "'train' is not SPLIT=SHARE"),
        (["split", "data", "--fractions", "a=0.5,a=0.5"], "'a' occurs twice"),
        (["split", "data", "--fractions", "a=0.5,b=0.1"], "add up to 1"),
        (["split", "data", "--out", "x.json"], "has to end with .csv"),
    ],
)
def test_errors__are_one_sentence_and_exit_2(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(data.parent)
    (data.parent / "nothing").mkdir()
    before = sorted(data.parent.rglob("*"))
    code, text = run(*arguments)
    assert code == 2
    assert text.startswith("Error: ")
    assert message in text
    assert text.count("\n") == 1
    assert sorted(data.parent.rglob("*")) == before


def test_split__writes_a_table_that_is_read_back(run: Run, data: Path) -> None:
    out = data / "splits" / "s.csv"
    code, text = run("split", data, "--out", out, "--fractions", "train=0.5,val=0.5")
    assert code == 0
    assert (
        f"Wrote {out}: 10 train, 10 val. The labels and their order: {out.with_suffix('.labels.txt')}."
        in text
    )
    assert f"train with --set data.image_root={data}" in text
    divided = load_dataset(out, image_root=data)
    assert [(divided.select(split).targets() == 1).sum(axis=0).tolist() for split in ("train", "val")] == [
        [5, 10],
        [5, 10],
    ]


def test_split__beside_the_images_needs_no_folder(run: Run, data: Path) -> None:
    out = data / "splits.csv"
    code, text = run("split", data, "--out", out, "--seed", 5)
    assert code == 0
    assert "The images are not beside it" not in text
    assert load_dataset(out).splits() != ()
