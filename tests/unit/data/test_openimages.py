from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from query2label import load_dataset
from query2label.data import openimages
from query2label.data.samples import Dataset
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]
MakeOpenImages = Callable[..., Path]

HEADER = "ImageID,Source,LabelName,Confidence\n"
TRAIN = "oidv6-train-annotations-human-imagelabels.csv"
VALIDATION = "validation-annotations-human-imagelabels.csv"
ROWS = {
    TRAIN: (
        "000a,verification,/m/dog,1\n000a,crowdsource-verification,/m/cat,0\n000b,verification,/m/cat,1\n"
        "000b,verification,/m/ant,0\n000f,verification,/m/bee,1\n"
    ),
    VALIDATION: "000c,verification,/m/dog,0\n000c,verification,/m/cat,1\n",
}
NAMES = "LabelName,DisplayName\n/m/ant,Ant\n/m/bee,Bee\n/m/cat,Cat\n/m/dog,Dog\n"
IMAGES = ("train/000a.jpg", "train/000b.jpg", "validation/000c.jpg")


@pytest.fixture
def make_open_images(make_text: MakeText, tmp_path: Path) -> MakeOpenImages:
    """A folder of Open Images as downloaded; `rows` and `files` replace or add (None: leave out)."""

    def make(
        rows: dict[str, str | None] | None = None,
        files: dict[str, str | None] | None = None,
        images: Sequence[str] = IMAGES,
    ) -> Path:
        content: dict[str, str | None] = {"oidv6-class-descriptions.csv": NAMES}
        content |= {
            name: HEADER + text for name, text in ({**ROWS, **(rows or {})}).items() if text is not None
        }
        content |= files or {}
        for name, text in content.items():
            if text is not None:
                make_text(f"oi/{name}", text)
        for image in images:
            make_text(f"oi/{image}", "")
        return tmp_path / "oi"

    return make


def targets(dataset: Dataset) -> dict[str, list[int]]:
    rows = dataset.targets().tolist()
    return {sample.path.name: row for sample, row in zip(dataset.samples, rows, strict=True)}


def test_read__the_published_form(make_open_images: MakeOpenImages) -> None:
    folder = make_open_images()
    dataset = load_dataset(folder)
    assert dataset.format == "openimages"
    assert dataset.labels.names == ("Cat", "Dog")
    assert targets(dataset) == {"000a.jpg": [0, 1], "000b.jpg": [1, -1], "000c.jpg": [1, 0]}
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val"]
    assert [sample.path for sample in dataset.samples] == [folder / image for image in IMAGES]
    assert dataset.problems == []
    assert dataset.notes == [f"Rows of {TRAIN} about images that are not on disk, left out: 1."]


@pytest.mark.parametrize(
    "form",
    [
        "{split}/{id}.jpg",
        "images/{split}/{id}.png",
        "{split}/data/{id}.jpg",
        "images/{id}.jpg",
        "{id}.jpg",
        "{split}_0/{id}.jpg",
        "images/{split}_f/{id}.jpg",
    ],
)
def test_read__finds_the_images_in_all_usual_places(make_open_images: MakeOpenImages, form: str) -> None:
    ids = (("train", "000a"), ("train", "000b"), ("validation", "000c"))
    images = [form.format(split=split, id=image) for split, image in ids]
    folder = make_open_images(images=images)
    dataset = openimages.read(folder)
    assert [sample.path for sample in dataset.samples] == [folder / image for image in images]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val"]


