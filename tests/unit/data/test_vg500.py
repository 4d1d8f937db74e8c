import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from query2label import load_dataset
from query2label.data import vg500
from query2label.data.samples import Dataset
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]
MakeVg = Callable[..., Path]

INDEX = {"1.jpg": [3, 0], "2.jpg": [], "3.jpg": [499, 3, 3], "4.jpg": [7]}


@pytest.fixture
def make_vg(make_text: MakeText, tmp_path: Path) -> MakeVg:
    """A Visual Genome 500 folder; arguments replace its parts (None: leave out)."""

    def make(
        *,
        index: Any = INDEX,
        train: str | None = "2.jpg\n1.jpg\n",
        test: str | None = "3.jpg\n",
        images: Sequence[str] = (),
        folder: str = "vg",
    ) -> Path:
        text = index if isinstance(index, str) else json.dumps(index)
        make_text(f"{folder}/vg_category_500_labels_index.json", text)
        for name, lines in (("train", train), ("test", test)):
            if lines is not None:
                make_text(f"{folder}/{name}_list_500.txt", lines)
        for image in images:
            make_text(f"vg/{image}", "")
        return tmp_path / "vg"

    return make


def read(path: Path, labels: LabelSet | None = None) -> Dataset:
    return vg500.read(path, labels=labels, check_files=False)


@pytest.mark.parametrize("folder", ["vg", "vg/annotations", "vg/ssgrl_partition"])
def test_read__the_native_form(make_vg: MakeVg, folder: str) -> None:
    dataset = load_dataset(make_vg(folder=folder), check_files=False)
    assert dataset.format == "vg500"
    assert len(dataset.labels) == 500
    assert (dataset.labels[0], dataset.labels[499]) == ("label 0", "label 499")
    assert [sample.positive for sample in dataset.samples] == [(), (0, 3), (3, 499)]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "test"]
    assert [sample.path.name for sample in dataset.samples] == ["2.jpg", "1.jpg", "3.jpg"]
    assert dataset.problems == []
    assert dataset.notes == ["Images of vg_category_500_labels_index.json that no list names, left out: 1."]


@pytest.mark.parametrize(
    "images",
    [
        ["VG_100K_2/2.jpg", "VG_100K/1.jpg", "VG_100K_2/3.jpg"],
        ["images/VG_100K/2.jpg", "images/VG_100K_2/1.jpg", "images/VG_100K/3.jpg"],
        ["images/2.jpg", "images/1.jpg", "images/3.jpg"],
        ["2.jpg", "1.jpg", "3.jpg"],
    ],
)
def test_read__finds_the_images_in_all_usual_places(make_vg: MakeVg, images: list[str]) -> None:
    folder = make_vg(images=images)
    assert [sample.path for sample in vg500.read(folder).samples] == [folder / image for image in images]


def test_read__images_that_are_missing(make_vg: MakeVg, tmp_path: Path) -> None:
    folder = make_vg(images=["VG_100K/2.jpg", "VG_100K/3.jpg"])
    dataset = vg500.read(folder)
    assert [sample.path.name for sample in dataset.samples] == ["2.jpg", "3.jpg"]
    assert [str(problem) for problem in dataset.problems] == [
        f"{folder}/train_list_500.txt:2: image '1.jpg' is missing in {folder}"
    ]
    (folder / "VG_100K").rename(tmp_path / "VG_100K")
    with pytest.raises(
        DataError, match=r"has none of the 3 images .*: looked for VG_100K/2.jpg, VG_100K_2/2"
    ):
        vg500.read(folder)
    assert len(vg500.read(folder, image_root=tmp_path)) == 2
    assert len(vg500.read(folder, image_root=tmp_path / "VG_100K")) == 2


