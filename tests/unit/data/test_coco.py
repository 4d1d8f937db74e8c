import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.data import coco
from query2label.data.coco_files import annotation_files
from query2label.data.load import load_dataset
from query2label.data.samples import Box, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeCoco = Callable[..., Path]


def test_read__orders_labels_by_category_id_and_keeps_boxes(make_coco: MakeCoco, tmp_path: Path) -> None:
    make_coco()
    dataset = coco.read(tmp_path, check_files=False)
    assert dataset.labels.names == ("dog", "cat", "ant")
    assert [sample.path for sample in dataset.samples] == [
        tmp_path / "train2017" / "b.jpg",
        tmp_path / "train2017" / "a.jpg",
    ]
    # A crowd counts as positive; an image without annotations is kept.
    assert [sample.positive for sample in dataset.samples] == [(0, 1), ()]
    assert dataset.samples[0].boxes == (
        Box(1, 1.0, 2.0, 3.0, 4.0, 5.5),
        Box(0, 0.0, 0.0, 2.0, 2.0, 4.0),
    )
    assert dataset.splits() == ("train",)


def test_read__gives_the_files_of_a_folder_their_splits(make_coco: MakeCoco, tmp_path: Path) -> None:
    make_coco()
    make_coco("annotations/instances_val2017.json", images=[{"id": 1, "file_name": "c.jpg"}], annotations=[])
    make_coco("annotations/captions_val2017.json")
    (tmp_path / "annotations" / "person_keypoints_train2017.json").write_text("{}")
    dataset = coco.read(tmp_path, check_files=False)
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val"]
    assert len(coco.read(tmp_path, check_files=False, only_split="val")) == 1
    assert len(coco.read(tmp_path, check_files=False, only_split="trainval")) == 3
    assert len(coco.read(tmp_path, check_files=False, only_split="other")) == 3


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (
            ["annotations/instances_train2014.json", "annotations/instances_train2017.json"],
            ["train2014", "train2017"],
        ),
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], ["train", "val"]),
        (["train.json", "val.json"], ["train", "val"]),
        (["annotations_trainval2014/annotations/instances_val2014.json"], ["val"]),
        (["annotations/instances_default.json"], [None]),
        (["info.json"], []),
    ],
)
def test_annotation_files__finds_files_and_splits(
    tmp_path: Path, names: list[str], splits: list[str | None]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.split for file in annotation_files(tmp_path)] == splits


@pytest.mark.parametrize(
    ("json_name", "image_name"),
    [
        ("annotations/instances_train2017.json", "train2017/b.jpg"),
        ("annotations/instances_train2017.json", "images/train2017/b.jpg"),
        ("annotations/instances_train2017.json", "train2017/train2017/b.jpg"),
        ("annotations/instances_train2017.json", "images/b.jpg"),
        ("annotations/instances_train2017.json", "b.jpg"),
        ("annotations/instances_train2017.json", "annotations/b.jpg"),
        ("things.json", "b.jpg"),
        ("things.json", "images/b.jpg"),
        ("train/_annotations.coco.json", "train/b.jpg"),
    ],
)
def test_read__finds_the_images_of_one_file(
    make_coco: MakeCoco, make_image: Callable[..., Path], json_name: str, image_name: str
) -> None:
    path = make_coco(json_name)
    image = make_image(image_name)
    dataset = coco.read(path)
    assert [sample.path.resolve() for sample in dataset.samples] == [image]
    assert "image id 3: image" in str(dataset.problems[0])
    assert "is missing" in str(dataset.problems[0])


def test_read__takes_images_below_the_image_root(
    make_coco: MakeCoco, make_image: Callable[..., Path]
) -> None:
    path = make_coco()
    image = make_image("elsewhere/b.jpg")
    dataset = coco.read(path, image_root=image.parent)
    assert [sample.path for sample in dataset.samples] == [image]


IMAGE = {"id": 7, "file_name": "b.jpg"}
ANNOTATION = {"id": 1, "image_id": 7, "category_id": 20}
YEARS = ["train2014", "train2017", "val2014", "val2017"]
YEAR_FILES = [
    f"annotations/instances_{split}{year}.json" for year in (2014, 2017) for split in ("train", "val")
]


