"""Shards, written by `tarfile` as the WebDataset writers do, and shards with something wrong in them."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from query2label.data.check import check_dataset
from query2label.data.load import detect_format, load_dataset
from query2label.data.samples import Dataset, ProblemError
from query2label.data.webdataset import read
from query2label.errors import DataError
from query2label.labels import LabelSet
from query2label.preprocess import load_image

MakeShard = Callable[..., Path]


@pytest.fixture
def jpeg(make_image: Callable[..., Path]) -> bytes:
    return make_image("one.jpg").read_bytes()


@pytest.fixture
def make_shard(tmp_path: Path, jpeg: bytes) -> MakeShard:
    """Writes a shard; an image without content is a JPEG, and what is no bytes or text becomes JSON."""

    def make(name: str, members: Mapping[str, object]) -> Path:
        path = tmp_path / "shards" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for member, content in members.items():
                if content is None and member.rpartition(".")[2] in {"jpg", "png"}:
                    data = jpeg
                elif isinstance(content, bytes):
                    data = content
                else:
                    data = (content if isinstance(content, str) else json.dumps(content)).encode()
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return make


def names(dataset: Dataset) -> dict[str, list[str]]:
    """Name in its shard -> labels."""
    return {
        f"{sample.file.name}:{sample.path.relative_to(sample.file)}": [
            dataset.labels[index] for index in sample.positive
        ]
        for sample in dataset.samples
    }


def test_read__json_of_every_form(make_shard: MakeShard) -> None:
    path = make_shard(
        "all.tar",
        {
            "a.jpg": None,
            "a.json": {"labels": ["dog", "cat"], "width": 3},
            "b.json": {"Tags": ["dog"], "unknown": ["cat"]},
            "b.png": None,
            "sub/c.v2.jpg": None,
            "sub/c.json": {"label": "sofa"},
            "d.jpg": None,
            "d.json": ["cat"],
            "e.jpg": None,
            "e.json": {"labels": []},
        },
    )
    dataset = read(path)
    assert dataset.problems == []
    assert names(dataset) == {
        "all.tar:a.jpg": ["cat", "dog"],
        "all.tar:b.png": ["dog"],
        "all.tar:sub/c.v2.jpg": ["sofa"],
        "all.tar:d.jpg": ["cat"],
        "all.tar:e.jpg": [],
    }
    assert [sample.unknown for sample in dataset.samples] == [(), (0,), (), (), ()]
    assert dataset.splits() == ()


def test_read__the_bytes_are_those_of_the_member(
    make_shard: MakeShard, make_image: Callable[..., Path]
) -> None:
    images = {f"{number}.jpg": make_image(f"{number}.jpg", grey=50 * number) for number in range(4)}
    members = {f"deep/{name}": path.read_bytes() for name, path in images.items()}
    path = make_shard("s.tar", {**members, **{f"deep/{number}.cls": str(number) for number in range(4)}})
    for sample in read(path).samples:
        assert sample.image_source() == images[sample.path.name].read_bytes()
        assert load_image(sample.image_source()) == load_image(images[sample.path.name])


def test_read__indices_count_the_names_beside(make_shard: MakeShard, make_text: Callable[..., Path]) -> None:
    path = make_shard(
        "s.tar",
        {
            "a.jpg": None,
            "a.cls": "1\n",
            "b.jpg": None,
            "b.cls": "2, 0",
            "c.jpg": None,
            "c.json": {"labels": [2]},
            "d.jpg": None,
            "d.cls": "[0, 1]\n",
        },
    )
    plain = read(path)
    assert plain.labels.names == ("0", "1", "2")
    make_text("shards/classes.txt", "cat\ndog\nsofa\nunused\n")
    for dataset in (read(path), read(path.parent)):
        assert dataset.labels.names == ("cat", "dog", "sofa", "unused")
        assert [sample.positive for sample in dataset.samples] == [(1,), (0, 2), (2,), (0, 1)]


def test_read__numbers_are_in_order_of_their_values(make_shard: MakeShard) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "10 9", "b.jpg": None, "b.cls": ""})
    dataset = read(path)
    assert dataset.labels.names == ("9", "10")
    assert [sample.positive for sample in dataset.samples] == [(0, 1), ()]


def test_read__text_is_labels_only_by_itself(make_shard: MakeShard) -> None:
    dataset = read(make_shard("s.tar", {"a.jpg": None, "a.txt": "a dog\n\nlawn, cut\n"}))
    assert dataset.labels.names == ("a dog", "lawn, cut")
    captioned = {"a.jpg": None, "a.txt": "a dog on a lawn", "a.json": {"caption": "a dog", "url": "x"}}
    with pytest.raises(
        ProblemError, match=r"s.tar/a.json: has no labels: looked for 'labels', 'label', 'tags'"
    ):
        read(make_shard("s.tar", captioned))
    dataset = read(make_shard("s.tar", {**captioned, "a.cls": "4"}))
    assert dataset.labels.names == ("4",)


def test_read__the_first_problem_is_told_where_no_image_has_a_label(make_shard: MakeShard) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "", "b.jpg": None, "b.cls": "dog"})
    with pytest.raises(ProblemError, match=r"s.tar/b.cls: has 'dog' in it: expected the indices of labels"):
        read(path)


def test_read__a_given_label_set(make_shard: MakeShard, make_text: Callable[..., Path]) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0", "b.jpg": None, "b.cls": "1"})
    make_text("shards/labels.txt", "cat\ndog\n")
    dataset = read(path, labels=LabelSet(["sofa", "cat"]))
    assert [(sample.positive, sample.unknown) for sample in dataset.samples] == [((1,), (0,))]
    assert "s.tar/b.jpg: Unknown label 'dog'" in str(dataset.problems[0])


def test_read__splits_come_from_folders_and_names(make_shard: MakeShard) -> None:
    content = {"a.jpg": None, "a.cls": "0"}
    for name in (
        "train-000000.tar",
        "x_train_1.tar",
        "train0001.tar",
        "validation/000.tar",
        "test/deep-train-0.tar",
        "rest.tar",
    ):
        make_shard(name, content)
    (make_shard("train-000000.tar", content).parent / ".hidden.tar").write_bytes(b"")
    dataset = load_dataset(make_shard("train-000000.tar", content).parent)
    assert dataset.format == "webdataset"
    splits = {sample.file.name: sample.split for sample in dataset.samples}
    assert splits == {
        "rest.tar": None, "train-000000.tar": "train", "x_train_1.tar": "train", "train0001.tar": "train",
        "deep-train-0.tar": "test", "000.tar": "val",
    }  # fmt: skip
    assert dataset.notes == ["1 images are in shards that name no split, and so in none."]
    assert len(dataset.select("train")) == 3


def test_read__shards_may_hold_equal_names(make_shard: MakeShard) -> None:
    make_shard("0001.tar", {"a.jpg": None, "a.cls": "0"})
    path = make_shard("0002.tar", {"a.jpg": None, "a.cls": "1"})
    assert list(names(read(path.parent))) == ["0001.tar:a.jpg", "0002.tar:a.jpg"]


@pytest.mark.parametrize(
    ("members", "place", "message"),
    [
        ({"b.jpg": None}, "b.jpg", "has no labels: looked for .json, .cls or .txt of its name"),
        ({"b.cls": "0"}, "b", "has to have one image, but has none"),
        ({"b.jpg": None, "b.png": None, "b.cls": "0"}, "b", "has 'b.jpg', 'b.png'"),
        ({"b.jpg": None, "b.json": "{"}, "b.json", "is not valid JSON: Expecting property name"),
        ({"b.jpg": None, "b.json": "[" * 99_999}, "b.json", "its JSON is nested too deeply"),
        ({"b.jpg": None, "b.json": b"\xff"}, "b.json", "is not UTF-8 text"),
        ({"b.jpg": None, "b.json": " " * 2**20 + "[]"}, "b.json", "more than the 1,048,576 that are read"),
        ({"b.jpg": None, "b.json": {"labels": {"dog": 1}}}, "b.json", "the labels have {'dog': 1} in them"),
        ({"b.jpg": None, "b.json": {"labels": [True]}}, "b.json", "have True in them: expected names or ind"),
        ({"b.jpg": None, "b.json": {"labels": [None]}}, "b.json", "the labels have None in them"),
        ({"b.jpg": None, "b.json": {"labels": [0, 1, 1]}}, "b.json", "not a 1 or 0 for every label"),
        ({"b.jpg": None, "b.json": {"labels": [-1]}}, "b.json", "have -1 in them: indices begin with 0"),
        ({"b.jpg": None, "b.json": {"labels": [7]}}, "b.json", "index 7 is outside of the 2 labels that are"),
        ({"b.jpg": None, "b.json": {"labels": [""]}}, "b.json", "label name '' is empty"),
        ({"b.jpg": None, "b.json": {"labels": ["cow"]}}, "b.jpg", "Unknown label 'cow'"),
        ({"b.jpg": None, "b.json": {"tag": "x", "unknown": ["x"]}}, "b.json", "both given and unknown"),
        ({"b.jpg": None, "b.cls": "1.5"}, "b.cls", "has '1.5' in it: expected the indices of labels"),
        ({"b.jpg": None, "b.cls": "9" * 5000}, "b.cls", "expected the indices of labels"),
        ({"b.jpg": None, "b.cls": "0 0"}, "b.cls", "the labels have 0 in them twice"),
        ({"/etc/b.jpg": None, "/etc/b.cls": "0"}, "/etc/b.jpg", "is called '/etc/b.jpg', which no"),
        ({"../../b.jpg": None}, "../../b.jpg", "is called '../../b.jpg', which no member should be"),
        ({"b\x1b.jpg": None}, "b\x1b.jpg", "is called 'b\\x1b.jpg', which no member should be"),
    ],
)  # fmt: skip
def test_read__names_shard_and_member_of_what_is_wrong(
    make_shard: MakeShard,
    make_text: Callable[..., Path],
    members: dict[str, object],
    place: str,
    message: str,
) -> None:
    make_text("shards/labels.txt", "cat\nx\n")
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0", **members})
    dataset = read(path)
    assert [sample.path for sample in dataset.samples] == [path / "a.jpg"]
    problem = dataset.problems[0]
    assert str(problem.path) == str(Path(f"{path}/{place}"))
    assert message in problem.message


def test_read__a_member_that_is_there_twice(make_shard: MakeShard, jpeg: bytes) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0"})
    info = tarfile.TarInfo("a.cls")
    with tarfile.open(path, "a") as archive:
        archive.addfile(info)
    assert [str(problem) for problem in read(path).problems] == [f"{path}/a.cls: is there twice"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_read__links_and_devices_are_not_followed(make_shard: MakeShard, kind: bytes) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0"})
    info = tarfile.TarInfo("b.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(path, "a") as archive:
        archive.addfile(info)
        archive.addfile(tarfile.TarInfo("b.cls"))
    problems = [str(problem) for problem in read(path).problems]
    assert problems[0].startswith(f"{path}/b.jpg: is a ")
    assert problems[0].endswith("not a file")
    assert len(read(path).samples) == 1


def test_read__an_image_of_half_a_terabyte(make_shard: MakeShard) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0"})
    info = tarfile.TarInfo("b.jpg")
    info.size = 2**39
    content = path.read_bytes().rstrip(b"\0")
    content += bytes(-len(content) % 512)
    path.write_bytes(content + info.tobuf(tarfile.GNU_FORMAT))
    dataset = read(path)
    assert "is cut off: 'b.jpg'" in str(dataset.problems[0])
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 2**39 + 1024)
    assert str(read(path).problems[0]).endswith(
        "has 549,755,813,888 bytes, more than the 536,870,912 that are read"
    )


def test_read__keeps_the_good_part_of_a_cut_shard(make_shard: MakeShard) -> None:
    members = {
        f"{number:02}.{kind}": "0" if kind == "cls" else None
        for number in range(9)
        for kind in ("jpg", "cls")
    }
    path = make_shard("train-000.tar", members)
    make_shard("train-001.tar", members)
    path.write_bytes(path.read_bytes()[:6144])
    dataset = read(path.parent)
    assert 9 < len(dataset) < 18
    assert [problem.path for problem in dataset.problems][:1] == [path]
    with pytest.raises(DataError, match=r"train-000.tar: ends without the blocks of zeros"):
        load_dataset(path.parent)


def test_read__what_is_no_shard_at_all(make_shard: MakeShard, make_text: Callable[..., Path]) -> None:
    path = make_text("shards/000.tar", "no archive")
    with pytest.raises(DataError, match=r"000.tar: is no tar archive"):
        load_dataset(path)
    with pytest.raises(
        DataError, match=r"has no sample that can be used; the first problem is: .*000.tar: is no"
    ):
        load_dataset(path.parent)
    path.unlink()
    gz = path.with_name("train-000.tar.gz")
    with tarfile.open(gz, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    for given in (gz, gz.parent):
        with pytest.raises(
            DataError, match=r"is compressed \(gzip\), so that no image can be read by itself: unpack"
        ):
            load_dataset(given)
    with pytest.raises(ProblemError, match=r"has no sample in it$"):
        read(make_shard("empty.tar", {}))


def test_read__a_shard_behind_a_link(make_shard: MakeShard, tmp_path: Path) -> None:
    inside = make_shard("train-0.tar", {"a.jpg": None, "a.cls": "0"})
    outside = tmp_path / "outside.tar"
    inside.rename(outside)
    make_shard("train-0.tar", {"a.jpg": None, "a.cls": "0"})
    inside.with_name("train-1.tar").symlink_to(outside)
    assert "leads out of" in str(read(inside.parent).problems[0])
    assert len(read(inside.parent)) == 1


@pytest.mark.parametrize(
    ("name", "members", "expected"),
    [
        ("any.tar", {"a.jpg": None, "a.json": {}}, True),
        ("any.tar", {"a.jpg": None, "b.jpg": None}, False),
        ("train/any.tar", {"a.jpg": None, "a.cls": "0"}, True),
        ("other/any.tar", {"a.jpg": None, "a.cls": "0"}, False),
        ("VOCtrainval.tar", {"VOC/JPEGImages/a.jpg": None, "VOC/Annotations/a.xml": "<a/>"}, False),
        ("train-000000.tar", {}, False),
        ("train-000000.tar.gz", {"a.jpg": None, "a.cls": "0"}, True),
    ],
)
def test_looks_like__a_folder_of_shards(
    make_shard: MakeShard, tmp_path: Path, name: str, members: dict[str, object], expected: bool
) -> None:
    make_shard(name, members)
    if expected:
        assert detect_format(tmp_path / "shards") == "webdataset"
    else:
        with pytest.raises(DataError, match="has no known layout"):
            detect_format(tmp_path / "shards")


def test_check_dataset__images_in_shards(make_shard: MakeShard) -> None:
    path = make_shard(
        "train-0.tar",
        {
            "a.jpg": None, "a.cls": "0", "b.jpg": None, "b.cls": "1", "c.jpg": b"text", "c.cls": "1",
            "d.jpg": b"", "d.cls": "0",
        },
    )  # fmt: skip
    report = check_dataset(path)
    assert [group.paths for group in report.duplicates] == [(path / "a.jpg", path / "b.jpg")]
    assert report.duplicates[0].conflicting_labels == ("0", "1")
    assert [str(problem) for problem in report.errors] == [
        f"{path}/c.jpg: It is not a JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM or PGM image but a text file.",
        f"{path}/d.jpg: The file is empty.",
    ]


@pytest.mark.parametrize("forms", [({"labels": [0, 1]}, {"labels": [1, 0]}), ([0, 1], [1, 1])])
def test_read__a_1_or_0_for_each_of_two_labels_is_not_taken_for_indices(
    make_shard: MakeShard, make_text: Callable[..., Path], forms: tuple[object, object]
) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.json": forms[0], "b.jpg": None, "b.json": forms[1]})
    with pytest.raises(ProblemError, match=r"s.tar/a.json: has two labels that are 0 or 1, .* write names"):
        read(path)
    make_text("shards/classes.txt", "cat\ndog\n")
    with pytest.raises(ProblemError, match="for each of two labels"):
        read(path)


def test_read__another_sample_tells_that_numbers_are_indices(
    make_shard: MakeShard, make_text: Callable[..., Path]
) -> None:
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0 1", "b.jpg": None, "b.cls": "1"})
    assert names(read(path)) == {"s.tar:a.jpg": ["0", "1"], "s.tar:b.jpg": ["1"]}
    path = make_shard("s.tar", {"a.jpg": None, "a.cls": "0 1"})
    make_text("shards/classes.txt", "cat\ndog\nsofa\n")
    assert names(read(path)) == {"s.tar:a.jpg": ["cat", "dog"]}