def test_read__names_of_labels(make_vg: MakeVg, make_text: MakeText) -> None:
    folder = make_vg()
    make_text("vg/labels.txt", "".join(f"thing {number}\n" for number in range(499)))
    with pytest.raises(DataError, match=r"vg: names 499 labels in labels.txt .* is of 500"):
        read(folder)
    make_text("vg/labels.txt", "".join(f"thing {number}\n" for number in reversed(range(500))))
    dataset = read(folder)
    assert [dataset.labels[index] for index in dataset.samples[1].positive] == ["thing 499", "thing 496"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"index": {**INDEX, "1.jpg": [3, 500]}},
            r"json: image '1.jpg' has the label index 500: expected 0 to",
        ),
        (
            {"index": {**INDEX, "1.jpg": [-1]}},
            r"json: image '1.jpg' has the label index -1: expected 0 to 499$",
        ),
        ({"index": {**INDEX, "1.jpg": [True]}}, r"json: image '1.jpg' has the label index True"),
        ({"index": {**INDEX, "1.jpg": ["3"]}}, r"json: image '1.jpg' has the label index '3': expected 0"),
        (
            {"index": '{"1.jpg": [' + "[" * 500 + "]" * 500 + '], "2.jpg": [], "3.jpg": []}'},
            r"json: image '1.jpg' has the label index \[\[",
        ),
        ({"index": {**INDEX, "1.jpg": 3}}, r"json: image '1.jpg' has 3: expected a list of indices"),
        ({"test": "3.jpg\n5.jpg\n"}, r"test_list_500.txt:2: image '5.jpg' is not in vg_category_500_labels"),
        (
            {"test": "1.jpg\n3.jpg\n"},
            r"test_list_500.txt:1: image '1.jpg' stands already in train_list_500.txt:2",
        ),
        ({"test": None}, r"test_list_500.txt: is missing: it names the images of the split test"),
        ({"train": "\n"}, r"train_list_500.txt: names no image"),
        (
            {"train": "../../1.jpg\n", "index": {**INDEX, "../../1.jpg": []}},
            r"train_list_500.txt:1: image 'VG_100K/../../1.jpg' leads out of",
        ),
    ],
)
def test_read__collects_what_is_wrong(make_vg: MakeVg, parts: dict[str, Any], message: str) -> None:
    dataset = read(make_vg(**parts))
    assert len(dataset.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": None, "test": None}, r"train_list_500.txt: is missing"),
        ({"index": [1, 2]}, r"labels_index.json: is not {\"image.jpg\": \[label index, ...\], ...}"),
        ({"index": '{"1.jpg": [1,\n'}, r"labels_index.json:2: is not valid JSON"),
        ({"index": '{"1.jpg": ' + "[" * 100_000}, r"labels_index.json: .*nested too deeply"),
    ],
)
def test_read__refuses_what_has_no_use(make_vg: MakeVg, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(make_vg(**parts))


def test_read__refuses_other_folders_and_large_files(
    make_vg: MakeVg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        DataError, match=r"has no Visual Genome 500 data: expected vg_category_500_labels_index"
    ):
        read(tmp_path)
    monkeypatch.setattr(vg500, "MAX_INDEX_BYTES", 10)
    with pytest.raises(DataError, match=r"labels_index.json: has \d+ bytes, more than the 10 that are read"):
        read(make_vg())


@pytest.mark.parametrize("link", ["vg_category_500_labels_index.json", "train_list_500.txt"])
def test_read__refuses_annotations_that_are_links_to_elsewhere(
    make_vg: MakeVg, tmp_path: Path, link: str
) -> None:
    folder = make_vg()
    (folder / link).rename(tmp_path / "outside")
    (folder / link).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=r"leads out of .*vg by a symbolic link"):
        load_dataset(folder, check_files=False)


def test_read__given_labels(make_vg: MakeVg) -> None:
    folder = make_vg()
    names = [f"label {number}" for number in reversed(range(500))]
    dataset = read(folder, LabelSet(["dog", *names]))
    assert [sample.positive for sample in dataset.samples] == [(), (497, 500), (1, 497)]
    assert {sample.unknown for sample in dataset.samples} == {(0,)}
    assert dataset.problems == []
    dataset = read(folder, LabelSet(names[1:]))
    assert len(dataset.problems) == 1
    assert "json: Unknown label 'label 499'" in str(dataset.problems[0])


def test_read__the_published_lists(shared_dir: Path, tmp_path: Path) -> None:
    lists = shared_dir / "data" / "lists" / "vg500"
    draw = random.Random(0)
    index = {}
    for name in ("train_list_500.txt", "test_list_500.txt"):
        (tmp_path / name).write_bytes((lists / name).read_bytes())
        for image in (lists / name).read_text().split():
            index[image] = draw.sample(range(500), draw.randrange(1, 25))
    (tmp_path / "vg_category_500_labels_index.json").write_text(json.dumps(index))
    dataset = load_dataset(tmp_path, check_files=False)
    assert (len(dataset.select("train")), len(dataset.select("test"))) == (82_904, 10_000)
    assert (dataset.problems, dataset.notes) == ([], [])
    assert len({sample.path for sample in dataset.samples}) == 92_904
    assert all(list(sample.positive) == sorted(index[sample.path.name]) for sample in dataset.samples)
