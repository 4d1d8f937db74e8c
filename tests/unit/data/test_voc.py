import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from query2label.config import DataConfig
from query2label.data import voc
from query2label.data.load import load_dataset
from query2label.data.samples import Box, Dataset
from query2label.errors import DataError
from query2label.labels import LabelSet
from query2label.training.run_data import load_run_data

MakeText = Callable[[str, str], Path]


def an_object(name: str, *, difficult: int = 0, box: tuple[object, ...] = (2, 3, 11, 7)) -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


@pytest.fixture
def make_voc(make_text: MakeText, tmp_path: Path) -> Callable[..., Path]:
    """A VOC folder: cat and dog in the lists, an ant in the XML too; arguments replace or add files."""

    def make(**files: str | None) -> Path:
        content: dict[str, str | None] = {
            "Main/train": "a\r\nb\r\n",
            "Main/val": "c\n",
            "Main/trainval": "a\nb\nc\n",
            "Main/dog_train": "a  1\r\nb -1\r\n",
            "Main/dog_val": "c  0\n",
            "Main/cat_train": "a -1\nb  1\n",
            "Main/cat_val": "c -1\n",
            "Main/cat_trainval": "a -1\nb  1\nc -1\n",
            "a": an_object("dog"),
            "b": an_object("cat") + an_object("ant"),
            "c": an_object("dog", difficult=1),
        }
        content.update({name.replace("Main_", "Main/"): text for name, text in files.items()})
        for name, text in content.items():
            if text is None:
                continue
            if name.startswith("Main/"):
                make_text(f"VOC/ImageSets/{name}.txt", text)
            else:
                make_text(f"VOC/Annotations/{name}.xml", f"<annotation>{text}</annotation>")
        return tmp_path / "VOC"

    return make


MakeVoc = Callable[..., Path]
WITHOUT_LISTS: dict[str, str | None] = dict.fromkeys(
    ["Main_dog_train", "Main_dog_val", "Main_cat_train", "Main_cat_val", "Main_cat_trainval"]
)


def read(path: Path, labels: LabelSet | None = None) -> Dataset:
    return voc.read(path, labels=labels, check_files=False)


@pytest.mark.parametrize(("difficult", "target"), [("ignore", -1), ("positive", 1), ("negative", 0)])
def test_read__lists_with_difficult_objects(
    make_voc: MakeVoc, difficult: Literal["ignore", "positive", "negative"], target: int
) -> None:
    folder = make_voc()
    dataset = voc.read(folder, difficult=difficult, check_files=False)
    assert dataset.problems == []
    assert dataset.labels.names == ("cat", "dog")
    assert dataset.targets().tolist() == [[0, 1], [1, 0], [0, target]]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val"]
    assert dataset.samples[0].path == folder / "JPEGImages" / "a.jpg"


def test_read__boxes_count_from_zero_and_other_labels_are_noted(make_voc: MakeVoc) -> None:
    dataset = read(make_voc())
    assert [sample.boxes for sample in dataset.samples[:2]] == [
        (Box(1, 1.0, 2.0, 10.0, 5.0, 50.0),),
        (Box(0, 1.0, 2.0, 10.0, 5.0, 50.0),),
    ]
    assert dataset.notes == ["Objects whose labels are not in the label set, left out: ant 1."]


def test_read__xml_alone_gives_labels(make_voc: MakeVoc) -> None:
    folder = make_voc(**WITHOUT_LISTS, b=an_object("cat") + an_object("ant") + an_object("cat", difficult=1))
    dataset = read(folder)
    assert dataset.labels.names == ("ant", "cat", "dog")
    assert dataset.targets().tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, -1]]
    (folder / "Annotations" / "a.xml").unlink()
    dataset = read(folder)
    assert "train.txt:1: image 'a' has neither lists nor" in str(dataset.problems[0])
    assert len(dataset) == 2


def test_read__no_lists_at_all(make_text: MakeText, tmp_path: Path) -> None:
    make_text("JPEGImages/a.jpg", "")
    make_text("Annotations/a.xml", f"<annotation>{an_object('dog')}</annotation>")
    dataset = voc.read(tmp_path)
    assert [sample.split for sample in dataset.samples] == [None]
    assert dataset.targets().tolist() == [[1]]