@pytest.mark.parametrize(
    ("folders", "splits", "left_out"),
    [
        (["train2017", "val2017"], ["train", "val"], ["train2014", "val2014"]),
        (["images/train2014", "images/val2014"], ["train", "val"], ["train2017", "val2017"]),
        (["val2014"], ["val"], ["train2014", "train2017", "val2017"]),
        (["train2017", "val2014", "val2017"], ["train2017", "val2014", "val2017"], ["train2014"]),
        (YEARS, YEARS, []),
        (["images"], YEARS, []),
    ],
)
def test_read__takes_the_years_whose_images_are_there(
    make_coco: MakeCoco,
    make_image: Callable[..., Path],
    tmp_path: Path,
    folders: list[str],
    splits: list[str],
    left_out: list[str],
) -> None:
    for name in YEAR_FILES:
        make_coco(name, images=[IMAGE], annotations=[ANNOTATION])
    for folder in folders:
        make_image(f"{folder}/b.jpg")
    dataset = coco.read(tmp_path)
    assert list(dataset.splits()) == splits
    assert dataset.problems == []
    assert dataset.notes == [
        f"Left out, as it has no folder of images: instances_{name}.json (looked for {name} in {tmp_path})."
        for name in left_out
    ]
    # Without a look at the images nothing can be left out.
    assert len(coco.read(tmp_path, check_files=False).splits()) == 4


def test_read__one_of_several_years_by_name(
    make_coco: MakeCoco, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    for name in YEAR_FILES:
        make_coco(name, images=[IMAGE], annotations=[ANNOTATION])
        make_image(f"{Path(name).stem.removeprefix('instances_')}/b.jpg")
    (sample,) = load_dataset(tmp_path, split="val2014").samples
    assert sample.path == tmp_path / "val2014" / "b.jpg"
    (sample,) = load_dataset(tmp_path / YEAR_FILES[3]).samples
    assert (sample.path, sample.split) == (tmp_path / "val2017" / "b.jpg", "val")
    with pytest.raises(DataError, match="has no split 'val': it has train2014, train2017, val2014, val2017"):
        load_dataset(tmp_path, split="val")


def test_read__other_files_of_the_download_are_no_data(make_coco: MakeCoco, tmp_path: Path) -> None:
    make_coco(images=[IMAGE])
    for name in ("captions_train2017", "person_keypoints_train2017", "stuff_train2017", "panoptic_train2017"):
        (tmp_path / "annotations" / f"{name}.json").write_text("{}")
    make_coco("annotations/image_info_test2017.json", annotations=None)
    make_coco("annotations/image_info_test-dev2017.json", annotations=None)
    dataset = coco.read(tmp_path, check_files=False)
    assert dataset.splits() == ("train",)
    assert dataset.notes == [
        "Left out, as it has no labels: image_info_test-dev2017.json.",
        "Left out, as it has no labels: image_info_test2017.json.",
    ]
    with pytest.raises(ProblemError, match="needs lists called images, annotations, categories"):
        coco.read(tmp_path / "annotations" / "image_info_test2017.json")


@pytest.mark.parametrize(
    "order",
    [("info", "images", "licenses", "annotations", "categories"), ("categories", "annotations", "images")],
)
def test_read__the_members_of_a_file_in_any_order(tmp_path: Path, order: tuple[str, ...]) -> None:
    outline = {"segmentation": [[1.5, 2.5, 3.5, 4.5, 5.5, 6.5]], "iscrowd": 0, "bbox": [1, 2, 3, 4]}
    crowd = {"segmentation": {"counts": [7, 2], "size": [3, 3]}, "iscrowd": 1, "category_id": 90}
    parts = {
        "info": {"images": [3], "year": 2014},
        "licenses": [{"id": 1}],
        "images": [{**IMAGE, "license": 1}, {"id": 2**40, "file_name": "ü.jpg"}],
        "annotations": [{**ANNOTATION, **outline}, {**ANNOTATION, "id": 900100, **crowd}],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 20, "name": "sheep"}],
    }
    path = tmp_path / "instances_train2014.json"
    path.write_text(json.dumps({name: parts[name] for name in order}, indent=1), encoding="utf-8")
    dataset = coco.read(path, check_files=False)
    assert dataset.problems == []
    assert dataset.labels.names == ("sheep", "toothbrush")
    assert [(sample.path.name, sample.positive) for sample in dataset.samples] == [
        ("b.jpg", (0, 1)),
        ("ü.jpg", ()),
    ]
    assert dataset.samples[0].boxes == (Box(0, 1.0, 2.0, 3.0, 4.0, 12.0),)


