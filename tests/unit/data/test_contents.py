"""Images that are no files of their own: their bytes, whoever asks for them."""

import multiprocessing
import operator
import os
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from query2label.config import DataConfig
from query2label.data import parquet_cells
from query2label.data.check import check_dataset
from query2label.data.contents import FileSlice, ImageContent
from query2label.data.loaders import EvalBatches, TrainBatches
from query2label.data.parquet_cells import ParquetCell
from query2label.data.samples import Dataset, Sample
from query2label.errors import ImageError
from query2label.labels import LabelSet
from query2label.preprocess import PreprocessSpec
from query2label.training.feature_task import images_digest

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

VALUES = [random.Random(number).randbytes(50 + number) for number in range(100)]


@pytest.fixture
def slices(tmp_path: Path) -> list[FileSlice]:
    file = tmp_path / "all.bin"
    file.write_bytes(b"".join(VALUES))
    offsets = np.cumsum([0, *map(len, VALUES)]).tolist()
    return [FileSlice(file, at, len(value)) for at, value in zip(offsets, VALUES, strict=False)]


@pytest.fixture
def cells(tmp_path: Path) -> list[ParquetCell]:
    file = tmp_path / "all.parquet"
    images = [{"bytes": value, "path": None} for value in VALUES]
    parquet.write_table(arrow.table({"image": images}), file, row_group_size=40)
    return [ParquetCell(file, "image.bytes", row // 40, row % 40) for row in range(100)]


@pytest.fixture(params=["slices", "cells"])
def contents(request: pytest.FixtureRequest) -> list[ImageContent]:
    """What holds `VALUES`."""
    found: list[ImageContent] = request.getfixturevalue(request.param)
    return found


def test_contents__give_the_bytes_in_any_order(contents: list[ImageContent]) -> None:
    orders = [range(100), range(99, -1, -1), random.Random(0).choices(range(100), k=300)]
    for order in orders:
        for place in order:
            assert contents[place].read() == VALUES[place]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_contents__are_read_in_other_processes(contents: list[ImageContent], method: str) -> None:
    contents[5].read()
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(operator.methodcaller("read"), contents[::7])) == VALUES[::7]
    assert contents[6].read() == VALUES[6]


def test_contents__are_small_values(contents: list[ImageContent]) -> None:
    assert pickle.loads(pickle.dumps(contents[3])) == contents[3]
    assert len({*contents, *contents}) == 100
    with pytest.raises(AttributeError):
        contents[0].file = Path("other")  # type: ignore[misc]


def test_contents__say_what_is_wrong_with_the_archive(contents: list[ImageContent]) -> None:
    file = contents[99].file
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    with pytest.raises(ImageError, match=r"has become shorter than it was|The Parquet file cannot be read"):
        contents[99].read()
    file.unlink()
    with pytest.raises(ImageError, match=r"cannot be read: .*No such file"):
        contents[99].read()


def test_parquet_cell__beyond_the_rows_is_an_error(cells: list[ParquetCell]) -> None:
    parquet.write_table(arrow.table({"image": [{"bytes": b"1", "path": None}]}), cells[0].file)
    with pytest.raises(ImageError, match=r"has become shorter than it was"):
        cells[1].read()


def test_parquet_cells__are_decoded_once_in_order(
    cells: list[ParquetCell], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    decode = parquet_cells._values

    def counted(path: Path, column: str, group: int) -> object:
        begun.append(group)
        return decode(path, column, group)

    monkeypatch.setattr(parquet_cells, "_values", counted)
    monkeypatch.setattr(parquet_cells, "MAX_KEPT_BYTES", 200)  # two values
    monkeypatch.setattr(parquet_cells, "_cells", {})
    for cell in cells:
        cell.read()
    assert begun == [0, 1, 2]
    kept = parquet_cells._process_cells()
    assert kept.num_bytes == sum(map(len, kept.values.values())) <= 200
    cells[0].read()
    assert begun == [0, 1, 2, 0]


def test_parquet_cells__keep_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_cells, "_cells", {})
    cells = []
    for number in range(9):
        file = tmp_path / f"{number}.parquet"
        parquet.write_table(arrow.table({"image": [b"%d" % number, b"b"]}), file)
        cells.append(ParquetCell(file, "image", 0, 0))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert [cell.read() for cell in cells] == [b"%d" % number for number in range(9)]
    assert len(os.listdir("/proc/self/fd")) - before <= parquet_cells.MAX_OPEN  # noqa: PTH208


@pytest.fixture
def twins(tmp_path: Path, make_image: Callable[..., Path]) -> tuple[Dataset, Dataset]:
    """Six images as files, and the same in one file; the last is no image."""
    (tmp_path / "packed").mkdir()
    archive = tmp_path / "packed" / "all.bin"
    files, packed, offset = [], [], 0
    with archive.open("wb") as out:
        for number in range(6):
            path = make_image(f"files/{number}.png", size=(20 + number, 30), grey=40 * number)
            if number == 5:
                path.write_bytes(b"no image")
            content = path.read_bytes()
            out.write(content)
            positive = (number % 2,)
            files.append(Sample(path, positive))
            name = archive / f"{number}.png"
            packed.append(Sample(name, positive, content=FileSlice(archive, offset, len(content))))
            offset += len(content)
    labels = LabelSet("ab")
    return (
        Dataset(labels, files, tmp_path / "files", "table"),
        Dataset(labels, packed, tmp_path / "packed", "x"),
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches__are_equal_to_those_of_files(twins: tuple[Dataset, Dataset], num_workers: int) -> None:
    spec = PreprocessSpec(image_size=(16, 20))
    config = DataConfig(num_workers=num_workers, max_broken_fraction=0.5)
    batches = [np.array([4, 0, 5]), np.array([1, 3, 2])]
    for one, other in zip(
        *(TrainBatches(data, spec, config, batches=batches, epoch=1, seed=3) for data in twins), strict=True
    ):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.indices, other.indices)
    plain, packed = (EvalBatches(data, spec, batch_size=2, num_workers=num_workers) for data in twins)
    for one, other in zip(plain, packed, strict=True):
        assert np.array_equal(one.images, other.images)
    assert list(packed.broken.to_dict()) == [str(twins[1].samples[5].path)]
    assert [*packed.broken.to_dict().values()] == [*plain.broken.to_dict().values()]


def test_images_digest__follows_the_archive(twins: tuple[Dataset, Dataset]) -> None:
    packed = twins[1]
    before = images_digest(packed)
    assert images_digest(packed) == before
    archive = packed.samples[0].file
    os.utime(archive, ns=(1, 1))
    changed = images_digest(packed)
    assert changed != before
    archive.unlink()
    assert images_digest(packed) not in {before, changed}


def test_check_dataset__compares_contents(
    twins: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = twins[1]
    first = packed.samples[0]
    again = Sample(first.path.with_name("again.png"), (0,), content=first.content)
    both = Dataset(packed.labels, [*packed.samples, again], packed.source, "x")
    monkeypatch.setattr("query2label.data.check.load_dataset", lambda *args, **kwargs: both)
    report = check_dataset(packed.source)
    assert [group.paths for group in report.duplicates] == [(first.path, again.path)]
    assert [problem.path for problem in report.errors] == [packed.samples[5].path]
    packed.samples[0].file.unlink()
    report = check_dataset(packed.source)
    assert len(report.errors) == 7
    assert "The archive cannot be read: No such file or directory." in str(report.errors[0])
