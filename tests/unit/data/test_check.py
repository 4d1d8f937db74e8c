import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from query2label.cli.app import app
from query2label.data.check import LabelCounts, Pair, check_dataset
from query2label.data.check_images import Duplicates, ImageSizes
from query2label.errors import DataError
from query2label.storage import sha256_of

MakeText = Callable[[str, str], Path]


@pytest.fixture
def data(make_text: MakeText, make_image: Callable[..., Path], tmp_path: Path) -> Path:
    """Five images: a and d are the same in two splits with other labels, b is corrupt, e is missing."""
    make_text(
        "labels.csv",
        "image,labels,unknown,split,width\n"
        "a.jpg,dog|cat,,train,1\nb.jpg,dog,,train,2\nc.jpg,dog|cat,ant,train,3\nd.jpg,dog,,val,4\ne.jpg,dog,,val,5\n",
    )
    make_image("a.jpg", grey=1)
    make_image("b.jpg").write_bytes(b"no image")
    make_image("c.jpg", grey=2, size=(20, 10))
    make_image("d.jpg", grey=1)
    return tmp_path


def test_check_dataset__counts(data: Path) -> None:
    report = check_dataset(data)
    assert report.format == "table"
    assert report.num_images == {"train": 3, "val": 1}
    assert report.labels == (
        LabelCounts("ant", {"train": 0, "val": 0}, {"train": 1, "val": 0}),
        LabelCounts("cat", {"train": 2, "val": 0}, {"train": 0, "val": 0}),
        LabelCounts("dog", {"train": 3, "val": 1}, {"train": 0, "val": 0}),
    )
    assert report.labels_per_image == {1: 2, 2: 2}
    assert report.mean_labels == 1.5
    assert report.pairs == (Pair(("cat", "dog"), 2),)
    assert report.sizes == ImageSizes((6, 8), (6, 8), (10, 20))
    assert report.notes == ("Columns that were not used: width.",)


def test_check_dataset__errors_and_warnings(data: Path) -> None:
    report = check_dataset(data)
    assert [str(problem).removeprefix(f"{data}/").partition(" in /")[0] for problem in report.errors[:1]] == [
        "labels.csv:6: image 'e.jpg' is missing"
    ]
    assert report.errors[1].path == data / "b.jpg"
    assert report.errors[1].message
    assert report.duplicates == (Duplicates((data / "a.jpg", data / "d.jpg"), ("train", "val"), ("cat",)),)
    assert report.warnings == (
        "No image has the label 'ant'.",
        "No image of val has the label 'cat'.",
        f"One image is in the splits train and val: {data}/a.jpg and {data}/d.jpg.",
        f"One image has different labels in its copies (cat): {data}/a.jpg and {data}/d.jpg.",
    )


def test_check_dataset__warns_of_labels_that_differ_only_in_case(make_text: MakeText) -> None:
    path = make_text("t.csv", "image,labels\na.jpg,Dog|cat\nb.jpg,dog|hot  dog\nc.jpg,Hot dog|cow\n")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        make_text(name, "")
    report = check_dataset(path, decode=False)
    assert report.warnings == (
        "Labels that differ only in case or spaces: 'Dog', 'dog'; are they one?",
        "Labels that differ only in case or spaces: 'Hot dog', 'hot  dog'; are they one?",
    )


def test_check_dataset__one_warning_for_all_labels_that_a_split_lacks(
    make_text: MakeText, tmp_path: Path
) -> None:
    names = ",".join(f"label{number:02}" for number in range(26))
    columns = ",".join("0" * 25)
    path = make_text("t.csv", f"image,split,{names}\na.jpg,train,1,{columns}\nb.jpg,val,1,{columns}\n")
    for name in ("a.jpg", "b.jpg"):
        make_text(name, "")
    (warning,) = check_dataset(path, decode=False).warnings
    assert warning.startswith("No image has any of 25 labels: 'label01', 'label02', ")
    assert warning.endswith("'label20' and 5 more.")


def test_check_dataset__without_decoding(data: Path) -> None:
    report = check_dataset(data, decode=False)
    assert len(report.errors) == 1
    assert report.duplicates == ()
    assert report.sizes is None