def test_read__images_elsewhere(make_open_images: MakeOpenImages, tmp_path: Path) -> None:
    folder = make_open_images()
    for name in ("train", "validation"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (folder / name).rename(tmp_path / "pictures" / name)
    with pytest.raises(
        DataError, match=r"oi has no image of train or validation: looked in train, images/train"
    ):
        openimages.read(folder)
    assert len(openimages.read(folder, image_root=tmp_path / "pictures")) == 3
    (folder / "train").symlink_to(tmp_path / "pictures" / "train")
    (folder / "validation").mkdir()
    (folder / "validation" / "000c.jpg").touch()
    dataset = openimages.read(folder)
    assert len(dataset) == 1
    assert len(dataset.problems) == 2
    assert f"{TRAIN}:2: image 'train/000a.jpg' leads out of" in str(dataset.problems[0])


def test_read__as_fiftyone_saves_it(make_text: MakeText, tmp_path: Path) -> None:
    for split, name in (("train", TRAIN), ("validation", VALIDATION)):
        make_text(f"{split}/labels/classifications.csv", HEADER + ROWS[name])
        make_text(f"{split}/metadata/classes.csv", NAMES.partition("\n")[2])
    for image in IMAGES:
        make_text(image.replace("/", "/data/"), "")
    dataset = load_dataset(tmp_path)
    assert dataset.format == "openimages"
    assert dataset.labels.names == ("Cat", "Dog")
    assert targets(dataset) == {"000a.jpg": [0, 1], "000b.jpg": [1, -1], "000c.jpg": [1, 0]}


def test_read__versions_2_and_3(make_open_images: MakeOpenImages) -> None:
    rows = {f"{name.partition('-')[0]}/annotations-human.csv": HEADER + text for name, text in ROWS.items()}
    rows = {name.replace("oidv6", "train"): text for name, text in rows.items()}
    dataset = load_dataset(make_open_images(dict.fromkeys(ROWS), rows))
    assert dataset.format == "openimages"
    assert targets(dataset) == {"000a.jpg": [0, 1], "000b.jpg": [1, -1], "000c.jpg": [1, 0]}


def test_read__without_the_images(make_open_images: MakeOpenImages) -> None:
    dataset = openimages.read(make_open_images(images=()), check_files=False)
    assert dataset.labels.names == ("Bee", "Cat", "Dog")
    assert targets(dataset)["000f.jpg"] == [1, -1, -1]
    assert dataset.samples[0].path.parent.name == "train"
    assert dataset.notes == []


def test_read__splits_without_images_are_not_read(make_open_images: MakeOpenImages) -> None:
    dataset = openimages.read(make_open_images({TRAIN: "no rows at all\n"}, images=IMAGES[2:]))
    assert targets(dataset) == {"000c.jpg": [1]}
    assert dataset.problems == []
    assert dataset.notes == [f"Left out, as no image of train is on disk: {TRAIN}."]


def test_read__what_nobody_has_verified_is_unknown(make_open_images: MakeOpenImages) -> None:
    machine = "train-annotations-machine-imagelabels.csv"
    rows = {
        machine: "000a,machine,/m/bee,1.0\n",
        "train-annotations-human-imagelabels-boxable.csv": (
            "000a,verification,/m/dog,1\n000a,machine,/m/ant,1\n000b,verification,/m/dog,0.7\n"
            "000b,verification,/m/bee,1.0\n000b,verification,/m/cat,0.0\n"
        ),
    }
    dataset = openimages.read(make_open_images(rows))
    assert dataset.labels.names == ("Bee", "Cat", "Dog")
    assert targets(dataset) == {"000a.jpg": [-1, 0, 1], "000b.jpg": [1, -1, -1], "000c.jpg": [-1, 1, 0]}
    assert dataset.notes[0] == f"Left out, as nobody has verified them: {machine}."


def test_read__images_about_which_nothing_is_known(make_open_images: MakeOpenImages) -> None:
    rows = {VALIDATION: "000c,verification,/m/ant,0\n"}
    dataset = openimages.read(make_open_images(rows, images=[*IMAGES, "train/000d.jpg"]))
    assert list(targets(dataset)) == ["000a.jpg", "000b.jpg"]
    assert dataset.notes[-2:] == [
        "Images on disk of which no verified label is known, left out: 1.",
        "Images about which nothing is known for these labels, left out: 1.",
    ]


def test_read__only_trainable_labels(make_open_images: MakeOpenImages) -> None:
    dataset = openimages.read(make_open_images(files={"oidv6-classes-trainable.txt": "/m/bee\n/m/dog\n"}))
    assert dataset.labels.names == ("Dog",)
    assert targets(dataset) == {"000a.jpg": [1], "000c.jpg": [0]}
    assert "Labels of the images that are not trainable, left out: 1." in dataset.notes


def test_read__names_of_labels(make_open_images: MakeOpenImages) -> None:
    folder = make_open_images(
        files={
            "oidv6-class-descriptions.csv": '/m/dog,"Dog, tame"\r\n\r\n/m/cat, Animal \r\n/m/ant,Animal\r\n',
            "annotations/class-descriptions-boxable.csv": "/m/dog,Hound\n/m/bee,Bee\n",
        }
    )
    assert openimages.read(folder).labels.names == ("Animal (/m/cat)", "Dog, tame")
    dataset = openimages.read(make_open_images(files={"oidv6-class-descriptions.csv": "/m/bee,Bee\n"}))
    assert dataset.labels.names == ("/m/cat", "Hound")
    assert "Labels without a name in *class-descriptions*.csv, called by their ids: 1." in dataset.notes


def test_read__given_labels(make_open_images: MakeOpenImages) -> None:
    folder = make_open_images()
    dataset = openimages.read(folder, labels=LabelSet(["Dog", "Ant", "Fox", "Cat"]))
    assert targets(dataset) == {
        "000a.jpg": [1, -1, -1, 0],
        "000b.jpg": [-1, 0, -1, 1],
        "000c.jpg": [0, -1, -1, 1],
    }
    assert dataset.problems == []
    dataset = openimages.read(folder, labels=LabelSet(["Dogs", "Cat"]))
    assert [problem.message.partition(":")[0] for problem in dataset.problems] == ["Unknown label 'Dog'"]
    assert targets(dataset)["000b.jpg"] == [-1, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "000a,verification,/m/dog,yes\n",
            rf"{TRAIN}:2: the confidence is 'yes': expected a number from 0 to 1",
        ),
        ("\n000a,verification,/m/dog,1.5\n", rf"{TRAIN}:3: the confidence is '1.5'"),
        ("000a,verification,/m/dog,nan\n", rf"{TRAIN}:2: the confidence is 'nan'"),
        ("000a,verification,/m/dog\n", rf"{TRAIN}:2: has 3 cells, but the header has 4"),
        ("000a,verification,,1\n", rf"{TRAIN}:2: names no image or no label"),
        ('000a,verification,"/m/dog,1\n', rf"{TRAIN}:\d: this row cannot be read: unexpected end"),
        ("000a,verification,/m/" + "x" * 200_000 + ",1\n", rf"{TRAIN}:\d: has \d cells"),
    ],
)
def test_read__collects_what_is_wrong_with_rows(
    make_open_images: MakeOpenImages, rows: str, message: str
) -> None:
    dataset = openimages.read(make_open_images({TRAIN: rows}))
    assert targets(dataset) == {"000c.jpg": [1]}
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ImageID,Source,Label,Confidence\n000a,x,/m/dog,1\n",
            rf"{TRAIN}:1: has no column LabelName: the first",
        ),
        (
            "000a,x,/m/dog,1\n",
            rf"{TRAIN}:1: has no column ImageID and no column LabelName and no column Conf",
        ),
        ("", rf"{TRAIN}:1: has no column ImageID"),
    ],
)
def test_read__another_header(make_open_images: MakeOpenImages, text: str, message: str) -> None:
    dataset = openimages.read(make_open_images(files={TRAIN: text}))
    assert len(dataset.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


def test_read__other_encodings(make_open_images: MakeOpenImages) -> None:
    folder = make_open_images()
    text = HEADER + ROWS[TRAIN]
    (folder / TRAIN).write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert len(openimages.read(folder)) == 3
    (folder / TRAIN).write_bytes((text + "000a,verification,/m/d\xf6g,1\n").encode("latin-1"))
    assert "is not UTF-8 text" in str(openimages.read(folder).problems[0])


def test_read__many_bad_rows_end_a_file(make_open_images: MakeOpenImages) -> None:
    dataset = openimages.read(make_open_images({TRAIN: "000a,verification,/m/dog\n" * 1000}))
    assert len(dataset.problems) == 101
    assert (
        "csv:102: has 3 cells, but the header has 4; no more is read, as 100 rows before it are wrong"
        in str(dataset.problems[100])
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {TRAIN: None, VALIDATION: None},
            r"oi has no labels that people have verified: expected \*-annotations",
        ),
        ({VALIDATION: None, TRAIN: HEADER}, r"oi has no label that is in any of the 0 images there"),
        ({VALIDATION: None, TRAIN: "x"}, rf"{TRAIN}:1: has no column ImageID"),
        ({TRAIN: HEADER + "000a,x,/m/\x07,1\n"}, r"label name '/m/\\x07' has control characters"),
        (
            {"oidv6-class-descriptions.csv": "/m/dog\n"},
            r"descriptions.csv:1: .* expected a label's id and its n",
        ),
        ({"oidv6-class-descriptions.csv": "/m/dog,\n"}, r"descriptions.csv:1: .*: label name '' is empty"),
        (
            {"oidv6-class-descriptions.csv": '/m/dog,"Dog\n'},
            r"descriptions.csv:\d: this row cannot be read: unexp",
        ),
    ],
)
def test_read__refuses_what_has_no_use(
    make_open_images: MakeOpenImages, files: dict[str, str | None], message: str
) -> None:
    rows = {name: None for name, text in files.items() if text is None}
    folder = make_open_images(rows, files={name: text for name, text in files.items() if text is not None})
    with pytest.raises(DataError, match=message):
        openimages.read(folder)


@pytest.mark.parametrize("name", [TRAIN, "oidv6-class-descriptions.csv", "oidv6-classes-trainable.txt"])
def test_read__refuses_annotations_that_are_links_to_elsewhere(
    make_open_images: MakeOpenImages, tmp_path: Path, name: str
) -> None:
    folder = make_open_images({VALIDATION: None}, files={"oidv6-classes-trainable.txt": "/m/dog\n"})
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=r"leads out of .*oi by a symbolic link"):
        load_dataset(folder)
