from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from query2label import load_dataset
from query2label.data import nuswide
from query2label.data.samples import Dataset
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]
MakeNusWide = Callable[..., Path]

CONCEPTS = {"sky": "101", "bear": "010", "nighttime": "000"}
"""Concept -> its marks for two training images and one test image."""


@pytest.fixture
def make_nuswide(make_text: MakeText, tmp_path: Path) -> MakeNusWide:
    """A NUS-WIDE folder as it is unpacked; arguments replace or add files (None: leave out)."""

    def make(*, images: Sequence[str] = (), **files: str | None) -> Path:
        content: dict[str, str | None] = {
            "ImageList/TrainImagelist": "actor\\0001_21.jpg\r\nzoo\\0002_22.jpg\r\n",
            "ImageList/TestImagelist": "zoo\\0003_23.jpg\r\n",
            "Concepts81": "bear\nnighttime\nsky\n",
        }
        for concept, marks in CONCEPTS.items():
            content[f"Labels_{concept}_Train"] = "".join(f"{mark}\n" for mark in marks[:2])
            content[f"Labels_{concept}_Test"] = f"{marks[2]}\n"
        content.update(files)
        for name, text in content.items():
            folder = "Groundtruth/TrainTestLabels/" if name.startswith("Labels_") else ""
            if text is not None:
                make_text(f"nus/{folder}{name}.txt", text)
        for image in images:
            make_text(f"nus/{image}", "")
        return tmp_path / "nus"

    return make


def read(path: Path, labels: LabelSet | None = None) -> Dataset:
    return nuswide.read(path, labels=labels, check_files=False)


def test_read__the_native_form(make_nuswide: MakeNusWide) -> None:
    folder = make_nuswide()
    dataset = load_dataset(folder, check_files=False)
    assert dataset.format == "nuswide"
    assert dataset.labels.names == ("bear", "nighttime", "sky")
    assert dataset.targets().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "test"]
    assert dataset.samples[0].path == folder / "Flickr" / "actor" / "0001_21.jpg"
    assert (dataset.problems, dataset.notes) == ([], [])


@pytest.mark.parametrize("form", ["Flickr/{}", "images/{}", "{}", "Flickr/{flat}", "images/{flat}", "{flat}"])
def test_read__finds_the_images_in_all_usual_places(make_nuswide: MakeNusWide, form: str) -> None:
    names = ["actor/0001_21.jpg", "zoo/0002_22.jpg", "zoo/0003_23.jpg"]
    images = [form.format(name, flat=name.rpartition("/")[2]) for name in names]
    folder = make_nuswide(images=images)
    dataset = nuswide.read(folder)
    assert [sample.path for sample in dataset.samples] == [folder / image for image in images]
    assert dataset.notes == []


def test_read__images_that_flickr_has_lost_are_noted(make_nuswide: MakeNusWide, tmp_path: Path) -> None:
    folder = make_nuswide(images=["Flickr/zoo/0002_22.jpg"])
    dataset = load_dataset(folder)
    assert [sample.positive for sample in dataset.samples] == [(0,)]
    assert dataset.notes == [
        "Images of train that are not on disk, left out: 1 of 2.",
        "Images of test that are not on disk, left out: 1 of 1.",
    ]
    (tmp_path / "elsewhere").mkdir()
    (folder / "Flickr").rename(tmp_path / "elsewhere" / "images")
    with pytest.raises(
        DataError,
        match=r"has none of the 3 images .*: looked for Flickr/actor/0001_21.jpg, Fl.*, 0001_21.jpg and",
    ):
        load_dataset(folder)
    dataset = load_dataset(folder, image_root=tmp_path / "elsewhere")
    assert dataset.samples[0].path == tmp_path / "elsewhere" / "images" / "zoo" / "0002_22.jpg"


