"""Files as Label Studio writes them: docs/source/guide/export.md and the pages of its tags."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from query2label.data import labelstudio
from query2label.data.load import load_dataset
from query2label.data.samples import Box, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeImage = Callable[..., Path]


def choices(*names: str, question: str = "choice") -> dict[str, Any]:
    return {
        "value": {"choices": list(names)},
        "id": "yF2XDmJvyA",
        "from_name": question,
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
    }


def region(kind: str, names: list[str], **value: Any) -> dict[str, Any]:
    return {
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**value, kind: names},
        "id": "Dx_aB91ISN",
        "from_name": "tag",
        "to_name": "img",
        "type": kind,
    }


def annotation(*results: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": 1001,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "lead_time": 4.288,
        **more,
    }


def task(number: int, image: str, *annotations: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "annotations": list(annotations),
        "file_upload": "1d1dc4b0-photo.jpg",
        "drafts": [annotation(choices("draft"))],
        "predictions": [{"model_version": "model 1", "result": [choices("predicted")]}],
        "data": {"image": image},
        "meta": {},
        "project": 83,
        **more,
    }


def write(folder: Path, value: Any, name: str = "project-1-at-2021-03-09.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def test_read__choices_and_regions_are_labels(make_image: MakeImage, tmp_path: Path) -> None:
    box = region("rectanglelabels", ["dog"], x=10.0, y=20.0, width=50.0, height=40.0, rotation=0)
    write(
        tmp_path,
        [
            task(1, "/data/upload/1/0a1b2c3d-b.jpg", annotation(choices("sun", "sea"))),
            task(2, "/data/upload/1/0a1b2c3d-a.jpg", annotation(box, choices("sea"))),
            task(3, "/data/upload/1/0a1b2c3d-c.jpg", annotation()),
            task(4, "/data/upload/1/0a1b2c3d-d.jpg"),
            task(5, "/data/upload/1/0a1b2c3d-e.jpg", annotation(choices("sun"), was_cancelled=True)),
        ],
    )
    for name in "abc":
        make_image(f"{name}.jpg")
    for data in (tmp_path, tmp_path / "project-1-at-2021-03-09.json"):
        dataset = load_dataset(data)
        assert (dataset.format, dataset.labels.names) == ("labelstudio", ("dog", "sea", "sun"))
        assert [sample.path.name for sample in dataset.samples] == ["b.jpg", "a.jpg", "c.jpg"]
        assert dataset.targets().tolist() == [[0, 1, 1], [1, 1, 0], [0, 0, 0]]
        assert dataset.samples[1].boxes == (Box(0, 20.0, 20.0, 100.0, 40.0, 4000.0),)
        assert dataset.notes == ["Tasks without annotations, left out: 2."]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # Turned about the top left corner at (20, 20), as the tag's documentation says.
        (
            region("rectanglelabels", ["dog"], x=10, y=20, width=50, height=40, rotation=90),
            (-20, 20, 40, 100, 4000),
        ),
        (region("labels", ["dog"], x=10, y=20, width=50, height=40), (20, 20, 100, 40, 4000)),
        (region("polygonlabels", ["dog"], points=[[0, 0], [50, 0], [0, 50]]), (0, 0, 100, 50, 2500)),
        (
            region("ellipselabels", ["dog"], x=50, y=50, radiusX=10, radiusY=20, rotation=0),
            (80, 30, 40, 40, 400 * math.pi),
        ),
        (region("keypointlabels", ["dog"], x=50, y=50, width=0.5), None),
        (region("brushlabels", ["dog"], format="rle", rle=[1, 2, 3]), None),
        ({"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["dog"]}}, None),
    ],
)
def test_read__every_region_means_that_the_label_is_there(
    tmp_path: Path, answer: dict[str, Any], expected: tuple[float, ...] | None
) -> None:
    path = write(tmp_path, [task(1, "a.jpg", annotation(answer))])
    dataset = labelstudio.read(path, check_files=False)
    assert (dataset.problems, dataset.labels.names) == ([], ("dog",))
    assert dataset.samples[0].positive == (0,)
    boxes = [(b.left, b.top, b.width, b.height, b.area) for b in dataset.samples[0].boxes]
    assert boxes == ([] if expected is None else [pytest.approx(expected)])


def test_read__the_majority_of_annotators_decides(tmp_path: Path) -> None:
    box = region("rectanglelabels", ["dog"], x=0, y=0, width=10, height=10)
    other = region("rectanglelabels", ["dog"], x=1, y=0, width=10, height=10)
    both, dog, none = choices("cat", "dog"), choices("dog"), annotation()
    cancelled = annotation(choices("ant"), was_cancelled=True)
    path = write(
        tmp_path,
        [
            task(1, "1.jpg", annotation(both), annotation(dog)),
            task(2, "2.jpg", annotation(both), annotation(dog), none, cancelled),
            task(3, "3.jpg", annotation(dog), annotation(both, ground_truth=True)),
            task(4, "4.jpg", annotation(both), annotation(both), annotation(dog), none),
            task(5, "5.jpg", annotation(box), annotation(other), none),
        ],
    )
    dataset = labelstudio.read(path, check_files=False)
    assert dataset.labels.names == ("cat", "dog")
    assert dataset.targets().tolist() == [[-1, 1], [0, 1], [1, 1], [-1, 1], [0, 1]]
    assert dataset.samples[4].boxes == (Box(1, 0.0, 0.0, 20.0, 10.0, 200.0),)


def test_read__json_min(make_image: MakeImage, tmp_path: Path) -> None:
    def record(number: int, name: str, **answers: Any) -> dict[str, Any]:
        data = {"image": f"/data/upload/1/{name}.jpg", "caption": "a boat at sea"}
        annotated = {"annotator": 1, "annotation_id": number, "created_at": "", "lead_time": 2.5}
        return {**data, "id": number, **answers, **annotated}

    box = {"x": 10, "y": 20, "width": 50, "height": 40, "rectanglelabels": ["dog"]}
    sized = {**box, "original_width": 200, "original_height": 100}
    write(
        tmp_path,
        [
            record(1, "a", choice="sea"),
            record(2, "b", choice={"choices": ["sea", "sun"]}, tag=[sized]),
            record(3, "c", tag=[box]),
            record(3, "c", tag=[box], choice="sun"),
            record(4, "d") | {"annotator": None, "annotation_id": None},
            record(5, "e"),
        ],
    )
    for name in "abce":
        make_image(f"images/{name}.jpg")
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.labels.names) == ("labelstudio", ("dog", "sea", "sun"))
    assert dataset.targets().tolist() == [[0, 1, 0], [1, 1, 1], [1, 0, -1], [0, 0, 0]]
    assert [len(sample.boxes) for sample in dataset.samples] == [0, 1, 0, 0]
    assert dataset.notes == ["Read as choices: choice.", "Tasks without annotations, left out: 1."]


def test_read__json_min_without_its_own_members(tmp_path: Path) -> None:
    # The form of the documentation's example: only data and answers.
    value = [{"image": "a.jpg", "mood": "calm"}, {"mood": "wild", "image": "b.jpg"}]
    dataset = labelstudio.read(write(tmp_path, value), check_files=False)
    assert (dataset.labels.names, dataset.targets().tolist()) == (("calm", "wild"), [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("/data/upload/1/abcd1234-photo.jpg", "abcd1234-photo.jpg"),
        ("/data/upload/1/abcd1234-photo.jpg", "photo.jpg"),
        ("/data/upload/1/abcd1234-photo.jpg", "images/abcd1234-photo.jpg"),
        ("/data/upload/1/abcd1234-photo.jpg", "images/photo.jpg"),
        ("/data/local-files/?d=folder/my%20photo.jpg", "folder/my photo.jpg"),
        ("/data/local-files/?d=folder/photo.jpg", "photo.jpg"),
        ("/data/local-files/?d=mnt%5Cfolder%5Cphoto.jpg", "folder/photo.jpg"),
        ("s3://bucket/folder/photo.jpg", "folder/photo.jpg"),
        ("gs://bucket/folder/photo.jpg", "photo.jpg"),
        ("https://example.com/a/photo.jpg?X-Amz-Signature=1/x.jpg", "photo.jpg"),
        ("images/photo.jpg", "images/photo.jpg"),
        ("/home/me/data/folder/photo.jpg", "folder/photo.jpg"),
        ("folder/50%25 #1.jpg", "folder/50%25 #1.jpg"),
        ("http://[photo.jpg", "[photo.jpg"),
    ],
)
def test_read__finds_images_by_name(
    make_image: MakeImage, tmp_path: Path, reference: str, place: str
) -> None:
    image = make_image(f"data/{place}")
    path = write(tmp_path, [task(1, reference, annotation(choices("a")))])
    dataset = labelstudio.read(path, image_root=tmp_path / "data")
    assert dataset.problems == []
    assert [sample.path for sample in dataset.samples] == [image]


def test_read__prefers_the_file_with_the_prefix(make_image: MakeImage, tmp_path: Path) -> None:
    make_image("photo.jpg")
    image = make_image("abcd1234-photo.jpg")
    path = write(tmp_path, [task(1, "/data/upload/1/abcd1234-photo.jpg", annotation(choices("a")))])
    assert labelstudio.read(path).samples[0].path == image


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"text": "see x.jpg now", "photo": "p.jpg"}, "p.jpg"),
        ({"thumb": "t.jpg", "image": "p.jpg"}, "p.jpg"),
        ({"source": "p.jpg", "title": "x"}, "p.jpg"),
        ({"title": "x", "image": "s3://bucket/p"}, "p"),
    ],
)
def test_read__finds_the_member_that_names_the_image(tmp_path: Path, data: dict[str, str], name: str) -> None:
    path = write(tmp_path, [task(1, "", annotation(choices("a")), data=data)])
    assert labelstudio.read(path, check_files=False).samples[0].path.name == name


def test_read__order_of_labels(tmp_path: Path) -> None:
    path = write(tmp_path, [task(1, "a.jpg", annotation(choices("a", "b")))])
    (tmp_path / "labels.txt").write_text("b\na\nc\n")
    assert labelstudio.read(path, check_files=False).labels.names == ("b", "a", "c")
    dataset = labelstudio.read(path, check_files=False, labels=LabelSet(["a", "bee"]))
    assert dataset.labels.names == ("a", "bee")
    assert "task 1: Unknown label 'b'" in str(dataset.problems[0])


def test_read__notes_what_it_does_not_read(tmp_path: Path) -> None:
    inner = choices("occluded")
    inner["value"].update(x=1, y=1, width=1, height=1)
    stars = {"type": "rating", "from_name": "stars", "value": {"rating": 3}}
    shape = {"type": "rectangle", "from_name": "r", "value": {"x": 1, "y": 1, "width": 1, "height": 1}}
    answers = [inner, stars, shape, choices("no", question="a"), choices("no", question="b")]
    dataset = labelstudio.read(write(tmp_path, [task(1, "a.jpg", annotation(*answers))]), check_files=False)
    assert dataset.labels.names == ("no",)
    assert dataset.notes == [
        "'no' answers several questions (a, b) and is one label here.",
        "Answers of these kinds are not read: choices of a region, rating.",
    ]


GOOD = task(1, "a.jpg", annotation(choices("a")))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (task(2, "absent.jpg", annotation(choices("a"))), "task 2: image 'absent.jpg' is missing in"),
        (task(2, "../../x.jpg", annotation(choices("a"))), "task 2: image '../../x.jpg' leads out of"),
        (task(2, "/data/a.jpg", annotation(choices("a"))), "task 2: its image is that of task 1"),
        (task(2, "a.jpg", data={"text": 3}), "task 2: it names no image: its data are 'text'"),
        (task(2, "a.jpg", data=3), "task 2: it has no data"),
        (7, "task 1 of the list: it has no data"),
        (task(2, "b.jpg", annotations=3), "task 2: its annotations are no list of objects"),
        (task(2, "b.jpg", 3), "task 2: its annotations are no list of objects"),
        (task(2, "b.jpg", {"id": 3}), "task 2: an annotation has no list called result"),
        (task(2, "b.jpg", annotation(choices(3))), "task 2: an answer of the kind choices has no list"),  # type: ignore[arg-type]
        (
            task(2, "b.jpg", annotation(region("labels", ["a"], x="?", y=1, height=1))),
            "task 2: x is '.': expected a number",
        ),
        (
            task(2, "b.jpg", annotation(region("labels", ["a"], points=[3]))),
            "task 2: the points of a polygon are no pairs",
        ),
    ],
)
def test_read__collects_what_is_wrong_in_tasks(
    make_image: MakeImage, tmp_path: Path, broken: Any, message: str
) -> None:
    write(tmp_path, [GOOD, broken])
    for name in "ab":
        make_image(f"{name}.jpg")
    assert len(load_dataset(tmp_path, on_problem="keep")) == 1
    with pytest.raises(DataError, match=rf"project-1-at-2021-03-09\.json: {message}"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "json: is no Label Studio export: expected a list of tasks"),
        ([3], "json: has no task that can be used; the first because: task 0 of the list: it is 3: expected"),
        ([], "json: has no label in any image"),
        ([task(1, "a.jpg", annotation(choices("a\nb")))], "json: task 1: label name .* control characters"),
    ],
)
def test_read__refuses_other_files(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        labelstudio.read(write(tmp_path, value), check_files=False)


def test_read__refuses_broken_json_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD])
    path.write_text(path.read_text() + "\noops")
    with pytest.raises(ProblemError, match="json:2: is not valid JSON: Extra data"):
        load_dataset(tmp_path)


def test_read__needs_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no Label Studio export: expected a .json file with a list"):
        labelstudio.read(tmp_path)
    for name in ("one.json", "two.json"):
        write(tmp_path, [GOOD], name)
    with pytest.raises(DataError, match=r"several exports in it \(one.json, two.json\): name the one"):
        labelstudio.read(tmp_path)


def test_read__exports_before_version_1(make_image: MakeImage, tmp_path: Path) -> None:
    completion = {"id": 1001, "lead_time": 4.2, "result": [choices("dog", "cat")]}
    single = {"id": 1002, "result": [{**choices(), "value": {"choices": "cat"}}]}
    tasks = [
        {"id": 0, "completions": [completion], "predictions": [], "data": {"image": "/data/upload/a.jpg"}},
        {"id": 1, "completions": [single], "predictions": [], "data": {"image": "/data/upload/b.jpg"}},
    ]
    for name in "ab":
        make_image(f"images/{name}.jpg")
    (tmp_path / "result.json").write_text(json.dumps(tasks))
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.labels.names) == ("labelstudio", ("cat", "dog"))
    assert [sample.positive for sample in dataset.samples] == [(0, 1), (0,)]
