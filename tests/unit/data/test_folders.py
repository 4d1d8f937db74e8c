from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data import folders
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]


def test_read__an_image_in_several_folders_has_several_labels(make_text: MakeText, tmp_path: Path) -> None:
    for name, text in {
        "dog/1.jpg": "one",
        "cat/1.jpg": "one",
        "dog/2.jpg": "two",
        "cat/notes.md": "",
    }.items():
        make_text(name, text)
    (tmp_path / "ant").mkdir()
    dataset = folders.read(tmp_path)
    assert dataset.problems == []
    assert dataset.labels.names == ("ant", "cat", "dog")
    assert [sample.path for sample in dataset.samples] == [tmp_path / "cat/1.jpg", tmp_path / "dog/2.jpg"]
    assert [sample.positive for sample in dataset.samples] == [(1, 2), (2,)]
    assert dataset.splits() == ()


def test_read__splits_above_the_labels(make_text: MakeText, tmp_path: Path) -> None:
    for name in ("train/dog/1.jpg", "train/cat/2.jpg", "Validation/dog/1.jpg"):
        make_text(name, name)
    dataset = folders.read(tmp_path)
    assert dataset.problems == []
    assert [(sample.split, sample.positive) for sample in dataset.samples] == [
        ("train", (1,)),
        ("train", (0,)),
        ("val", (1,)),
    ]


def test_read__labels_may_be_fixed(make_text: MakeText, tmp_path: Path) -> None:
    make_text("dog/1.jpg", "")
    make_text("cat/2.jpg", "")
    make_text("labels.txt", "dog\ncat\n")
    assert folders.read(tmp_path).labels.names == ("dog", "cat")
    dataset = folders.read(tmp_path, labels=LabelSet(["dog"]))
    assert [sample.positive for sample in dataset.samples] == [(0,)]
    assert "cat: Unknown label 'cat'" in str(dataset.problems[0])
    with pytest.raises(DataError, match=r"cat: Unknown label 'cat'"):
        folders.read(tmp_path, labels=LabelSet(["bee"]))


def test_read__collects_what_is_wrong(make_text: MakeText, tmp_path: Path) -> None:
    outside = make_text("outside.jpg", "")
    for name, text in {
        "dog/1.jpg": "one",
        "cat/1.jpg": "other",
        "dog/more/2.jpg": "",
        "stray.jpg": "",
    }.items():
        make_text(f"data/{name}", text)
    (tmp_path / "data" / "dog" / "3.jpg").symlink_to(outside)
    dataset = folders.read(tmp_path / "data")
    assert [sample.positive for sample in dataset.samples] == [(0,)]
    found = [str(problem).partition("data/")[2] for problem in dataset.problems]
    assert found[0].startswith("dog/1.jpg: has the name of ")
    assert found[0].endswith("data/cat/1.jpg, but is another image: rename one")
    assert found[1].startswith("dog/3.jpg: image 'dog/3.jpg' leads out of")
    assert found[2] == "dog/more: is a folder in a label's folder: images belong right into that"
    assert found[3] == "stray.jpg: is an image outside of the folders of labels"
    assert len(found) == 4


def test_read__refuses_a_folder_without_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folders with images"):
        folders.read(tmp_path)
