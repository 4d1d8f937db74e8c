from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data import sidecar
from query2label.data.samples import ProblemError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]


def test_read__labels_beside_images(make_text: MakeText, tmp_path: Path) -> None:
    for name, text in {"b": "dog\r\ncat\r\n", "a": "cat, hot dog", "c": ""}.items():
        make_text(f"{name}.jpg", "")
        make_text(f"{name}.txt", text)
    make_text("README.md", "")
    dataset = sidecar.read(tmp_path)
    assert dataset.problems == []
    assert dataset.labels.names == ("cat", "dog", "hot dog")
    assert [sample.path.name for sample in dataset.samples] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [sample.positive for sample in dataset.samples] == [(0, 2), (0, 1), ()]


def test_read__subfolders_named_like_splits_are_splits(make_text: MakeText, tmp_path: Path) -> None:
    for name in ("train/a", "valid/deep/b", "other/c"):
        make_text(f"{name}.png", "")
        make_text(f"{name}.txt", "dog")
    assert [sample.split for sample in sidecar.read(tmp_path).samples] == [None, "train", "val"]


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt"])
def test_read__a_list_of_labels_fixes_the_order(make_text: MakeText, tmp_path: Path, name: str) -> None:
    make_text(name, "dog\ncat\n")
    make_text("a.jpg", "")
    make_text("a.txt", "cat\ndgo")
    make_text("b.jpg", "")
    make_text("b.txt", "cat")
    dataset = sidecar.read(tmp_path)
    assert dataset.labels.names == ("dog", "cat")
    assert [sample.positive for sample in dataset.samples] == [(1,)]
    assert "a.txt:2: Unknown label 'dgo'" in str(dataset.problems[0])
    assert sidecar.read(tmp_path, labels=LabelSet(["cat"])).labels.names == ("cat",)


def test_read__collects_what_is_wrong(make_text: MakeText, tmp_path: Path) -> None:
    outside = make_text("outside.txt", "secret")
    for name, text in {
        "a.jpg": "",
        "a.txt": "dog",
        "alone.jpg": "",
        "c.txt": "dog",
        "d.jpg": "",
        "d.png": "",
    }.items():
        make_text(f"data/{name}", text)
    make_text("data/d.txt", "dog")
    make_text("data/e.jpg", "")
    (tmp_path / "data" / "e.txt").symlink_to(outside)
    make_text("data/f.jpg", "")
    make_text("data/f.txt", "0 0.5 0.5 0.25 0.1\n")
    (tmp_path / "data" / "g.jpg").symlink_to(outside)
    make_text("data/g.txt", "dog")
    dataset = sidecar.read(tmp_path / "data")
    assert [sample.path.name for sample in dataset.samples] == ["a.jpg", "d.jpg"]
    found = [str(problem).partition("data/")[2] for problem in dataset.problems]
    assert found[0] == "alone.txt: is missing: each image needs its labels"
    assert found[1] == "d.png: has the same label file as d.jpg: rename one"
    assert found[2].startswith("e.txt: image 'e.txt' leads out of")
    assert (
        found[3]
        == "f.txt:1: has numbers of a box (YOLO), not names: name the classes in data.yaml or classes.txt"
    )
    assert found[4].startswith("g.jpg: image 'g.jpg' leads out of")
    assert found[5] == "c.txt: has no image beside it"
    assert len(found) == 6


def test_read__refuses_data_without_labels(make_text: MakeText, tmp_path: Path) -> None:
    make_text("a.jpg", "")
    make_text("a.txt", "")
    with pytest.raises(ProblemError, match="has no label in any of the files"):
        sidecar.read(tmp_path)
    make_text("a.txt", "0 0.5 0.5 1 1")
    with pytest.raises(ProblemError, match=r"; the first problem: .*a.txt:1: has numbers of a box \(YOLO\)"):
        sidecar.read(tmp_path)
    make_text("a.txt", "dog\nd\x1bg")
    with pytest.raises(ProblemError, match=r"a.txt:2: label name .*control characters"):
        sidecar.read(tmp_path)


def test_read__a_label_given_twice_is_a_warning(make_image: Callable[..., Path], make_text: MakeText) -> None:
    path = make_image("a.jpg").parent
    file = make_text("a.txt", "dog\ncat, dog\n")
    assert [str(warning) for warning in sidecar.read(path).warnings] == [
        f"{file}:2: label 'dog' is given twice"
    ]
