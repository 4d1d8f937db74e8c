"""Predictions in parts: the same rows as in one go, whatever was there already."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from query2label.data.samples import Sample
from query2label.errors import DataError
from query2label.inference.choice import LabelChoice
from query2label.inference.outputs import save_predictions
from query2label.inference.parts import Choice, Manifest, PartFolder, Shard
from query2label.inference.predictor import Predictor
from query2label.inference.samples import survey_of
from query2label.inference.tagging import local_engine, tag_parts


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Twelve photos, one of them broken."""
    for number in range(12):
        Image.new("RGB", (9, 9), (20 * number, 255 - 20 * number, 128)).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "07.png").write_bytes(b"no image")
    return [Sample(tmp_path / f"{number:02d}.png") for number in range(12)]


def folder_of(path: Path, samples: list[Sample], predictor: Predictor, *, form: str = "jsonl") -> PartFolder:
    choice = LabelChoice.of(predictor.bundle)
    survey = survey_of(samples)
    manifest = Manifest(
        model="m",
        images=survey.digest,
        num_images=survey.num_images,
        part_size=5,
        form=form,
        choice=Choice.model_validate(choice.to_dict()),
        batch_size=2,
    )
    return PartFolder.begin(path, manifest)


def tag(folder: PartFolder, samples: object, predictor: Predictor, shard: Shard | None = None) -> None:
    engine = local_engine(predictor, LabelChoice.of(predictor.bundle), batch_size=2)
    tag_parts(samples, folder, engine, shard=shard)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_tag_parts__has_the_rows_of_a_single_file(
    tmp_path: Path, samples: list[Sample], predictor: Predictor, form: str
) -> None:
    folder = folder_of(tmp_path / "tags", samples, predictor, form=form)
    tag(folder, samples, predictor)
    assert predictor.runtime.batches == [2, 2, 1, 2, 1, 1, 2]  # none over the end of a part; 07 is broken
    assert folder.missing() == []
    for number in range(3):
        part = samples[5 * number : 5 * number + 5]
        save_predictions(predictor.stream(part), tmp_path / "one", predictor.labels, form=form)
        assert folder.part_path(number).read_bytes() == (tmp_path / "one").read_bytes()


def test_tag_parts__computes_only_what_is_missing(
    tmp_path: Path, samples: list[Sample], predictor: Predictor
) -> None:
    folder = folder_of(tmp_path / "tags", samples, predictor)
    tag(folder, samples, predictor)
    whole = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    folder.part_path(1).unlink()
    predictor.runtime.batches.clear()
    tag(folder, samples, predictor)
    assert predictor.runtime.batches == [2, 1, 1]
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == whole
    predictor.runtime.batches.clear()
    tag(folder, samples, predictor)
    assert predictor.runtime.batches == []


def test_tag_parts__shares_make_the_whole(
    tmp_path: Path, samples: list[Sample], predictor: Predictor
) -> None:
    tag(folder_of(tmp_path / "one", samples, predictor), samples, predictor)
    for index in (2, 1):
        tag(folder_of(tmp_path / "two", samples, predictor), samples, predictor, Shard(index, 2))
        (tmp_path / "alone").mkdir(exist_ok=True)
        alone = folder_of(tmp_path / "alone" / str(index), samples, predictor)
        tag(alone, samples, predictor, Shard(index, 2))
    names = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()} == names
    parts = [path.name for path in (tmp_path / "alone").rglob("part-*")]
    assert sorted(parts) == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]


def test_tag_parts__notices_images_that_came_or_went(
    tmp_path: Path, samples: list[Sample], predictor: Predictor
) -> None:
    folder = folder_of(tmp_path / "tags", samples, predictor)
    with pytest.raises(
        DataError, match=r"Images came or went while .*tags was written, so that its rows may"
    ):
        tag(folder, samples[1:], predictor)


def test_tag_parts__leaves_no_part_of_a_part(
    tmp_path: Path, samples: list[Sample], predictor: Predictor
) -> None:
    def interrupted() -> Iterator[Sample]:
        yield from samples[:10]
        raise KeyboardInterrupt

    folder = folder_of(tmp_path / "tags", samples, predictor)
    with pytest.raises(KeyboardInterrupt):
        tag(folder, interrupted(), predictor)
    names = {path.name for path in folder.path.iterdir()}
    assert names <= {"manifest.json", "part-00000.jsonl", "part-00001.jsonl"}
    tag(folder, samples, predictor)
    assert folder.missing() == []
