"""Samples from arguments, and their predictions, also out of archives."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from query2label.data.contents import FileSlice
from query2label.data.samples import Sample
from query2label.errors import DataError
from query2label.inference.predictor import Predictor
from query2label.inference.samples import Survey, samples_of, survey_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos with a table that has them in two splits."""
    for name, colour in {"a": (250, 0, 0), "b": (0, 250, 0)}.items():
        Image.new("RGB", (9, 9), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,labels,split\nb.png,x,test\na.png,x,train\n")
    return tmp_path


def test_samples_of__takes_files_or_a_split(photos: Path) -> None:
    assert list(samples_of([str(photos / "a.png")])) == [Sample(photos / "a.png")]
    assert [sample.path.name for sample in samples_of([str(photos)], split="testing")] == ["b.png"]
    found = samples_of([str(photos)])
    for _ in range(2):
        assert [sample.path.name for sample in found] == ["a.png", "b.png"]
    with pytest.raises(DataError, match="has no split 'val': it has test, train"):
        samples_of([str(photos)], split="val")
    with pytest.raises(DataError, match="There is nothing to predict"):
        list(samples_of([]))


def test_stream__reads_samples_out_of_archives(photos: Path, predictor: Predictor) -> None:
    content = (photos / "a.png").read_bytes()
    archive = photos / "shard.tar"
    archive.write_bytes(b"before" + content + b"after")
    inside = Sample(archive / "a.png", content=FileSlice(archive, 6, len(content)))
    outside = Sample(photos / "a.png")
    first, second = predictor.stream([inside, outside], batch_size=1)
    assert (first.source, second.source) == (str(archive / "a.png"), str(photos / "a.png"))
    assert first.scores == second.scores == predictor(photos / "a.png").scores
    assert json.loads(first.to_json())["image"] == str(archive / "a.png")
    archive.write_bytes(b"cut")
    with pytest.raises(DataError, match=r"shard\.tar/a\.png cannot be read: The archive has become shorter"):
        list(predictor.stream([inside]))


def make_tar(path: Path, *images: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images):
            archive.add(image, f"{number}.png")
            archive.addfile(tarfile.TarInfo(f"{number}.json"))
    return path


def make_parquet(path: Path, contents: list[bytes | None], **options: object) -> Path:
    pq.write_table(
        pa.table({"image": pa.array(contents, pa.binary()), "id": range(len(contents))}), path, **options
    )
    return path


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_samples_of__finds_images_in_archives_without_labels(
    photos: Path, predictor: Predictor, compression: str
) -> None:
    shards = photos / "shards"
    shards.mkdir()
    make_tar(shards / "1.tar", photos / "a.png", photos / "b.png")
    contents = [(photos / "b.png").read_bytes(), None, b"no image"]
    make_parquet(shards / "2.parquet", contents, compression=compression, row_group_size=2)
    found = list(samples_of([str(shards)]))
    names = ["1.tar/0.png", "1.tar/1.png", *(f"2.parquet/row-{number}" for number in range(3))]
    assert [sample.path for sample in found] == [shards / name for name in names]
    assert list(samples_of([str(shards / "*.tar"), str(shards / "2.parquet")])) == found
    predictions = list(predictor.stream(found))
    assert [prediction.labels for prediction in predictions[:3]] == [("red",), ("green",), ("green",)]
    assert [prediction.error for prediction in predictions[3:]] == [
        "The file is empty.",
        "It is not a JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM or PGM image but a text file.",
    ]


def test_samples_of__finds_images_in_arrow_streams(photos: Path, predictor: Predictor) -> None:
    table = pa.table({"image": [(photos / "b.png").read_bytes(), None]})
    with pa.OSFile(str(photos / "x.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    green, missing = predictor.stream(samples_of([str(photos / "x.arrow")]))
    assert green.labels == ("green",)
    assert missing.error == "The file is empty."


def test_samples_of__refuses_archives_without_images(photos: Path) -> None:
    make_tar(photos / "x.tar")
    make_parquet(photos / "x.parquet", [])
    pq.write_table(pa.table({"name": ["a.png"]}), photos / "names.parquet")
    (photos / "y.tar").write_bytes(b"no archive" * 100)
    for name, message in {
        "x.tar": r"x\.tar: has no image in it",
        "x.parquet": r"x\.parquet: has no image in it",
        "names.parquet": r"names\.parquet: has no column with the bytes of images; the columns are 'name'",
        "y.tar": r"y\.tar: is no tar archive",
    }.items():
        with pytest.raises(DataError, match=message):
            survey_of(samples_of([str(photos / name)]))


def test_survey_of__knows_which_images_there_are(photos: Path) -> None:
    def survey(*names: str) -> Survey:
        return survey_of(samples_of([str(photos / name) for name in names]))

    both = survey("a.png", "b.png")
    assert both.num_images == 2
    assert both == survey("*.png") == survey("")
    assert both.digest not in {survey("b.png", "a.png").digest, survey("a.png").digest}
    make_tar(photos / "x.tar", photos / "a.png")
    before = survey("x.tar")
    make_tar(photos / "x.tar", photos / "labels.csv", photos / "a.png")
    assert survey("x.tar") != before
