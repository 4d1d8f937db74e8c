"""Tables about images in archives, as `q2l data split` and runs write them."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data import table
from query2label.data.archive_names import ArchiveNames
from query2label.data.image_root import ImageRoot
from query2label.data.load import load_dataset
from query2label.data.table_writer import write_table
from query2label.errors import DataError


@pytest.fixture
def shard(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """Four images in two folders of an archive."""
    path = tmp_path / "shards" / "all.tar"
    path.parent.mkdir()
    content = make_image("one.jpg").read_bytes()
    with tarfile.open(path, "w") as archive:
        for number in range(4):
            for name, data in (
                (f"./{number % 2}//{number}.jpg", content),
                (f"./{number % 2}//{number}.cls", b"5"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type = tarfile.SYMTYPE
        archive.addfile(link)
    return path


@pytest.mark.parametrize("folder", ["shards", "elsewhere"])
def test_write_table__images_in_an_archive_are_read_back(shard: Path, tmp_path: Path, folder: str) -> None:
    dataset = load_dataset(shard, on_problem="keep")
    out = tmp_path / folder / "t.csv"
    root = write_table(dataset, out)
    assert root == shard.parent
    again = table.read(out, image_root=root)
    assert again.problems == []
    assert again.labels == dataset.labels
    assert list(again.samples) == list(dataset.samples)
    assert again.samples[3].content is not None


def test_write_table__rows_of_a_parquet_file_are_read_back(tmp_path: Path, shard: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    content = (tmp_path / "one.jpg").read_bytes()
    (tmp_path / "data").mkdir()
    for compression in ("none", "snappy"):
        path = tmp_path / "data" / f"{compression}.parquet"
        parquet.write_table(
            arrow.table({"image": [content, content, None], "labels": [["a"], ["b"], ["a"]]}), path,
            compression=compression,
        )  # fmt: skip
    dataset = load_dataset(tmp_path / "data", on_problem="keep")
    write_table(dataset, tmp_path / "t.csv")
    again = table.read(tmp_path / "t.csv")
    assert list(again.samples) == list(dataset.samples)
    assert again.samples[1].image_source() == content


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("all.tar/1/9.jpg", "image 'all.tar/1/9.jpg' is missing: .*all.tar has no '1/9.jpg' in it"),
        ("all.tar/link.jpg", "has no 'link.jpg' in it"),
        ("all.tar/0/0.cls", "has no '0/0.cls' in it"),
        ("absent.tar/0.jpg", "is missing: there is no folder .*absent.tar"),
        ("../shards/../../all.tar/0.jpg", "leads out of"),
        ("../elsewhere/all.tar/0.jpg", "leads out of"),
        ("broken.tar/0.jpg", "broken.tar: is no tar archive"),
        ("broken.parquet/row-0", "broken.parquet: cannot be read"),
    ],
)
def test_locate__says_what_is_not_there(shard: Path, name: str, message: str) -> None:
    for kind in ("tar", "parquet"):
        (shard.parent / f"broken.{kind}").write_bytes(b"nothing of the kind")
    names = ArchiveNames(ImageRoot(shard.parent))
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            names.locate(name)


def test_locate__a_folder_may_be_called_like_an_archive(
    tmp_path: Path, make_image: Callable[..., Path]
) -> None:
    path = make_image("old.tar/a.jpg")
    assert ArchiveNames(ImageRoot(tmp_path)).locate("old.tar/a.jpg") == (path, None)