def test_read__the_official_categories(make_coco: MakeCoco, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "lists" / "coco"
    categories = json.loads((folder / "coco80_categories.json").read_text())
    names = (folder / "coco80_names.txt").read_text().split("\n")[:80]
    annotations = [
        {"id": k, "image_id": 7, "category_id": part["id"]} for k, part in enumerate(categories[1:])
    ]
    path = make_coco(images=[IMAGE], annotations=annotations, categories=categories[::-1])
    dataset = coco.read(path, check_files=False)
    assert dataset.labels.names == tuple(names)
    assert (dataset.labels.index("person"), dataset.labels.index("toothbrush")) == (0, 79)
    # The ids have gaps (1 to 90), the outputs have none.
    assert dataset.samples[0].positive == tuple(range(1, 80))


def test_read__images_that_were_not_downloaded_are_one_problem(make_coco: MakeCoco, tmp_path: Path) -> None:
    make_coco()
    (problem,) = coco.read(tmp_path).problems
    assert problem.message == (
        f"none of its 2 images can be used; image id 7: image 'train2017/b.jpg' is missing: "
        f"there is no folder {tmp_path}/train2017"
    )


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (40, r"instances_val2017.json:1: is not valid JSON: .*\(column \d+\)"),
        (-1, r"instances_val2017.json:1: is not valid JSON: Expecting ',' delimiter \(column \d+\)"),
    ],
)
def test_read__a_download_that_broke_off(make_coco: MakeCoco, end: int, message: str) -> None:
    path = make_coco("annotations/instances_val2017.json")
    path.write_text(path.read_text()[:end])
    with pytest.raises(ProblemError, match=message):
        coco.read(path, check_files=False)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\x.jpg"])
def test_read__refuses_images_outside(make_coco: MakeCoco, name: str) -> None:
    dataset = coco.read(make_coco(images=[{"id": 7, "file_name": name}], annotations=[]), check_files=False)
    assert len(dataset) == 0
    assert "leads out of" in str(dataset.problems[0])


def test_read__given_labels(make_coco: MakeCoco) -> None:
    path = make_coco()
    dataset = coco.read(path, labels=LabelSet(["ant", "bee", "cat", "dog"]), check_files=False)
    assert dataset.targets().tolist() == [[0, -1, 1, 1], [0, -1, 0, 0]]
    assert dataset.samples[0].boxes[0].label == 2
    # A category that is never used may be missing; one that is used may not.
    assert coco.read(path, labels=LabelSet(["cat", "dog"]), check_files=False).problems == []
    dataset = coco.read(path, labels=LabelSet(["cat", "dogs"]), check_files=False)
    assert [str(problem).partition("json: ")[2] for problem in dataset.problems] == [
        "annotation 2 has a label that is not wanted: Unknown label 'dog': the 2 known labels begin with "
        "cat, dogs. Did you mean 'dogs'?"
    ]
    assert len(dataset) == 1


DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": [IMAGE, {"id": 7, "file_name": "c.jpg"}]}, "image id 7 occurs twice"),
        ({"images": [IMAGE, {"id": 8, "file_name": "b.jpg"}]}, "image id 8: 'b.jpg' has another id too"),
        ({"images": [IMAGE, {"id": "8", "file_name": "c.jpg"}]}, "an image has no id or file_name"),
        ({"images": [IMAGE, [1]]}, "an image has no id or file_name"),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "image_id": 9}]}, "belongs to image id 9, which"),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "category_id": 9}]}, "has category id 9, which"),
        ({"images": [IMAGE, {"id": 2**64, "file_name": "c.jpg"}]}, "an image has no id or file_name"),
        ({"images": [IMAGE, {"id": 8, "file_name": DEEP}]}, r"no id or file_name: {.*\[\.\.\.\]"),
        (
            {"images": [IMAGE, {"id": 8, "file_name": ["x" * 999]}]},
            r"an image has no id or file_name: .{,120}$",
        ),
        (
            {"images": [IMAGE], "annotations": [{**ANNOTATION, "category_id": "20"}]},
            "category id '20', which",
        ),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "image_id": 7.0}]}, "image id 7.0, which"),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "image_id": 2**63}]}, f"image id {2**63}, which"),
        ({"images": [IMAGE], "annotations": [None]}, "annotation None belongs to image id None"),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "bbox": [1, 2, 3]}]}, r"has the box \[1, 2, 3\]"),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "bbox": [1, 2, -3, 4]}]}, "has the box"),
        (
            {"images": [IMAGE], "annotations": [{**ANNOTATION, "bbox": [1, 2, float("nan"), 4]}]},
            "has the box",
        ),
        ({"images": [IMAGE], "annotations": [{**ANNOTATION, "bbox": [1, 2, 10**400, 4]}]}, "has the box"),
        (
            {"images": [IMAGE], "annotations": [{**ANNOTATION, "bbox": [1, 2, 3, 4], "area": "x"}]},
            "has the area 'x'",
        ),
    ],
)
def test_read__collects_what_is_wrong(make_coco: MakeCoco, parts: dict[str, Any], message: str) -> None:
    parts = {"annotations": [], **parts}
    dataset = coco.read(make_coco(**parts), check_files=False)
    assert len(dataset.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"images": None},
            "is not a COCO instances file: it needs lists called images, annotations, categories",
        ),
        ({"categories": [{"id": 1}]}, "has a category without its own id and name"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            "has a category without its own id",
        ),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "has two categories of one name"),
        ({"categories": []}, "or none at all"),
        ({"categories": [{"id": 1, "name": "a\x1b"}]}, "category 1: label name .*control characters"),
    ],
)
def test_read__refuses_files_that_are_none(make_coco: MakeCoco, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        coco.read(make_coco(**parts), check_files=False)


def test_read__refuses_other_categories_in_another_file(make_coco: MakeCoco, tmp_path: Path) -> None:
    make_coco()
    make_coco("annotations/instances_val2017.json", categories=[{"id": 4, "name": "dog"}])
    with pytest.raises(ProblemError, match=r"val2017.json: has other categories than .*train2017.json"):
        coco.read(tmp_path, check_files=False)


def test_read__refuses_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no COCO files: expected annotations/instances"):
        coco.read(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "file_name", "image_id", "category_id", "bbox", "area", "x"]),
            part,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4), st.none() | st.lists(JSON, max_size=3))
def test_read__any_json_ends_with_a_data_set_or_our_error(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[Any],
    annotations: list[Any],
    categories: list[Any] | None,
) -> None:
    path = tmp_path_factory.mktemp("coco") / "t.json"
    named = categories or [{"id": 1, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": named}))
    try:
        coco.read(path, check_files=False).targets()
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
    assert message.startswith(str(path))
    shutil.rmtree(path.parent)


def test_read__the_sample_of_coco(coco_sample: Path) -> None:
    dataset = coco.read(coco_sample)
    assert dataset.problems == []
    assert (len(dataset.select("train")), len(dataset.select("val")), len(dataset.labels)) == (208, 204, 80)
    assert dataset.labels.names[:2] == ("person", "bicycle")
    num_objects = sum(len(sample.boxes) for sample in dataset.select("val").samples)
    assert num_objects == 1498
    assert all(box.label in sample.positive for sample in dataset.samples for box in sample.boxes)
