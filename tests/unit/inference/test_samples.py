"""Samples from arguments, and their predictions, also out of archives."""

import json
from pathlib import Path

import pytest
from PIL import Image

from query2label.data.contents import FileSlice
from query2label.data.samples import Sample
from query2label.errors import DataError
from query2label.inference.predictor import Predictor
from query2label.inference.samples import predict_samples, samples_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos with a table that has them in two splits."""
    for name, colour in {"a": (250, 0, 0), "b": (0, 250, 0)}.items():
        Image.new("RGB", (9, 9), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,labels,split\nb.png,x,test\na.png,x,train\n")
    return tmp_path


def test_samples_of__takes_files_or_a_split(photos: Path) -> None:
    assert samples_of([str(photos / "a.png")]) == [Sample(photos / "a.png")]
    assert [sample.path.name for sample in samples_of([str(photos)], split="testing")] == ["b.png"]
    assert [sample.path.name for sample in samples_of([str(photos)])] == ["a.png", "b.png"]
    with pytest.raises(DataError, match="has no split 'val': it has test, train"):
        samples_of([str(photos)], split="val")
    with pytest.raises(DataError, match="There is nothing to predict"):
        samples_of([])


def test_predict_samples__reads_images_out_of_archives(photos: Path, predictor: Predictor) -> None:
    content = (photos / "a.png").read_bytes()
    archive = photos / "shard.tar"
    archive.write_bytes(b"before" + content + b"after")
    inside = Sample(archive / "a.png", content=FileSlice(archive, 6, len(content)))
    outside = Sample(photos / "a.png")
    first, second = predict_samples(predictor, [inside, outside], batch_size=1)
    assert (first.source, second.source) == (str(archive / "a.png"), str(photos / "a.png"))
    assert first.scores == second.scores == predictor(photos / "a.png").scores
    assert json.loads(first.to_json())["image"] == str(archive / "a.png")
    archive.write_bytes(b"cut")
    with pytest.raises(DataError, match=r"shard\.tar/a\.png cannot be read: The archive has become shorter"):
        list(predict_samples(predictor, [inside]))