def test_read__images_of_trainval_alone(make_voc: MakeVoc) -> None:
    folder = make_voc(
        Main_trainval="a\nb\nc\nd\n",
        Main_cat_trainval="a -1\nb  1\nc -1\nd 1\n",
        Main_dog_trainval="a 1\nb -1\nc 0\nd -1\n",
    )
    dataset = read(folder)
    assert dataset.problems == []
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val", "trainval"]
    assert dataset.samples[3].positive == (0,)
    assert len(dataset.select("trainval")) == 4
    assert len(dataset.select("train")) == 2


LEFT_OUT = "Images without labels, left out: 2 of split test (q2l predict --split test)."


@pytest.mark.parametrize(
    "files",
    [
        {},
        # Lists of test images may be there without a mark: the server knows them.
        {"Main_dog_test": "x\ny\n", "Main_cat_test": "x\ny\n"},
        WITHOUT_LISTS,
    ],
)
def test_read__images_of_a_split_without_labels_are_there_to_predict(
    make_voc: MakeVoc, files: dict[str, str | None]
) -> None:
    folder = make_voc(Main_test="x\ny\n", **files)
    dataset = read(folder)
    assert dataset.problems == []
    assert dataset.splits() == ("train", "val")
    assert dataset.notes[0] == LEFT_OUT
    dataset = load_dataset(folder, split="test", check_files=False)
    assert [sample.path for sample in dataset.samples] == [
        folder / "JPEGImages" / "x.jpg",
        folder / "JPEGImages" / "y.jpg",
    ]
    assert (dataset.targets() == -1).all()
    assert LEFT_OUT not in dataset.notes
    with pytest.raises(DataError, match=r"has no split 'test': it has train, val; name one"):
        load_run_data(DataConfig(path=with_images(folder), train_split="test"), seed=0)


def test_read__test_images_alone_can_be_predicted(make_text: MakeText, tmp_path: Path) -> None:
    for name in ("test", "cat_test", "dog_test"):
        make_text(f"VOC/ImageSets/Main/{name}.txt", "x\ny\n")
    make_text(
        "VOC/Annotations/x.xml", f"<annotation>{an_object('person')}</annotation>"
    )  # of the layout taster
    folder, labels = tmp_path / "VOC", LabelSet(["cat", "dog"])
    dataset = load_dataset(folder, split="test", labels=labels, check_files=False)
    assert (dataset.targets() == -1).all()
    assert (len(dataset), dataset.labels, dataset.problems) == (2, labels, [])
    for known in (None, labels):
        with pytest.raises(DataError, match="has lists of test images without marks only: nothing says"):
            load_dataset(folder, labels=known, check_files=False)


def with_images(folder: Path) -> Path:
    (folder / "JPEGImages").mkdir()
    for name in "abcxy":
        (folder / "JPEGImages" / f"{name}.jpg").touch()
    return folder


