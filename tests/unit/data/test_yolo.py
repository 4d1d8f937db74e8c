"""Folders as Ultralytics, Roboflow, CVAT, Label Studio and Darknet have them, from their documentation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from query2label.data import yolo
from query2label.data.load import load_dataset
from query2label.data.samples import ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]
MakeImage = Callable[..., Path]

YAML = """# Train/val/test sets as 1) dir: path/to/imgs, 2) file: path/to/imgs.txt, or 3) list
path: ../datasets/coco8 # dataset root dir
train: images/train
val: images/val
test: # test images (optional)

# Classes
names:
  0: person
  1: bicycle
  2: hot dog

download: https://example.com/coco8.zip
"""


@pytest.fixture
def ultralytics(make_text: MakeText, make_image: MakeImage, tmp_path: Path) -> Path:
    make_text("coco8.yaml", YAML)
    for name in ("train/b", "train/a", "train/deep/c", "val/a"):
        make_image(f"images/{name}.jpg")
    make_text("labels/train/a.txt", "2 0.5 0.5 0.25 0.5\n0 0.25 0.5 0.5 1\n2 0.5 0.5 0.5 0.5\n")
    make_text("labels/train/b.txt", "")
    make_text("labels/val/a.txt", "1 0.5 0.5 1 1")
    return tmp_path


def names(data: Path, split: str | None = None) -> list[tuple[str, tuple[str, ...], str | None]]:
    dataset = load_dataset(data, split=split)
    assert dataset.format == "yolo"
    return [
        (
            sample.path.relative_to(data).as_posix(),
            tuple(dataset.labels[index] for index in sample.positive),
            sample.split,
        )
        for sample in dataset.samples
    ]


def test_read__classes_of_objects_are_labels(ultralytics: Path) -> None:
    expected = [
        ("images/train/a.jpg", ("person", "hot dog"), "train"),
        ("images/train/b.jpg", (), "train"),
        # No label file: no object.
        ("images/train/deep/c.jpg", (), "train"),
        ("images/val/a.jpg", ("bicycle",), "val"),
    ]
    assert names(ultralytics) == expected
    assert names(ultralytics, "val") == expected[3:]
    assert names(ultralytics, "trainval") == expected
    dataset = load_dataset(ultralytics / "coco8.yaml")
    assert dataset.labels.names == ("person", "bicycle", "hot dog")
    # The images are 8 x 6.
    boxes = [(b.label, b.left, b.top, b.width, b.height, b.area) for b in dataset.samples[0].boxes]
    assert boxes == [(2, 3, 1.5, 2, 3, 6), (0, 0, 0, 4, 6, 24), (2, 2, 1.5, 4, 3, 12)]


def test_read__reads_one_split_only_where_it_is_there(ultralytics: Path, make_text: MakeText) -> None:
    make_text("labels/train/a.txt", "oops")
    assert len(load_dataset(ultralytics, split="val")) == 1
    with pytest.raises(DataError, match=r"labels/train/a.txt:1: "):
        load_dataset(ultralytics, split="train")
    with pytest.raises(DataError, match=r"labels/train/a.txt:1: "):
        load_dataset(ultralytics, split="test")


def test_read__boxes_are_in_pixels_of_the_displayed_image(ultralytics: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 6)).save(ultralytics / "images/val/a.jpg", exif=exif)
    box = load_dataset(ultralytics, split="val").samples[0].boxes[0]
    assert (box.width, box.height) == (6, 8)
    (ultralytics / "images/val/a.jpg").write_text("no image")
    assert load_dataset(ultralytics, split="val").samples[0].boxes == ()
    assert load_dataset(ultralytics, split="val", check_files=False).samples[0].positive == (1,)


@pytest.mark.parametrize(
    "value", ["[cat, 'dog']", "['cat', \"dog\"]", "\n- cat\n- dog\n", "\n  1: dog\n  0: cat"]
)
def test_read__roboflow(make_text: MakeText, make_image: MakeImage, tmp_path: Path, value: str) -> None:
    # The paths lead one folder too far up, and there may be no test images.
    text = f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: {value}\n"
    make_text("data.yaml", text)
    make_text("README.roboflow.txt", "Provided by a Roboflow user")
    for folder in ("train", "valid"):
        make_image(f"{folder}/images/a.jpg")
        make_text(f"{folder}/labels/a.txt", "1 0.5 0.5 0.25 0.5\n")
    assert names(tmp_path) == [
        ("train/images/a.jpg", ("dog",), "train"),
        ("valid/images/a.jpg", ("dog",), "val"),
    ]
    assert load_dataset(tmp_path).notes == ["Left out, as it is not there: test, '../test/images'."]


@pytest.mark.parametrize(
    "line",
    [
        "./images/train/a.jpg",
        "images/train/a.jpg",
        "/content/coco8/images/train/a.jpg",
        "{}/images/train/a.jpg",
    ],
)
def test_read__lists_of_images(ultralytics: Path, make_text: MakeText, line: str) -> None:
    make_text("train.txt", f"\n{line.format(ultralytics)}\n")
    make_text("more.txt", "images/train/b.jpg\n")
    make_text("coco8.yaml", YAML.replace("images/train", "[train.txt, more.txt]"))
    assert [name for name, _, _ in names(ultralytics, "train")] == [
        "images/train/a.jpg",
        "images/train/b.jpg",
    ]
    make_text(
        "more.txt", "images/train/b.jpg\nimages/train/absent.jpg\n../../etc/x.jpg\nimages/train/a.jpg\n"
    )
    found = [str(problem) for problem in yolo.read(ultralytics).problems]
    assert [text.partition("/more.txt:")[2].partition(" in ")[0] for text in found] == [
        "2: image 'images/train/absent.jpg' is missing",
        f"3: image '../../etc/x.jpg' leads out of {ultralytics}, which is refused; if the images are meant "
        "to be there, name their folder (image_root, --images)",
        "4: image 'images/train/a.jpg' stands already",
    ]


@pytest.mark.parametrize("names_file", ["classes.txt", "coco.names", "labels/classes.txt"])
@pytest.mark.parametrize(
    ("image", "label", "split"),
    [
        ("images/a.jpg", "labels/a.txt", None),
        ("images/train/a.jpg", "labels/train/a.txt", "train"),
        ("valid/images/a.jpg", "valid/labels/a.txt", "val"),
        ("a.jpg", "a.txt", None),
        ("test/a.jpg", "test/a.txt", "test"),
        ("images/a.jpg", "images/a.txt", None),
    ],
)
def test_read__without_yaml(
    make_text: MakeText,
    make_image: MakeImage,
    tmp_path: Path,
    names_file: str,
    image: str,
    label: str,
    split: str | None,
) -> None:
    make_image(image)
    make_text(label, "1 0.5 0.5 0.25 0.5\n")
    make_text(names_file, "cat\r\ndog\r\n")
    make_text("notes.json", '{"categories": [], "info": {}}')
    assert names(tmp_path) == [(image, ("dog",), split)]


def test_read__darknet(make_text: MakeText, make_image: MakeImage, tmp_path: Path) -> None:
    make_text(
        "obj.data", "classes = 2\ntrain = data/train.txt\nvalid=data/valid.txt\nnames = data/obj.names\n"
    )
    make_text("obj.names", "cat\ndog\n")
    make_text("train.txt", "data/obj_train_data/a.jpg\n")
    make_text("valid.txt", "data/obj_valid_data/b.jpg\n")
    for name in ("obj_train_data/a", "obj_valid_data/b"):
        make_image(f"{name}.jpg")
        make_text(f"{name}.txt", "1 0.3 0.8 0.1 0.3\n")
    assert names(tmp_path) == [
        ("obj_train_data/a.jpg", ("dog",), "train"),
        ("obj_valid_data/b.jpg", ("dog",), "val"),
    ]
    make_text("obj.data", "names = absent\n")
    with pytest.raises(ProblemError, match=r"obj.data: has no line 'names = FILE' with a file beside it"):
        yolo.read(tmp_path)


@pytest.mark.parametrize(
    ("line", "yaml", "expected"),
    [
        ("1 0.0 0.0 1.0 0.0 0.0 1.0", "", (0, 0, 8, 6, 24)),  # an outline
        ("1 0 0 0.5 0 0.5 0.5 0 0.5", "", (0, 0, 4, 3, 12)),  # a turned box, as its corners
        ("1 0.5 0.5 1 1 0.1 0.1 2 0.2 0.2 0", "kpt_shape: [2, 3]", (0, 0, 8, 6, 48)),
        ("1.0 0.5 0.5 1.005 1.0", "", (-0.02, 0, 8.04, 6, 48.24)),
    ],
)
def test_read__outlines_and_poses(
    ultralytics: Path, make_text: MakeText, line: str, yaml: str, expected: tuple[float, ...]
) -> None:
    make_text("coco8.yaml", f"{YAML}{yaml}\n")
    make_text("labels/val/a.txt", line)
    sample = load_dataset(ultralytics, split="val").samples[0]
    assert sample.positive == (1,)
    (box,) = sample.boxes
    assert (box.left, box.top, box.width, box.height, box.area) == pytest.approx(expected)


def test_read__a_split_without_label_files_is_left_out(ultralytics: Path, make_image: MakeImage) -> None:
    (ultralytics / "labels/val/a.txt").unlink()
    dataset = load_dataset(ultralytics)
    assert dataset.splits() == ("train",)
    assert dataset.notes == ["Left out, as none of its images has a label file: val."]
    for name in "ab":
        (ultralytics / f"labels/train/{name}.txt").unlink()
    with pytest.raises(DataError, match="has no image with a label file, in labels or beside it"):
        load_dataset(ultralytics)


def test_read__given_labels(ultralytics: Path) -> None:
    dataset = yolo.read(ultralytics, labels=LabelSet(["ant", "hot dog", "person"]))
    assert dataset.targets().tolist() == [[-1, 1, 1], [-1, 0, 0], [-1, 0, 0]]
    assert "labels/val/a.txt:1: Unknown label 'bicycle'" in str(dataset.problems[0])


def test_read__takes_images_elsewhere(ultralytics: Path, make_text: MakeText) -> None:
    path = make_text("configs/coco8.yaml", YAML)
    with pytest.raises(DataError, match=r"coco8.yaml:3: train: there is no 'images/train' in .*configs"):
        load_dataset(path)
    assert len(load_dataset(path, image_root=ultralytics)) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3 is none of the 3 in .*coco8.yaml"),
        ("-1 0.5 0.5 0.1 0.1", "the class is '-1': expected a whole number"),
        ("0.5 0.5 0.5 0.1 0.1", "the class is '0.5': expected a whole number"),
        ("dog 0.5 0.5 0.1 0.1", "the class is 'dog': expected a number"),
        ("0 0.5 0.5 0.1", "has 3 numbers after the class: expected 4, or an outline"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 5 numbers after the class"),
        ("0 0.5 0.5 0.1 nan", "a coordinate is 'nan': expected a number"),
        ("0 120 80 30 40", "has coordinates outside of 0 to 1: expected shares of"),
    ],
)
def test_read__collects_what_is_wrong_in_label_files(
    ultralytics: Path, make_text: MakeText, line: str, message: str
) -> None:
    make_text("labels/val/a.txt", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    assert len(load_dataset(ultralytics, on_problem="keep")) == 3
    with pytest.raises(DataError, match=rf"labels/val/a\.txt:3: {message}"):
        load_dataset(ultralytics)


def test_read__a_pose_needs_its_points(ultralytics: Path, make_text: MakeText) -> None:
    make_text("coco8.yaml", f"{YAML}kpt_shape: [2, 3]\n")
    make_text("labels/val/a.txt", "0 0.5 0.5 0.1 0.1 0.5\n")
    with pytest.raises(DataError, match="has 5 numbers after the class: expected 4 and 6 of key points"):
        load_dataset(ultralytics, split="val")


def test_read__label_files_without_image(ultralytics: Path, make_text: MakeText) -> None:
    make_text("labels/train/z.txt", "0 0.5 0.5 0.1 0.1\n")
    make_text("labels/train/classes.txt", "person\n")
    with pytest.raises(DataError, match=r"labels/train/z\.txt: has no image\. See"):
        load_dataset(ultralytics)


@pytest.mark.parametrize("link", ["images/val/a.jpg", "images/val", "coco8.yaml", "labels/val/a.txt"])
def test_read__follows_no_link_out_of_the_folder(
    ultralytics: Path, tmp_path_factory: pytest.TempPathFactory, link: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x"
    (ultralytics / link).rename(outside)
    (ultralytics / link).symlink_to(outside)
    if link.endswith(".txt"):
        assert load_dataset(ultralytics).notes == ["Left out, as none of its images has a label file: val."]
    else:
        with pytest.raises(DataError, match=r"leads out of .* by a symbolic link|is missing in"):
            load_dataset(ultralytics)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: a\nnames: [a, b", ":2: is not valid YAML: "),
        ("train: a\nnames: !!python/object:os.system [a]\nnc: 2", ":3: has nc 2, but 1 names"),
        ("[" * 100_000, ": is not read: its YAML is nested too deeply"),
        ("train: a\n", ": has no names: expected names"),
        ("names: 3\n", ":1: has no names: expected"),
        ("names:\n- a\n- a\n", ":3: class 1, 'a': its number or name stands already"),
        ("names:\n  0: a\n  0: b\n", ":3: class 0, 'b': its number or name stands already"),
        ("names:\n  x: a\n", ":2: class number 'x' is no whole number"),
        ("names:\n- a\n- [b]\n", ":3: class 1: label name '' is empty"),
        ("names: [a]\nkpt_shape: 17\n", r":2: kpt_shape is not \[number of points, 2 or 3\]"),
        ("names: [a]\ntrain: images/x\n", r":2: train: there is no 'images/x' in "),
        ("names: [a]\ntrain: ../..\n", r":2: train: there is no '../..' in "),
        ("names: [a]\ntrain: /etc\n", r":2: train: there is no '/etc' in "),
    ],
)
def test_read__refuses_unfit_yaml(ultralytics: Path, make_text: MakeText, text: str, message: str) -> None:
    path = make_text("coco8.yaml", text)
    with pytest.raises(DataError, match=f"coco8.yaml{message}"):
        load_dataset(path, format="yolo")


def test_read__aliases_do_not_grow(ultralytics: Path, make_text: MakeText) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = make_text("coco8.yaml", "\n".join([*lines, "names: *a11", "train: images/train"]))
    with pytest.raises(DataError, match="class 0: label name '' is empty"):
        load_dataset(path)


def test_read__the_number_of_a_line_is_that_of_a_class(make_text: MakeText, tmp_path: Path) -> None:
    make_text("classes.txt", "cat\n\ndog\n")
    make_text("a.txt", "1 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ProblemError, match=r"classes.txt:2: class 1: label name '' is empty"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("labels", ["labels/a.txt", "train/labels/a.txt"])
def test_read__labels_without_names(
    make_text: MakeText, make_image: MakeImage, tmp_path: Path, labels: str
) -> None:
    make_text(labels, "0 0.5 0.5 0.25 0.5\n")
    make_image(labels.replace("labels", "images").replace("txt", "jpg"))
    with pytest.raises(
        DataError, match=r"has YOLO labels, but no names of classes: put data.yaml or classes.txt"
    ):
        load_dataset(tmp_path)


def test_read__a_split_of_the_same_images_is_left_out(ultralytics: Path, make_text: MakeText) -> None:
    make_text("coco8.yaml", YAML.replace("images/val", "./images/train/"))
    dataset = yolo.read(ultralytics)
    assert dataset.problems == []
    assert dataset.notes == ["Left out, as its images are those of train: val."]
    assert {sample.split for sample in dataset.samples} == {"train"}
    make_text("coco8.yaml", YAML.replace("images/val", "images/train/deep"))
    assert [str(problem).partition(": ")[2] for problem in yolo.read(ultralytics).problems] == [
        "image 'images/train/deep/c.jpg' stands already in another entry"
    ]