def test_check_dataset__is_json(data: Path) -> None:
    value = json.loads(json.dumps(check_dataset(data).to_dict(), allow_nan=False))
    assert value["mean_labels"] == 1.5
    assert value["errors"][0]["line"] == 6
    assert value["duplicates"][0]["paths"] == [str(data / "a.jpg"), str(data / "d.jpg")]


def test_check_dataset__tells_how_far_it_is(data: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_dataset(data, on_image=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_check_dataset__a_file_that_cannot_be_read_is_an_error(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        if path.name == "c.jpg":
            raise PermissionError(13, "Permission denied")
        return sha256_of(path)

    monkeypatch.setattr("query2label.data.check_images.sha256_of", refuse)
    assert "c.jpg: cannot be read: Permission denied" in " ".join(map(str, check_dataset(data).errors))


def test_check_dataset__images_that_nobody_judged(make_text: MakeText, tmp_path: Path) -> None:
    path = make_text("t.csv", "image,dog,cat\na.jpg,1,0\nb.jpg,,-1\n")
    for name in ("a.jpg", "b.jpg"):
        make_text(name, "")
    report = check_dataset(path, decode=False)
    assert "1 images have no label that anybody has judged: they teach nothing." in report.warnings
    assert report.num_images == {"all": 2}


def test_check_dataset__all_images_missing_is_still_a_report(make_text: MakeText, tmp_path: Path) -> None:
    make_text("ImageSets/Main/train.txt", "a\nb\n")
    make_text("ImageSets/Main/dog_train.txt", "a 1\nb -1\n")
    report = check_dataset(tmp_path)
    (error,) = report.errors
    assert error.line == 1
    assert error.message.startswith("none of 2 images can be used; image 'JPEGImages/a.jpg' is missing")
    assert (report.num_images, report.mean_labels) == ({}, 0)


def test_check_dataset__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no known layout"):
        check_dataset(tmp_path)


def test_check_dataset__garments_have_one_photo_twice(ccp: Path) -> None:
    report = check_dataset(ccp)
    assert report.errors == ()
    assert [tuple(path.name for path in group.paths) for group in report.duplicates] == [
        ("0025.jpg", "1707.jpg")
    ]
    assert report.duplicates[0].conflicting_labels == ("bracelet",)


def test_check_dataset__finds_real_photos_that_look_alike_in_two_splits(ccp: Path, tmp_path: Path) -> None:
    rows = ["image,labels,split"]
    for number, name in enumerate(("0025", "0343", "0403", "0594", "0001", "0002")):
        shutil.copy(ccp / "photos" / f"{name}.jpg", tmp_path)
        rows.append(f"{name}.jpg,{'ab'[number % 2]},train")
    for number, name in enumerate(("1707", "1083", "1074", "0722")):  # 1707 is 0025, byte by byte
        shutil.copy(ccp / "photos" / f"{name}.jpg", tmp_path)
        rows.append(f"{name}.jpg,{'ab'[number % 2]},val")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    report = check_dataset(tmp_path)
    assert [(pair.paths[0].stem, pair.paths[1].stem, pair.splits) for pair in report.look_alikes] == [
        ("1083", "0343", ("val", "train")),
        ("1074", "0403", ("val", "train")),
        ("0722", "0594", ("val", "train")),
    ]
    assert [pair.distance for pair in report.look_alikes] == [2, 2, 4]
    assert report.warnings == (
        f"One image is in the splits train and val: {tmp_path}/0025.jpg and {tmp_path}/1707.jpg.",
        "3 images of val look like one of train: the same picture, perhaps saved anew or resized.",
    )
    assert report.to_dict()["look_alikes"][0]["splits"] == ["val", "train"]
    output = CliRunner().invoke(app, ["data", "check", str(tmp_path)]).output
    assert f"Note: look alike: {tmp_path}/1083.jpg (val), {tmp_path}/0343.jpg (train)" in output
    assert check_dataset(tmp_path, decode=False).look_alikes == ()