def test_read__a_test_list_with_marks_is_read(make_voc: MakeVoc) -> None:
    dataset = read(make_voc(Main_test="x\ny\n", Main_dog_test="x 1\ny 0\n", Main_cat_test="x -1\ny\n"))
    assert [str(problem).rpartition("/")[2] for problem in dataset.problems] == [
        "cat_test.txt:2: expected an image and 1, 0 or -1, found 'y'",
        "cat_test.txt: label 'cat' has no line for 1 images; the first is 'y'",
    ]
    # What no line says is unknown, not absent.
    assert dataset.select("test").targets().tolist() == [[0, 1], [-1, -1]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Main_val": "c\na\n"}, r"val.txt:2: image 'a' stands already in train.txt:1"),
        ({"Main_train": "a\nb\na\n"}, r"train.txt:3: image 'a' stands already in train.txt:1"),
        (
            {"Main_dog_train": "a  1\n"},
            r"dog_train.txt: label 'dog' has no line for 1 images; the first is 'b'",
        ),
        (
            {"Main_dog_train": "a  1\nb -1\nz yes\n"},
            r"dog_train.txt:3: expected an image and 1, 0 or -1, found 'z yes'",
        ),
        (
            {"Main_dog_train": "a  1\nb -1\na -1\n"},
            r"dog_train.txt:3: image 'a' has -1 here, but 1 elsewhere",
        ),
        (
            {
                "Main_val": "c\n../../x\n",
                "Main_dog_val": "c 0\n../../x 1\n",
                "Main_cat_val": "c -1\n../../x 1\n",
            },
            r"val.txt:2: image 'JPEGImages/../../x.jpg' leads out of",
        ),
        ({"a": "<broken"}, r"a.xml:1: is not valid XML"),
        ({"a": "&dog;"}, r"a.xml:1: is not valid XML: undefined entity"),
        ({"a": "<object><name>dog</name></object>"}, r"a.xml: object 1: xmin is None: expected a number"),
        ({"Main_cat_val": "c -1\nc\n"}, r"cat_val.txt:2: expected an image and 1, 0 or -1, found 'c'"),
        ({"Main_cat_val": "c -1\nc -1 -1\n"}, r"cat_val.txt:2: expected an image .* found 'c -1 -1'"),
        ({"Main_cat_val": "c -1\n\nc 2\n"}, r"cat_val.txt:3: expected an image .* found 'c 2'"),
        (
            {"a": an_object("dog", box=(5, 1, 2, 9))},
            r"a.xml: object 1: the box of 'dog' ends before it begins",
        ),
        ({"a": an_object("dog", box=("inf", 1, 2, 9))}, r"a.xml: object 1: xmin is 'inf': expected a number"),
        (
            {"a": an_object("dog", box=(1, 1, "1e200", 9))},
            r"a.xml: object 1: xmax is '1e200': expected a",
        ),
        ({"a": an_object("dog", box=(1, "x", 2, 9))}, r"a.xml: object 1: ymin is 'x': expected a number"),
        ({"a": an_object("")}, r"a.xml: object 1: label name '' is empty"),
        ({"Main_d\x07_train": "a 1\nb 1\n"}, r"_train.txt: label name .*control characters"),
    ],
)
def test_read__collects_what_is_wrong(make_voc: MakeVoc, files: dict[str, str], message: str) -> None:
    dataset = read(make_voc(**files))
    assert len(dataset.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


def test_read__given_labels(make_voc: MakeVoc) -> None:
    folder = make_voc()
    dataset = read(folder, LabelSet(["dog", "bee", "cat"]))
    assert dataset.targets().tolist() == [[1, -1, 0], [0, -1, 1], [-1, -1, 0]]
    dataset = read(folder, LabelSet(["dogs", "cat"]))
    assert "dog_train.txt: Unknown label 'dog'" in str(dataset.problems[0])


def test_read__missing_and_other_image_files(make_voc: MakeVoc, make_text: MakeText) -> None:
    folder = make_voc()
    make_text("VOC/JPEGImages/a.png", "")
    make_text("VOC/JPEGImages/a.jpg", "")
    make_text("VOC/JPEGImages/b.PNG", "")
    dataset = voc.read(folder)
    assert [sample.path.name for sample in dataset.samples] == ["a.jpg", "b.PNG"]
    assert "val.txt:1: image 'JPEGImages/c.jpg' is missing in" in str(dataset.problems[0])
    dataset = voc.read(folder, image_root=make_text("pics/c.jpg", "").parent)
    assert [sample.path.name for sample in dataset.samples] == ["c.jpg"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("ImageSets/Main/x.txt", "names no image"), ("ImageSets/Main/train.txt", "names no label")],
)
def test_read__refuses_folders_without_use(
    make_text: MakeText, tmp_path: Path, name: str, message: str
) -> None:
    make_text(name, "a\n")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_read__images_that_were_not_downloaded_are_one_problem(make_voc: MakeVoc) -> None:
    folder = make_voc()
    (problem,) = voc.read(folder).problems
    assert str(problem) == (
        f"{folder}/ImageSets/Main/train.txt:1: none of 3 images can be used; image 'JPEGImages/a.jpg' is "
        f"missing: there is no folder {folder}/JPEGImages"
    )


def test_read__entities_are_refused(make_voc: MakeVoc, make_text: MakeText) -> None:
    folder = make_voc()
    entity = '<!DOCTYPE annotation [<!ENTITY dog SYSTEM "file:///etc/passwd">]>'
    objects = an_object("&dog;")
    make_text("VOC/Annotations/a.xml", f"{entity}<annotation>{objects}</annotation>")
    (problem,) = read(folder).problems
    assert "a.xml: declares a document type or entities, which are refused" in str(problem)


