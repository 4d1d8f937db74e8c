"""Files as the `datasets` library writes them (checked against version 5.2), made here by pyarrow alone."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from query2label.data import hub_schema
from query2label.data.check import check_dataset
from query2label.data.contents import FileSlice
from query2label.data.huggingface import read
from query2label.data.load import detect_format, load_dataset
from query2label.data.parquet_cells import ParquetCell
from query2label.data.samples import ProblemError
from query2label.errors import DataError, MissingExtraError
from query2label.labels import LabelSet

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NAMES = ["dog", "cat", "sofa"]
CLASSES = {"names": NAMES, "_type": "ClassLabel"}
IMAGE = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
INDICES, TEXTS = arrow.list_(arrow.int64()), arrow.list_(arrow.string())


def photo(number: int) -> bytes:
    """A PNG of noise, 1 to 8 kB."""
    side = 20 + number % 30
    content = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(number).randbytes(3 * side * side)).save(
        content, "PNG"
    )
    return content.getvalue()


def table(labels: list[Any], kind: Any = INDICES, *, feature: Any = None, first: int = 0, **more: Any) -> Any:
    """A table with one image per entry of `labels`, and the metadata of `datasets`."""
    feature = feature or {"feature": CLASSES, "_type": "List"}
    features = {"image": {"_type": "Image"}, "labels": feature}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    images = [{"bytes": photo(first + place), "path": None} for place in range(len(labels))]
    columns = {"image": arrow.array(images, IMAGE), "labels": arrow.array(labels, kind), **more}
    found = arrow.table(columns)
    return found.replace_schema_metadata(metadata)


def write_parquet(path: Path, content: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path, **{"compression": "none", "use_dictionary": False, **options})
    return path


def save_to_disk(folder: Path, content: Any, *, rows_at_once: int = 4, **state: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = "data-00000-of-00001.arrow"
    with arrow.OSFile(str(folder / name), "wb") as file, arrow.ipc.new_stream(file, content.schema) as stream:
        stream.write_table(content, max_chunksize=rows_at_once)
    value = {"_data_files": [{"filename": name}], "_fingerprint": "c0779dddd13a6fb6", "_split": None, **state}
    (folder / "state.json").write_text(json.dumps(value))
    (folder / "dataset_info.json").write_text("{}")
    return folder


ROWS = [[place % 3] if place % 2 else [place % 3, (place + 1) % 3] for place in range(25)]
POSITIVE = [tuple(sorted(row)) for row in ROWS]


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({}, FileSlice),
        ({"row_group_size": 10}, FileSlice),
        ({"data_page_version": "2.0"}, FileSlice),
        ({"data_page_size": 5000, "write_page_checksum": True}, FileSlice),
        ({"write_page_index": True, "write_statistics": True}, FileSlice),
        ({"compression": "snappy", "row_group_size": 10}, ParquetCell),
        ({"compression": "zstd", "data_page_version": "2.0"}, ParquetCell),
        ({"use_dictionary": True}, ParquetCell),
        ({"column_encoding": {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"}}, ParquetCell),
    ],
)
def test_read__parquet_as_on_the_hub(tmp_path: Path, options: dict[str, Any], content: type) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", table(ROWS), **options)
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", table(ROWS, first=50), **options)
    write_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", table(ROWS, first=25), **options)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    dataset = load_dataset(tmp_path)
    assert dataset.format == "huggingface"
    assert dataset.labels.names == ("dog", "cat", "sofa")
    assert [sample.positive for sample in dataset.samples] == 3 * POSITIVE
    assert [sample.split for sample in dataset.samples] == 50 * ["train"] + 25 * ["val"]
    assert {type(sample.content) for sample in dataset.samples} == {content}
    numbers = [*range(25), *range(50, 75), *range(25, 50)]
    for sample, number in zip(dataset.samples, numbers, strict=True):
        assert sample.image_source() == photo(number)
    assert dataset.samples[7].path == tmp_path / "data" / "train-00000-of-00002.parquet" / "row-7"


def test_read__saved_to_disk(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "train", table(ROWS))
    save_to_disk(tmp_path / "test", table(ROWS[:3], first=30))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.splits()) == ("huggingface", ("train", "test"))
    assert [sample.positive for sample in dataset.samples] == POSITIVE + POSITIVE[:3]
    for sample, number in zip(dataset.samples, [*range(25), *range(30, 33)], strict=True):
        assert isinstance(sample.content, FileSlice)
        assert sample.image_source() == photo(number)
    for path, split in [
        (tmp_path / "train", None),
        (tmp_path / "train" / "data-00000-of-00001.arrow", "data"),
    ]:
        one = load_dataset(path)
        assert one.format == "huggingface"
        assert one.samples[3].split == split
        assert one.samples[3].content == dataset.samples[3].content


def test_read__one_saved_split_keeps_its_name(tmp_path: Path) -> None:
    assert read(save_to_disk(tmp_path, table(ROWS), _split="validation")).splits() == ("val",)


@pytest.mark.parametrize(
    ("labels", "kind", "feature", "names", "positive", "unknown"),
    [
        ([2, 0, -1], arrow.int64(), CLASSES, NAMES, [(2,), (0,), ()], [(), (), (0, 1, 2)]),
        ([[1], None], INDICES, [CLASSES], NAMES, [(1,), ()], [(), (0, 1, 2)]),
        ([[1]], INDICES, {"feature": CLASSES, "length": -1, "_type": "Sequence"}, NAMES, [(1,)], [()]),
        ([[10], [9]], INDICES, "?", ["9", "10"], [(1,), (0,)], [(), ()]),
        ([["b", "a"], [], None], TEXTS, "?", ["a", "b"], [(0, 1), (), ()], [(), (), (0, 1)]),
        ([["b"], ["a"]], arrow.large_list(arrow.large_string()), "?", ["a", "b"], [(1,), (0,)], [(), ()]),
        (["b", "a|c"], arrow.string(), "?", ["a|c", "b"], [(1,), (0,)], [(), ()]),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_read__labels_of_every_kind(
    tmp_path: Path, saved: bool, labels: Any, kind: Any, feature: Any, names: Any, positive: Any, unknown: Any
) -> None:
    content = table(labels, kind, feature=feature)
    path = save_to_disk(tmp_path, content) if saved else write_parquet(tmp_path / "a.parquet", content)
    dataset = read(path)
    assert list(dataset.labels) == names
    assert [sample.positive for sample in dataset.samples] == positive
    assert [sample.unknown for sample in dataset.samples] == unknown


def test_read__an_unknown_column(tmp_path: Path) -> None:
    content = table([[0], [1]], unknown=arrow.array([[1, 2], None], INDICES))
    dataset = read(write_parquet(tmp_path / "a.parquet", content))
    assert [(sample.positive, sample.unknown) for sample in dataset.samples] == [((0,), (1, 2)), ((1,), ())]
    assert dataset.notes == []


def test_read__a_given_label_set(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", table([[0], [2]]))
    dataset = read(path, labels=LabelSet(["cow", "dog", "cat"]))
    assert [(sample.positive, sample.unknown) for sample in dataset.samples] == [((1,), (0,))]
    assert str(dataset.problems[0]).startswith(f"{path}/row-1: Unknown label 'sofa'")


def test_read__plain_bytes_without_metadata(tmp_path: Path) -> None:
    content = arrow.table({"img": [photo(0), photo(1)], "mask": [b"1", b"2"], "tags": [["x"], ["y"]]})
    dataset = read(write_parquet(tmp_path / "train.parquet", content))
    assert [sample.image_source() for sample in dataset.samples] == [photo(0), photo(1)]
    assert dataset.notes == ["Columns that were not used: mask."]
    assert dataset.splits() == ("train",)


def test_read__images_that_are_not_there(tmp_path: Path) -> None:
    images = [
        {"bytes": photo(0), "path": "a"},
        {"bytes": None, "path": "b"},
        None,
        {"bytes": b"", "path": None},
    ]
    content = arrow.table({"image": arrow.array(images, IMAGE), "labels": [[1]] * 4})
    saved = read(save_to_disk(tmp_path / "saved", content))
    assert [sample.path.name for sample in saved.samples] == ["row-0", "row-3"]
    assert [problem.path.name for problem in saved.problems] == ["row-1", "row-2"]
    assert saved.problems[0].message == (
        "has no bytes of an image: write the data with the image files embedded"
    )
    for options in ({}, {"data_page_version": "2.0"}, {"compression": "snappy"}):
        report = check_dataset(write_parquet(tmp_path / "a.parquet", content, **options))
        assert [problem.path.name for problem in report.errors] == ["row-1", "row-2", "row-3"]
        assert "The file is empty." in report.errors[0].message


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        ([[0], [5]], INDICES, "label index 5 is outside of the 3 labels that are named"),
        ([[0], [-1]], INDICES, "the labels have -1 in them: indices begin with 0"),
        ([[0], [1, 0, 1]], INDICES, "not a 1 or 0 for every label"),
        (
            [[0.5], [1.5]],
            arrow.list_(arrow.float64()),
            "the labels have 0.5 in them: expected names or indices",
        ),
        ([["dog"], ["\n"]], TEXTS, "label name '' is empty"),
        ([["dog"], ["cow"]], TEXTS, "Unknown label 'cow'"),
    ],
)
def test_read__rows_that_are_wrong(tmp_path: Path, labels: Any, kind: Any, message: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", table([*labels, *labels[:1]], kind))
    try:
        found = str(read(path).problems[0])
    except ProblemError as error:
        found = str(error)
    assert f"{path}/row-" in found
    assert message in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            arrow.table({"image": ["a.jpg"], "labels": [[1]]}),
            "has no column with the bytes of images; the col",
        ),
        (
            arrow.table({"image": [b"1"], "x": [1]}),
            "has no column with labels: looked for labels, label, tags",
        ),
        (
            table([[0]], feature={**CLASSES, "names": ["a", "a"]}),
            "has unfit names of labels: Label 'a' occurs",
        ),
        (table([[0]], feature={**CLASSES, "names": ["a", 1]}), "has unfit names of labels: label name '' is"),
        (table([["x" * 3000]], TEXTS), "has a text of 3,000 bytes in 'labels', which is no label"),
        (table([[0] * 70_000]), "promises 70,001 rows and labels in "),
    ],
)
def test_read__files_that_are_wrong(tmp_path: Path, content: Any, message: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", content, use_dictionary=["labels.list.element"])
    with pytest.raises(ProblemError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {message}")
    with pytest.raises(DataError, match=r"has no row that can be used; the first problem is: .*a.parquet: "):
        read(tmp_path)


def test_read__metadata_that_are_no_metadata(tmp_path: Path) -> None:
    values: list[Any] = [
        b"{",
        b"\xff",
        b"[]",
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"labels": 3}}}',
    ]
    for value in [*values, b'{"info":' * 10_000]:
        content = table([[0]]).replace_schema_metadata({"huggingface": value})
        assert read(write_parquet(tmp_path / "a.parquet", content)).labels.names == ("0",)


def test_read__files_that_disagree(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", table([[0]]))
    other = table([[0]], feature={**CLASSES, "names": ["cat", "dog"]})
    second = write_parquet(tmp_path / "train-00001-of-00002.parquet", other)
    dataset = read(tmp_path)
    assert len(dataset) == 1
    assert str(dataset.problems[0]).startswith(f"{second}: names other labels than {tmp_path}/train-00000-of")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_read__damaged_files(tmp_path: Path, kind: str) -> None:
    """Damage anywhere is one sentence, or leaves images that are bytes of the file."""
    if kind == "parquet":
        path = write_parquet(tmp_path / "a.parquet", table(ROWS))
    else:
        path = save_to_disk(tmp_path, table(ROWS)) / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    draw = random.Random(3)
    contents = [whole[: draw.randrange(len(whole))] for _ in range(20)] + [b"", b"PAR1" * 20, b"x" * 100]
    for _ in range(60):
        at = draw.choice(
            [draw.randrange(len(whole)), draw.randrange(600), len(whole) - draw.randrange(1, 600)]
        )
        contents.append(whole[:at] + bytes([whole[at] ^ (1 << draw.randrange(8))]) + whole[at + 1 :])
    for content in contents:
        path.write_bytes(content)
        try:
            dataset = read(path)
        except ProblemError:
            continue
        for sample in dataset.samples:
            if isinstance(sample.content, FileSlice):
                assert (
                    0 <= sample.content.offset <= sample.content.offset + sample.content.size <= len(content)
                )


def test_read__a_compressed_arrow_file(tmp_path: Path) -> None:
    content = arrow.table({"image": [photo(0) * 20], "labels": [[0]]})
    options = arrow.ipc.IpcWriteOptions(compression="zstd")
    with (
        arrow.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        arrow.ipc.new_stream(file, content.schema, options=options) as stream,
    ):
        stream.write_table(content)
    with pytest.raises(
        ProblemError, match="is compressed, so that no image can be read by itself: write it with"
    ):
        read(tmp_path / "a.arrow")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset_dict.json", [], "dataset_dict.json: is no JSON object"),
        ("dataset_dict.json", {}, "dataset_dict.json: has no list 'splits'"),
        (
            "dataset_dict.json",
            {"splits": ["../../etc"]},
            "names the split '../../etc', but there is no such fold",
        ),
        ("dataset_dict.json", {"splits": [3]}, "names the split 3, but there is no such folder"),
        ("dataset_dict.json", {"splits": ["out"]}, "leads out of"),
        ("train/state.json", {}, "state.json: has no list '_data_files'"),
        ("train/state.json", {"_data_files": [3]}, "'_data_files' has 3 in it, not an Arrow file"),
        ("train/state.json", {"_data_files": [{"filename": "/etc/x.arrow"}]}, "leads out of"),
        ("train/state.json", {"_data_files": [{"filename": "x.arrow"}]}, "'x.arrow' is missing in"),
        (
            "train/state.json",
            {"_data_files": [], "_indices_data_files": [{}]},
            r"flatten_indices\(\), and save it",
        ),
    ],
)
def test_read__saved_folders_that_are_wrong(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str, value: Any, message: str
) -> None:
    save_to_disk(tmp_path / "train", table(ROWS))
    (tmp_path / "out").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": ["a.jpg"], "labels": ["dog"]}, "table"),
        ({"image": ["a.jpg"], "pixels": [b"1"], "labels": ["dog"]}, "table"),
        ({"file_name": ["a.jpg"], "image": [b"1"], "labels": ["dog"]}, "huggingface"),
        ({"pixels": [b"1"], "labels": ["dog"]}, "huggingface"),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "train-00000-of-00001.parquet"])
def test_looks_like__leaves_tables_alone(
    tmp_path: Path, columns: dict[str, list[Any]], expected: str, name: str
) -> None:
    path = write_parquet(tmp_path / name, arrow.table(columns))
    assert detect_format(path) == expected
    assert detect_format(tmp_path) == expected


def test_looks_like__without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", table(ROWS))

    def refuse(module: str, *, extra: str, purpose: str) -> None:
        raise MissingExtraError(f"{purpose} needs the package pyarrow: pip install 'query2label[{extra}]'.")

    monkeypatch.setattr(hub_schema, "import_extra", refuse)
    monkeypatch.setattr("query2label.data.hub_rows.import_extra", refuse)
    assert detect_format(tmp_path) == detect_format(path) == "huggingface"
    with pytest.raises(
        MissingExtraError, match="Reading images out of Parquet and Arrow files needs the package"
    ):
        load_dataset(tmp_path)


def test_check_dataset__rows(tmp_path: Path, make_text: Callable[..., Path]) -> None:
    content = arrow.table({"image": [photo(0), b"text", photo(0)], "labels": [["a"], ["a"], ["b"]]})
    path = write_parquet(tmp_path / "a.parquet", content, compression="snappy")
    report = check_dataset(path)
    assert [group.paths for group in report.duplicates] == [(path / "row-0", path / "row-2")]
    assert [problem.path for problem in report.errors] == [path / "row-1"]
