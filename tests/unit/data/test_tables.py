import json
from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.errors import DataError

Make = Callable[..., Path]


def targets(dataset: Dataset) -> dict[str, list[int]]:
    return {
        sample.path.relative_to(dataset.source).as_posix(): row
        for sample, row in zip(dataset.samples, dataset.targets().tolist(), strict=True)
    }


def test_read__metadata_in_each_split(make_image: Make, make_text: Make, tmp_path: Path) -> None:
    for name in ("train/1.jpg", "train/2.jpg", "validation/1.jpg"):
        make_image(f"set/{name}")
    rows = [{"file_name": "1.jpg", "labels": ["dog"]}, {"file_name": "2.jpg", "labels": ["dog", "sofa"]}]
    make_text("set/train/metadata.jsonl", "\n".join(map(json.dumps, rows)))
    make_text("set/validation/metadata.csv", "file_name,labels,note\n1.jpg,cat|cat,x\n")
    dataset = load_dataset(tmp_path / "set")
    assert dataset.format == "table"
    assert dataset.labels.names == ("cat", "dog", "sofa")
    assert targets(dataset) == {
        "train/1.jpg": [0, 1, 0],
        "train/2.jpg": [0, 1, 1],
        "validation/1.jpg": [1, 0, 0],
    }
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val"]
    assert dataset.notes == ["Columns that were not used: note."]
    assert [str(warning) for warning in dataset.warnings] == [
        f"{tmp_path}/set/validation/metadata.csv:2: label 'cat' is given twice"
    ]


def test_read__a_label_without_a_column_in_one_split_is_unknown_there(
    make_image: Make, make_text: Make, tmp_path: Path
) -> None:
    make_image("set/train/1.jpg")
    make_image("set/test/1.jpg")
    make_text("set/train/metadata.csv", "file_name,cat,dog\n1.jpg,1,0\n")
    make_text("set/test/metadata.csv", "file_name,dog\n1.jpg,1\n")
    assert targets(load_dataset(tmp_path / "set")) == {"test/1.jpg": [-1, 1], "train/1.jpg": [1, 0]}


def test_read__a_missing_image_is_named_with_its_table(make_text: Make, tmp_path: Path) -> None:
    make_text("set/train/metadata.jsonl", '{"file_name": "gone.jpg", "labels": ["dog"]}')
    with pytest.raises(DataError, match=r"train/metadata.jsonl:1: has no row that can be used; .*gone.jpg"):
        load_dataset(tmp_path / "set")
