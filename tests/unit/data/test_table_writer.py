from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.data import table
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Sample
from query2label.data.table_writer import write_table
from query2label.errors import DataError
from query2label.labels import LabelSet


def assert_equal(first: Dataset, second: Dataset) -> None:
    assert first.labels == second.labels
    assert first.samples == second.samples
    assert not second.problems


def test_write_table__writes_plain_cells(tmp_path: Path) -> None:
    samples = [
        Sample(tmp_path / "photos" / "a.jpg", (0, 2), (1,), split="train"),
        Sample(tmp_path / "b.jpg", split="val"),
    ]
    dataset = Dataset(LabelSet(["dog", "cat", "ant"]), samples, tmp_path, "voc")
    assert write_table(dataset, tmp_path / "t.csv") == tmp_path
    assert (tmp_path / "t.csv").read_text() == (
        "image,labels,unknown,split\nphotos/a.jpg,dog|ant,cat,train\nb.jpg,,,val\n"
    )
    assert (tmp_path / "t.labels.txt").read_text() == "dog\ncat\nant\n"
    assert_equal(dataset, table.read(tmp_path / "t.csv", check_files=False))


def test_write_table__images_elsewhere_need_their_folder(tmp_path: Path) -> None:
    samples = [Sample(tmp_path / "in" / "x" / "a.jpg", (0,)), Sample(tmp_path / "in" / "b.jpg")]
    dataset = Dataset(LabelSet(["dog"]), samples, tmp_path, "voc")
    root = write_table(dataset, tmp_path / "out" / "t.csv")
    assert root == tmp_path / "in"
    assert_equal(dataset, table.read(tmp_path / "out" / "t.csv", image_root=root, check_files=False))


LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=6)
FILES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=6)


SPECIAL = st.sampled_from(["labels", "unknown", "1", "-1", "a|b", "[x]", "c, d"])
LABEL_SETS = st.lists(LABELS.map(str.strip).filter(bool) | SPECIAL, min_size=1, max_size=5, unique=True)
ROWS = st.dictionaries(
    FILES.filter(lambda name: name == name.strip() and name not in {".", ".."}),
    st.tuples(st.lists(st.sampled_from([0, 1, -1]), max_size=5), st.sampled_from([None, "train", "7"])),
    min_size=1,
    max_size=5,
)


@given(LABEL_SETS, ROWS)
def test_write_table__is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    labels: list[str],
    rows: dict[str, tuple[list[int], str | None]],
) -> None:
    samples = []
    for file, (kinds, split) in rows.items():
        positive, unknown = (
            tuple(k for k, kind in enumerate(kinds[: len(labels)]) if kind == wanted) for wanted in (1, -1)
        )
        samples.append(Sample(Path("/data") / file, positive, unknown, split=split))
    dataset = Dataset(LabelSet(labels), samples, Path("/data"), "table")
    path = tmp_path_factory.mktemp("t") / "t.csv"
    root = write_table(dataset, path)
    assert_equal(dataset, table.read(path, image_root=root, check_files=False))


def test_write_table__refuses_what_cannot_stand_in_a_table(tmp_path: Path) -> None:
    def write(name: str = "a.jpg", label: str = "dog", path: str = "t.csv") -> None:
        samples = [Sample(tmp_path / name, (0,))]
        write_table(Dataset(LabelSet([label]), samples, tmp_path, "x"), tmp_path / path)

    with pytest.raises(DataError, match=r"has to end with \.csv"):
        write(path="t.parquet")
    with pytest.raises(DataError, match="control characters"):
        write(label="d\ng")
    for name in (" a.jpg", "a\\b.jpg", "a\udcff.jpg"):
        with pytest.raises(DataError, match="cannot stand in a table: rename the file"):
            write(name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["voc_sample", "ccp", "coco_sample"])
def test_write_table__real_data(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    dataset = load_dataset(request.getfixturevalue(name))
    root = write_table(dataset, tmp_path / "t.csv")
    back = load_dataset(tmp_path / "t.csv", image_root=root)
    assert back.labels == dataset.labels
    assert back.splits() == dataset.splits()
    assert (back.targets() == dataset.targets()).all()
    assert [sample.path for sample in back.samples] == [sample.path for sample in dataset.samples]


def test_write_table__leaves_nothing_half_written(tmp_path: Path, make_image: Callable[..., Path]) -> None:
    make_image("a.jpg")
    samples = [Sample(tmp_path / "a.jpg", (5,))]  # a label that there is not
    with pytest.raises(IndexError):
        write_table(Dataset(LabelSet(["dog"]), samples, tmp_path, "x"), tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("name", ["a\rb.jpg", "a\nb.jpg", "a\r\nb.jpg", 'a"b.jpg', "a,b.jpg"])
def test_write_table__quotes_what_would_end_a_line_or_a_cell(tmp_path: Path, name: str) -> None:
    sample = Sample(tmp_path / name, (0,), split="train")
    dataset = Dataset(LabelSet(["x"]), [sample], tmp_path, "table")
    write_table(dataset, tmp_path / "t.csv")
    assert load_dataset(tmp_path / "t.csv", check_files=False).samples == [sample]
