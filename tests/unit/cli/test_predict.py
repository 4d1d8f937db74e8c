import csv
import io
import json
import math
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
        (("--shard", "1/2"), "--shard is for a folder of parts: name one, such as --out tags."),
        (("--shard", "1/2", "--out", "x.csv"), "--shard is for a folder of parts"),
        (("--engine", "ray", "--out", "x.csv"), "--engine ray is for a folder of parts"),
        (("--shard", "3/2", "--out", "x"), "--shard 3/2 is not of the form i/n"),
        (("--keep-logits",), "The format table has no logits: leave --keep-logits out."),
        (("--keep-logits", "--format", "voc", "--out", "x"), "The format voc has no logits"),
    ],
)
def test_predict__contradicting_options_are_refused(
    photos: Path, options: tuple[object, ...], message: str
) -> None:
    result = predict(photos, *options, code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `--model any` is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any").write_text("a model")
    return tmp_path / "any"


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_predict__writes_parts(photos: Path, model_file: Path, form: str) -> None:
    out = photos / "tags"
    options = ("--out", out, "--part-size", 2, *(() if form == "parquet" else ("--format", form)))
    result = predict(*sorted(photos.glob("*.png")), *options)
    assert result.stdout == f"Written: {out} has all 2 parts of 3 images.\n"
    assert result.stderr == "1 of 3 images could not be read.\n"
    names = ["manifest.json", f"part-00000.{form}", f"part-00001.{form}"]
    assert sorted(path.name for path in out.iterdir()) == names
    before = {path: path.read_bytes() for path in out.iterdir()}
    (out / names[1]).unlink()
    again = predict(*sorted(photos.glob("*.png")), *options)
    assert again.stderr == ""
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert predict(*sorted(photos.glob("*.png")), *options).stdout == result.stdout
    if form == "jsonl":
        rows = [json.loads(line) for name in names[1:] for line in (out / name).read_text().splitlines()]
        assert [row["labels"] for row in rows] == [["red", "green"], [], []]


def test_predict__goes_on_with_the_same_command_only(photos: Path, model_file: Path) -> None:
    out = photos / "tags"
    predict(photos / "a.png", "--out", out)
    for arguments, words in (
        ((photos / "b.png",), "other images"),
        ((photos / "a.png", "--threshold", 0.9), "other thresholds or another --top-k"),
        ((photos / "a.png", "--top-k", 1), "other thresholds or another --top-k"),
        ((photos / "a.png", "--format", "csv"), "another --format"),
        ((photos / "a.png", "--batch-size", 2), "another --batch-size"),
    ):
        result = predict(*arguments, "--out", out, code=2)
        assert result.stderr == (
            f"Error: {out} was begun with {words}: give what it was begun with, or name another folder.\n"
        )
    model_file.write_text("another model")
    assert "was begun with another model:" in predict(photos / "a.png", "--out", out, code=2).stderr


def test_predict__shares_the_parts(photos: Path, model_file: Path) -> None:
    images = (photos / "a.png", photos / "b.png", photos / "a.png")
    options = ("--part-size", 1, "--format", "jsonl")
    first = predict(*images, "--out", photos / "tags", *options, "--shard", "1/2")
    assert first.stdout == f"Written: {photos / 'tags'} has 2 of 3 parts of 3 images.\n"
    second = predict(*images, "--out", photos / "tags", *options, "--shard", "2/2")
    assert second.stdout == f"Written: {photos / 'tags'} has all 3 parts of 3 images.\n"
    predict(*images, "--out", photos / "whole", *options)
    whole = {path.name: path.read_bytes() for path in (photos / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (photos / "tags").iterdir()} == whole


def test_rethreshold__chooses_labels_anew(photos: Path, model_file: Path) -> None:
    options = ("--format", "jsonl", "--keep-logits")
    predict(photos / "a.png", "--out", photos / "tags", *options)
    arguments = ["rethreshold", str(photos / "tags"), "--threshold", "0.9", "--out", str(photos / "new")]
    result = CliRunner().invoke(app, arguments)
    assert result.stdout == f"Written: {photos / 'new'} with 1 images.\n", result.output
    row = json.loads((photos / "new" / "part-00000.jsonl").read_text())
    assert row["labels"] == ["red"]
    assert list(row["logits"]) == ["red", "green", "blue, dark"]
    wrong = CliRunner().invoke(app, ["rethreshold", str(photos / "tags"), "--out", str(photos / "x")])
    assert wrong.exit_code == 2
    assert wrong.stderr == "Error: Which thresholds? Give --model with new ones, or --threshold.\n"


def test_rethreshold__by_a_bundle(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from query2label.bundle import BUILTIN_PATH
    from query2label.inference.outputs import save_predictions
    from query2label.inference.prediction import Prediction
    from query2label.inference.runtimes import read_model

    bundle = read_model(BUILTIN_PATH)
    logits = {label: float(number) - 7 for number, label in enumerate(bundle.labels)}
    prediction = Prediction(source="x.jpg", scores=dict.fromkeys(bundle.labels, 0.0), logits=logits)
    save_predictions([prediction], tmp_path / "p.jsonl", bundle.labels, form="jsonl")
    arguments = ["rethreshold", str(tmp_path / "p.jsonl"), "--model", str(BUILTIN_PATH)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "q.jsonl")])
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "q.jsonl").read_text())
    for index, label in enumerate(bundle.labels):
        score = 1 / (1 + math.exp(-logits[label] / bundle.temperature))
        assert row["scores"][label] == pytest.approx(score, rel=1e-6)
        assert (label in row["labels"]) == (score >= bundle.thresholds[index])