@pytest.mark.parametrize("concepts", ["Concepts81", "ConceptsList/Concepts81", None])
def test_read__concepts_are_those_of_the_list_or_all(make_nuswide: MakeNusWide, concepts: str | None) -> None:
    files = {"Concepts81": None} | ({concepts: "sky\nbear\n"} if concepts else {})
    dataset = read(make_nuswide(**files))
    assert dataset.labels.names == ("bear", "sky") if concepts else ("bear", "nighttime", "sky")
    assert dataset.problems == []
    assert [note.partition(" does")[2] for note in dataset.notes] == (
        [" not name, left out: nighttime."] if concepts else []
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"Labels_sky_Train": "1\n"},
            r"Labels_sky_Train.txt:2: has 1 lines, but TrainImagelist.txt names 2 images",
        ),
        (
            {"Labels_sky_Train": "1\n0\n1\n"},
            r"Labels_sky_Train.txt:3: has 3 lines, but TrainImagelist.txt names 2 images",
        ),
        ({"Labels_sky_Train": ""}, r"Labels_sky_Train.txt:1: has 0 lines"),
        ({"Labels_sky_Train": "1\n-1\n"}, r"Labels_sky_Train.txt:2: expected 1 or 0, found '-1'$"),
        (
            {"Labels_sky_Train": "\nyes\n0"},
            r"Labels_sky_Train.txt:3: has 3 lines",
        ),
        (
            {"Labels_sky_Train": "yes\n1 1\n"},
            r"Labels_sky_Train.txt:1: expected 1 or 0, found 'yes' \(as in 1 more lines\)$",
        ),
        ({"Labels_sky_Test": None}, r"Concepts81.txt: concept 'sky' has no Labels_sky_Test.txt"),
        (
            {"Labels_sky_Test": None, "Concepts81": None},
            r"TrainTestLabels: concept 'sky' has no Labels_sky_Test.txt",
        ),
        ({"ImageList/TestImagelist": None}, r"ImageList/TestImagelist.txt: is missing: it names the images"),
        ({"ImageList/TestImagelist": ""}, r"ImageList/TestImagelist.txt: names no image"),
        (
            {"ImageList/TestImagelist": "actor\\0001_21.jpg"},
            r"TestImagelist.txt:1: image 'actor.*21.jpg' stands already in TrainImagelist.txt:1",
        ),
        (
            {"ImageList/TrainImagelist": "..\\..\\1.jpg\nzoo\\2.jpg"},
            r"TrainImagelist.txt:1: image .* leads out of",
        ),
        ({"Labels_a\x07_Test": "1\n"}, r"_Test.txt: label name .*control characters"),
    ],
)
def test_read__collects_what_is_wrong(
    make_nuswide: MakeNusWide, files: dict[str, str | None], message: str
) -> None:
    dataset = read(make_nuswide(**files))
    assert len(dataset.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


def test_read__says_nothing_that_a_broken_file_does_not(make_nuswide: MakeNusWide) -> None:
    dataset = read(make_nuswide(Labels_sky_Train="1\n"))
    assert dataset.targets().tolist() == [[0, 0, -1], [1, 0, -1], [0, 0, 1]]
    dataset = read(make_nuswide(Labels_sky_Train="1\n2\n"))
    assert dataset.targets().tolist() == [[0, 0, 1], [0, 0, 1]]


def test_read__given_labels(make_nuswide: MakeNusWide) -> None:
    folder = make_nuswide()
    dataset = read(folder, LabelSet(["sky", "dog", "nighttime", "bear"]))
    assert dataset.targets().tolist() == [[1, -1, 0, 0], [0, -1, 0, 1], [1, -1, 0, 0]]
    dataset = read(folder, LabelSet(["sky", "bears"]))
    assert [str(problem).partition(": ")[2].partition(":")[0] for problem in dataset.problems] == [
        "Unknown label 'bear'",
        "Unknown label 'nighttime'",
    ]
    assert dataset.targets().tolist() == [[1, -1], [0, -1], [1, -1]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no NUS-WIDE data: expected Groundtruth/TrainTestLabels in it"),
        ({"Groundtruth/TrainTestLabels/README.txt": ""}, r"has no files Labels_<concept>_Train.txt"),
        ({"TrainTestLabels/Labels_sky_Train.txt": "1"}, r"has no images: expected ImageList/TrainImagelist"),
    ],
)
def test_read__refuses_folders_without_use(
    make_text: MakeText, tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        make_text(name, text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "link", ["Groundtruth", "Groundtruth/TrainTestLabels", "ImageList/TrainImagelist.txt", "Concepts81.txt"]
)
def test_read__refuses_annotations_that_are_links_to_elsewhere(
    make_nuswide: MakeNusWide, tmp_path: Path, link: str
) -> None:
    folder = make_nuswide()
    (folder / link).rename(tmp_path / "outside")
    (folder / link).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=r"leads out of .*nus by a symbolic link"):
        load_dataset(folder, check_files=False)


def test_read__the_order_of_the_81_concepts(make_text: MakeText, shared_dir: Path, tmp_path: Path) -> None:
    concepts = (shared_dir / "data/lists/nuswide/concepts81_sorted.txt").read_text().split()
    assert len(concepts) == 81
    for word in ("Train", "Test"):
        make_text(f"ImageList/{word}Imagelist.txt", f"{word}.jpg\n")
        for concept in concepts:
            make_text(f"TrainTestLabels/Labels_{concept}_{word}.txt", "1\n")
    dataset = read(tmp_path)
    assert list(dataset.labels) == concepts
    assert [len(sample.positive) for sample in dataset.samples] == [81, 81]