ANNOTATION_OF_2012 = """<annotation>
\t<folder>VOC2012</folder>
\t<filename>a.jpg</filename>
\t<source><database>The VOC2008 Database</database></source>
\t<size><width>500</width><height>375</height><depth>3</depth></size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>dog</name>
\t\t<pose>Left</pose>
\t\t<truncated>1</truncated>
\t\t<occluded>0</occluded>
\t\t<bndbox><xmax>45.70000076293945</xmax><xmin>2</xmin><ymax>9</ymax><ymin>3.5</ymin></bndbox>
\t\t<difficult>0</difficult>
\t\t<actions><jumping>1</jumping></actions>
\t\t<part><name>head</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></part>
\t\t<point><x>3</x><y>4</y></point>
\t</object>
\t<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>
</annotation>
"""


def test_read__parts_are_no_objects(make_voc: MakeVoc, make_text: MakeText) -> None:
    folder = make_voc()
    make_text("VOC/Annotations/a.xml", ANNOTATION_OF_2012)
    dataset = read(folder)
    assert dataset.problems == []
    dog, cat = dataset.samples[0].boxes
    assert (dog.label, dog.left, dog.top, dog.height) == (1, 1.0, 2.5, 6.5)
    assert dog.width == pytest.approx(44.7)
    assert cat == Box(0, 0.0, 0.0, 1.0, 1.0, 1.0)


def test_find_folder__looks_below(make_text: MakeText, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no VOC data"):
        read(tmp_path)
    make_text("VOCdevkit/VOC2007/ImageSets/Main/train.txt", "")
    assert voc.find_folder(tmp_path) == tmp_path / "VOCdevkit" / "VOC2007"
    assert voc.find_folder(tmp_path / "VOCdevkit") == tmp_path / "VOCdevkit" / "VOC2007"
    make_text("a/VOCtrainval_06-Nov-2007/VOCdevkit/VOC2007/ImageSets/Main/train.txt", "")
    assert voc.find_folder(tmp_path / "a") == tmp_path / "a/VOCtrainval_06-Nov-2007/VOCdevkit/VOC2007"
    for number in range(31):
        make_text(f"full/{number}.txt", "")
    make_text("full/VOCdevkit/VOC2007/ImageSets/Main/train.txt", "")
    assert voc.find_folder(tmp_path / "full") is None
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "full")
    make_text("VOCdevkit/VOC2012/ImageSets/Main/train.txt", "")
    with pytest.raises(
        DataError, match=r"has several VOC folders in it \(VOCdevkit/VOC2007, VOCdevkit/VOC2012\)"
    ):
        voc.find_folder(tmp_path)


def test_read__the_official_lists_of_2007(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "lists" / "voc2007"
    datasets = {
        difficult: voc.read(folder, difficult=difficult, check_files=False)
        for difficult in ("ignore", "positive", "negative")
    }
    dataset = datasets["ignore"]
    assert dataset.problems == []
    assert dataset.labels.names[::19] == ("aeroplane", "tvmonitor")
    # The split, its images, and the lines of all 20 label lists that say 1 and 0 (difficult).
    for split, num_images, num_positive, num_difficult in (
        ("train", 2501, 3688, 329),
        ("val", 2510, 3618, 278),
        ("trainval", 5011, 7306, 607),
        ("test", 4952, 7013, 619),
    ):
        targets = {name: part.select(split).targets() for name, part in datasets.items()}
        assert targets["ignore"].shape == (num_images, 20)
        assert (targets["ignore"] == -1).sum() == num_difficult
        assert (targets["ignore"] == 1).sum() == (targets["negative"] == 1).sum() == num_positive
        assert (targets["positive"] == 1).sum() == num_positive + num_difficult
        assert not (targets["positive"] == -1).any()
        assert not (targets["negative"] == -1).any()
    marks = [
        line.split()
        for file in sorted((folder / "VOC2007" / "ImageSets" / "Main").glob("*_test.txt"))
        for line in file.read_text().splitlines()
    ]
    given = [1 if mark == "1" else 0 if mark == "-1" else -1 for _, mark in marks]
    assert dataset.select("test").targets().T.ravel().tolist() == given


def test_read__the_sample_of_2012(voc_sample: Path) -> None:
    dataset = voc.read(voc_sample.parent)
    assert dataset.problems == []
    assert (len(dataset.select("train")), len(dataset.select("val")), len(dataset.labels)) == (651, 277, 15)
    assert all({box.label for box in sample.boxes} == set(sample.positive) for sample in dataset.samples)
