import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from query2label.cli.app import app

pytestmark = pytest.mark.usefixtures("colour_model")


def predict(*arguments: object, code: int = 0) -> Result:
    texts = ["predict", *map(str, arguments), "--model", "any"]
    result = CliRunner().invoke(app, texts, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == code, result.output
    return result


def test_predict__prints_a_table(photos: Path) -> None:
    result = predict(photos)
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()[3:] if line.strip()]
    assert rows[0] == [str(photos / "a.png"), "red 0.99, green 0.62".ljust(len(rows[0][1]))]
    assert rows[1][1].startswith("no label (best: red 0.19)")
    assert rows[2][1].startswith("error: It is not a JPEG")
    assert result.stderr == "1 of 3 images could not be read.\n"


def test_predict__streams_jsonl_and_csv(photos: Path) -> None:
    rows = [json.loads(line) for line in predict(photos, "--format", "jsonl").stdout.splitlines()]
    assert [row["labels"] for row in rows] == [["red", "green"], [], []]
    assert list(rows[0]["scores"]) == ["red", "green", "blue, dark"]
    table = list(csv.DictReader(io.StringIO(predict(photos, "--format", "csv").stdout)))
    assert [row["labels"] for row in table] == ["red|green", "", ""]
    assert float(table[0]["score:green"]) == pytest.approx(rows[0]["scores"]["green"], abs=1e-6)
    assert "not a JPEG" in table[2]["error"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_predict__writes_a_file_as_its_name_ends(photos: Path, suffix: str) -> None:
    out = photos / "new" / f"p.{suffix}"
    assert predict(photos, "--out", out).stdout == ""
    if suffix == "parquet":
        assert pq.read_table(out).num_rows == 3
    else:
        assert "a.png" in out.read_text()
    predict(photos / "a.png", "--out", out, "--format", "jsonl")
    assert json.loads(out.read_text())["labels"] == ["red", "green"]


def test_predict__what_it_writes_is_a_data_set(photos: Path) -> None:
    from query2label.data.load import load_dataset

    (photos / "c.png").unlink()
    predict(photos / "a.png", photos / "b.png", "--out", photos / "p.csv", "--top-k", 2)
    dataset = load_dataset(photos / "p.csv")
    assert [sample.path.name for sample in dataset.samples] == ["a.png", "b.png"]
    assert set(dataset.labels) >= {"red", "green"}


def test_predict__takes_thresholds_and_top_k(photos: Path) -> None:
    image = photos / "a.png"

    def labels(*options: object) -> list[str]:
        return json.loads(predict(image, "--format", "jsonl", *options).stdout)["labels"]

    assert labels("--threshold", 0.9) == ["red"]
    assert labels("--threshold", "green=0.9") == ["red"]
    assert labels("--threshold", "green=0.9", "--threshold", "red=1") == []
    assert labels("--threshold", "blue, dark=0") == ["red", "green", "blue, dark"]
    assert labels("--top-k", 1) == ["red"]
    assert labels("--top-k", 3) == ["red", "green", "blue, dark"]
    assert labels("--top-k", 3, "--threshold", 0.9) == ["red"]


def test_predict__takes_lists_and_patterns(photos: Path) -> None:
    (photos / "list.txt").write_text("b.png\na.png\n")
    rows = predict(f"@{photos / 'list.txt'}", photos / "[a]*.png", "--format", "jsonl").stdout.splitlines()
    assert [Path(json.loads(row)["image"]).name for row in rows] == ["b.png", "a.png", "a.png"]


def test_predict__ends_with_code_1_where_no_image_could_be_read(photos: Path) -> None:
    predict(photos / "c.png", code=1)
    predict(photos / "c.png", photos / "a.png")


def test_predict__a_name_with_line_ends_stays_on_its_line(photos: Path) -> None:
    (photos / "a.png").rename(photos / "new\nline.png")
    result = predict(photos / "new\nline.png")
    assert r"new\nline.png" in result.stdout


@pytest.fixture
def voc(photos: Path) -> Path:
    """A VOC folder of the photos: a and b in `test`, the broken c in `val`."""
    root = photos / "VOC2012"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for name in "abc":
        (photos / f"{name}.png").rename(root / "JPEGImages" / f"{name}.jpg")
    for split, names in {"test": "ba", "val": "c"}.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        lines = "".join(f"{name} -1\n" for name in names)
        (root / "ImageSets" / "Main" / f"red_{split}.txt").write_text(lines)
    return root


def test_predict__takes_a_split_of_a_data_set(voc: Path) -> None:
    rows = [
        json.loads(line) for line in predict(voc, "--split", "test", "--format", "jsonl").stdout.splitlines()
    ]
    assert [(Path(row["image"]).name, row["labels"]) for row in rows] == [
        ("b.jpg", []),
        ("a.jpg", ["red", "green"]),
    ]
    wrong = predict(voc, "--split", "train", code=2)
    assert wrong.stderr == f"Error: {voc} has no split 'train': it has val, test.\n"
    assert "nowhere does not exist" in predict("nowhere", "--split", "test", code=2).stderr


def test_predict__writes_the_files_of_the_voc_server(voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission"
    result = predict(voc, "--split", "test", "--format", "voc", "--out", out)
    main = out / "results" / "VOC2012" / "Main"
    assert result.stdout == f"Written: {main}, 3 files with 2 images each.\n"
    expected = {
        Path(row["image"]).stem: row["scores"]
        for row in map(json.loads, predict(voc, "--split", "test", "--format", "jsonl").stdout.splitlines())
    }
    for label in ("red", "green", "blue, dark"):
        lines = (main / f"comp2_cls_test_{label}.txt").read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["b", "a"]
        for line in lines:
            image_id, score = line.split()
            assert float(score) == pytest.approx(expected[image_id][label], rel=1e-6)
    images = voc / "JPEGImages"
    predict(images / "a.jpg", "--format", "voc", "--competition", "comp1", "--out", tmp_path / "other")
    names = [path.name for path in (tmp_path / "other").rglob("*red.txt")]
    assert names == ["comp1_cls_test_red.txt"]


def test_predict__the_voc_server_gets_all_images_or_nothing(voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission"
    result = predict(voc, "--split", "validation", "--format", "voc", "--out", out, code=2)
    assert "c.jpg cannot be read: It is not" in result.stderr
    assert "the VOC server wants every image, so nothing is written." in result.stderr
    assert not out.exists()
    (voc / "JPEGImages" / "c.jpg").write_bytes((voc / "JPEGImages" / "a.jpg").read_bytes())
    predict(voc, "--split", "validation", "--format", "voc", "--out", out)
    assert len(list(out.rglob("comp2_cls_val_*.txt"))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "voc"), "The format voc needs a folder to write to: give --out."),
        (("--format", "voc", "--out", "x", "--top-k", 1), "leave --top-k and --threshold out."),
        (("--format", "voc", "--out", "x", "--threshold", 0.3), "leave --top-k and --threshold out."),
        (("--competition", "comp1"), "--competition comp1 is for --format voc."),
        (("--out", "x.voc"), "What to write to x.voc?"),
    ],
)
def test_predict__contradicting_options_are_refused(
    photos: Path, options: tuple[object, ...], message: str
) -> None:
    result = predict(photos, *options, code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
