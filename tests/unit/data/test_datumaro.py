"""Files as Datumaro writes them, by its documentation (data-formats/datumaro_format)."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from query2label.data import datumaro
from query2label.data.load import load_dataset
from query2label.data.samples import Box, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeImage = Callable[..., Path]

COMMON = {"attributes": {}, "group": 0}
CAPTION = {"id": 9, "type": "caption", "caption": "a dog", **COMMON}


def label(number: int) -> dict[str, Any]:
    return {"id": 0, "type": "label", "label_id": number, **COMMON}


def item(name: str, *annotations: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "annotations": list(annotations),
        "attr": {"frame": 0},
        "image": {"path": f"{name}.jpg", "size": [6, 8]},
        **more,
    }


def contents(*items: Any, names: tuple[str, ...] = ("dog", "cat", "bird"), **parts: Any) -> dict[str, Any]:
    labels = [{"name": name, "parent": "", "attributes": []} for name in names]
    return {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {
            "label": {"labels": labels, "label_groups": [], "attributes": []},
            "mask": {"colormap": [{"label_id": 0, "r": 1, "g": 2, "b": 3}]},
        },
        "items": list(items),
        **parts,
    }


def write(folder: Path, value: Any, name: str = "annotations/train.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


BOX = {"id": 1, "type": "bbox", "label_id": 2, "z_order": 0, "bbox": [1.5, 2.0, 3.0, 4.0], **COMMON}


def test_read__subsets_are_splits(make_image: MakeImage, tmp_path: Path) -> None:
    write(tmp_path, contents(item("a", label(1), BOX, CAPTION), item("deep/b")))
    write(tmp_path, contents(item("a", label(0))), "annotations/validation.json")
    write(tmp_path, {"images": [], "categories": []}, "annotations/instances_train.json")
    paths = [make_image(f"images/{name}.jpg") for name in ("train/a", "train/deep/b", "validation/a")]
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.labels.names) == ("datumaro", ("dog", "cat", "bird"))
    assert [(sample.path, sample.split) for sample in dataset.samples] == list(
        zip(paths, ("train", "train", "val"), strict=True)
    )
    assert dataset.targets().tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert dataset.samples[0].boxes == (Box(2, 1.5, 2.0, 3.0, 4.0, 12.0),)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({"type": "bbox", "bbox": [0, 0, 4, 2], "attributes": {"rotation": 90.0}}, (1, -1, 2, 4, 8)),
        ({"type": "polygon", "points": [0, 0, 4, 0, 0, 4]}, (0, 0, 4, 4, 8)),
        ({"type": "ellipse", "points": [3, 4, 7, 6]}, (3, 4, 4, 2, 2 * math.pi)),
        ({"type": "mask", "rle": {"counts": "d0d0:F\\0", "size": [10, 10]}}, None),
        ({"type": "points", "points": [1, 2], "visibility": [2]}, None),
        ({"type": "polyline", "points": [1, 2, 3, 4]}, None),
        ({"type": "skeleton", "elements": []}, None),
    ],
)
def test_read__every_annotation_means_that_the_label_is_there(
    tmp_path: Path, annotation: dict[str, Any], expected: tuple[float, ...] | None
) -> None:
    path = write(tmp_path, contents(item("a", {"label_id": 1, **annotation})))
    dataset = datumaro.read(path, check_files=False)
    assert dataset.problems == []
    assert dataset.samples[0].positive == (1,)
    boxes = [(b.left, b.top, b.width, b.height, b.area) for b in dataset.samples[0].boxes]
    assert boxes == ([] if expected is None else [pytest.approx(expected)])


@pytest.mark.parametrize("place", ["images/default/a.png", "default/a.png", "images/a.png", "a.png"])
def test_read__the_older_form_without_paths(make_image: MakeImage, tmp_path: Path, place: str) -> None:
    # As CVAT's documentation shows it: no version, and items that are found by their id.
    value = contents({"id": "a", "annotations": [label(0)]}, info={})
    del value["dm_format_version"], value["media_type"], value["infos"]
    path = write(tmp_path, value, "annotations/default.json")
    image = make_image(place)
    assert datumaro.looks_like(tmp_path)
    for data in (tmp_path, path):
        dataset = load_dataset(data)
        assert [(sample.path, sample.positive, sample.split) for sample in dataset.samples] == [
            (image, (0,), None)
        ]


def test_read__given_labels(tmp_path: Path) -> None:
    write(tmp_path, contents(item("a", label(1)), item("b", label(0))))
    dataset = datumaro.read(tmp_path, labels=LabelSet(["ant", "cat"]), check_files=False)
    assert dataset.targets().tolist() == [[-1, 1]]
    assert "train.json: item 'b': Unknown label 'dog'" in str(dataset.problems[0])


def test_read__leaves_out_what_is_no_image(tmp_path: Path) -> None:
    cloud = item("c", point_cloud={"path": "c.pcd"})
    del cloud["image"]
    write(tmp_path, contents(cloud, item("a", label(0), {"type": "bbox", "label_id": None})))
    dataset = datumaro.read(tmp_path, check_files=False)
    assert (len(dataset), dataset.problems) == (1, [])
    assert dataset.notes == ["Items without an image, left out: 1."]


def test_read__media_of_any_kind_are_told_by_their_names(tmp_path: Path) -> None:
    image, clip = item("a", label(0), media={"path": "deep/b.jpg"}), item("c", media={"path": "c.mp4"})
    del image["image"], clip["image"]
    write(tmp_path, contents(image, clip))
    dataset = datumaro.read(tmp_path, check_files=False)
    assert [(sample.path.name, sample.positive) for sample in dataset.samples] == [("b.jpg", (0,))]
    assert dataset.notes == ["Items without an image, left out: 1."]


def test_read__keeps_an_image_that_is_named_twice(tmp_path: Path) -> None:
    write(tmp_path, contents(item("a", label(0), media={"path": "a.jpg"})))
    dataset = datumaro.read(tmp_path, check_files=False)
    assert ([sample.path.name for sample in dataset.samples], dataset.notes) == (["a.jpg"], [])


def test_read__images_elsewhere(make_image: MakeImage, tmp_path: Path) -> None:
    path = write(tmp_path, contents(item("a")), "annotations/train.json")
    image = make_image("photos/a.jpg")
    assert datumaro.read(path, image_root=image.parent).samples[0].path == image


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (item("absent"), "item 'absent': image 'absent.jpg' is missing in"),
        (item("x", image={"path": "../x.jpg"}), "item 'x': image '.*x.jpg' leads out of"),
        (item("x", image={"path": "/etc/passwd"}), "item 'x': image '/etc/passwd' leads out of"),
        (item("x", image={"path": 3}), "item 'x': its image has the path 3"),
        ({"annotations": []}, "item 1 of the list: it has neither an image nor an id"),
        ({"id": "x", "annotations": []}, "item 'x': image 'x.jpg' is missing in"),
        (7, "item 1 of the list: it has neither an image nor an id"),
        (item("ok"), "item 'ok': its image stands already in train.json"),
        (item("a", annotations=None), "item 'a': it has no list of annotations"),
        (item("a", label(3)), "item 'a': label_id 3 is none of the 3 labels"),
        (item("a", label(-1)), "item 'a': label_id -1 is none"),
        (item("a", {"type": "label", "label_id": True}), "item 'a': label_id True is none"),
        (item("a", {**BOX, "bbox": [1, 2, 3]}), "item 'a': bbox has 3 numbers: expected 4"),
        (item("a", {**BOX, "bbox": [1, 2, 3, "x"]}), "item 'a': bbox is 'x': expected a number"),
        (item("a", {**BOX, "bbox": None}), "item 'a': bbox is None: expected a list of numbers"),
        (item("a", {**BOX, "bbox": [1, 2, -3, 4]}), "item 'a': a box of -3 x 4 ends before it begins"),
        (item("a", {"type": "polygon", "label_id": 0, "points": [1, 2]}), "item 'a': an outline has 1 x"),
    ],
)
def test_read__collects_what_is_wrong_in_items(
    make_image: MakeImage, tmp_path: Path, broken: Any, message: str
) -> None:
    write(tmp_path, contents(item("ok", label(0)), broken))
    for name in ("ok", "a"):
        make_image(f"images/train/{name}.jpg")
    dataset = load_dataset(tmp_path, on_problem="keep")
    assert [sample.path.name for sample in dataset.samples] == ["ok.jpg"]
    assert len(dataset.problems) == 1
    with pytest.raises(DataError, match=rf"annotations/train\.json: {message}"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "train.json: is not a Datumaro file: it needs lists items and categories.label.labels"),
        (contents(items=3), "train.json: is not a Datumaro file"),
        (contents(categories={"label": {"labels": []}}), "train.json: is not a Datumaro file"),
        (contents(names=("a", "")), "train.json: label 1: label name '' is empty"),
        (contents(names=("a", "a")), "train.json: label 1: 'a' is label 0 already"),
        (contents(categories={"label": {"labels": [{}]}}), "train.json: label 0: it has no name"),
    ],
)
def test_read__refuses_other_files(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        datumaro.read(write(tmp_path, value))


def test_read__refuses_broken_json_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, contents(item("a")))
    path.write_text(path.read_text().replace('"items"', '\n"items" oops'))
    with pytest.raises(ProblemError, match=r"train.json:2: is not valid JSON"):
        load_dataset(tmp_path)


def test_read__all_files_have_the_same_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no Datumaro files: expected annotations/\*.json in it"):
        datumaro.read(tmp_path)
    write(tmp_path, contents())
    write(tmp_path, contents(names=("cat", "dog")), "annotations/val.json")
    with pytest.raises(ProblemError, match=r"val.json: has other labels than .*train.json"):
        datumaro.read(tmp_path)
