"""Photos in archives give the very run, the very scores, that the same photos give as files."""

import io
import json
import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integration.conftest import TINY_MODEL
from typer.testing import CliRunner

from query2label.bundle import read_weights
from query2label.cli.app import app
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Sample
from query2label.training import loop
from query2label.training.checkpoint import load_checkpoint
from query2label.training.run import RunResult, resume, train
from query2label.training.signals import RunInterruptedError

SMALL = (*TINY_MODEL, "data.augment.crop_min_area=0.5", "train.batch_size=16", "train.epochs=2")
CACHED = ("model.freeze=all", "train.cache_features=true", "train.cache_views=2")


def parts(dataset: Dataset) -> Iterator[tuple[str, list[Sample]]]:
    for split in dataset.splits():
        yield split, list(dataset.select(split).samples)


def write_shards(dataset: Dataset, folder: Path) -> None:
    for split, samples in parts(dataset):
        for first in range(0, len(samples), 16):
            with tarfile.open(folder / f"{split}-{first // 16:06}.tar", "w") as archive:
                for sample in samples[first : first + 16]:
                    labels = {"labels": [dataset.labels[index] for index in sample.positive]}
                    members = {".png": sample.path.read_bytes(), ".json": json.dumps(labels).encode()}
                    for suffix, content in members.items():
                        info = tarfile.TarInfo(sample.path.stem + suffix)
                        info.size = len(content)
                        archive.addfile(info, io.BytesIO(content))
    (folder / "classes.txt").write_text("\n".join(dataset.labels) + "\n")


def as_table(dataset: Dataset, samples: list[Sample]) -> Any:
    arrow = pytest.importorskip("pyarrow")
    kind = {"feature": {"names": list(dataset.labels), "_type": "ClassLabel"}, "_type": "List"}
    features = {"image": {"_type": "Image"}, "labels": kind}
    images = [{"bytes": sample.path.read_bytes(), "path": sample.path.name} for sample in samples]
    columns = {"image": images, "labels": [list(sample.positive) for sample in samples]}
    return arrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def write_parquet(dataset: Dataset, folder: Path, *, compression: str = "none") -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "data").mkdir()
    for split, samples in parts(dataset):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        content = as_table(dataset, samples)
        parquet.write_table(content, path, compression=compression, row_group_size=16, use_dictionary=False)


def write_compressed_parquet(dataset: Dataset, folder: Path) -> None:
    write_parquet(dataset, folder, compression="snappy")


def write_saved(dataset: Dataset, folder: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    for split, samples in parts(dataset):
        (folder / split).mkdir()
        content = as_table(dataset, samples)
        with (
            arrow.OSFile(str(folder / split / "data-00000-of-00001.arrow"), "wb") as file,
            arrow.ipc.new_stream(file, content.schema) as stream,
        ):
            stream.write_table(content, max_chunksize=10)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / split / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(dataset.splits())}))


Write = Callable[[Dataset, Path], None]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("webdataset", write_shards), id="webdataset"),
        pytest.param(("huggingface", write_parquet), id="parquet"),
        pytest.param(("huggingface", write_compressed_parquet), id="compressed-parquet"),
        pytest.param(("huggingface", write_saved), id="saved-to-disk"),
    ],
)
def packed(request: pytest.FixtureRequest, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set `shapes` in archives."""
    format_name, write = request.param
    folder: Path = tmp_path_factory.mktemp("packed")
    write(load_dataset(shapes), folder)
    assert load_dataset(folder).format == format_name
    return folder


def run(data: Path, out: Path, *more: str) -> RunResult:
    return train(data=data, out=out, overrides=(*SMALL, *more), device="cpu", quiet=True)


def assert_same(one: Path, other: Path) -> None:
    first, second = (load_checkpoint(path / "last").tensors for path in (one, other))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    best, other_best = (read_weights(path / "best") for path in (one, other))
    assert [name for name in best if not torch.equal(best[name], other_best[name])] == []
    reports = [json.loads((path / "evaluation" / "report.json").read_text()) for path in (one, other)]
    assert reports[0] == reports[1]


@pytest.fixture(scope="module")
def plain(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on files."""
    return run(shapes, tmp_path_factory.mktemp("plain") / "run", "data.num_workers=0").run_dir


@pytest.fixture(scope="module")
def plain_cached(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on the features of files."""
    folder = tmp_path_factory.mktemp("cached")
    cache = f"train.cache_dir={folder / 'cache'}"
    return run(shapes, folder / "run", *CACHED, cache, "data.num_workers=0").run_dir


@pytest.mark.parametrize("num_workers", [0, 2])
def test_train__is_the_run_on_files(packed: Path, plain: Path, tmp_path: Path, num_workers: int) -> None:
    before = sorted(packed.rglob("*"))
    found = run(packed, tmp_path / "run", f"data.num_workers={num_workers}")
    assert_same(found.run_dir, plain)
    assert sorted(packed.rglob("*")) == before  # nothing is written beside the data


def test_train__with_cached_features_is_the_run_on_files(
    packed: Path, plain_cached: Path, tmp_path: Path
) -> None:
    cache = f"train.cache_dir={tmp_path / 'cache'}"
    found = run(packed, tmp_path / "run", *CACHED, cache, "data.num_workers=2")
    assert_same(found.run_dir, plain_cached)
    entries = sorted((tmp_path / "cache").rglob("*"))
    run(packed, tmp_path / "again", *CACHED, cache, "data.num_workers=0")
    assert sorted((tmp_path / "cache").rglob("*")) == entries


def test_resume__is_the_run_on_files(
    packed: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [4]
    take_step = loop.take_step

    def stopped(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            kwargs["stop_signal"] = signal.SIGTERM
        return take_step(*args, **kwargs)

    monkeypatch.setattr(loop, "take_step", stopped)
    with pytest.raises(RunInterruptedError, match="after step 4 of 6"):
        run(packed, tmp_path / "run", "data.num_workers=2")
    monkeypatch.undo()
    resume(tmp_path / "run", overrides=["data.num_workers=0"], quiet=True)
    assert_same(tmp_path / "run", plain)


def test_commands__on_archives(packed: Path, shapes: Path, plain: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(packed)])
    assert result.exit_code == 0, result.output
    assert "no errors" in result.output
    reports = []
    for number, data in enumerate((shapes, packed)):
        out = tmp_path / f"evaluation-{number}"
        command = ["evaluate", "--model", str(plain / "best"), "--data", str(data), "--split", "val"]
        result = CliRunner().invoke(app, [*command, "--out", str(out), "--device", "cpu"])
        assert result.exit_code == 0, result.output
        reports.append(json.loads((out / "report.json").read_text()))
    assert all(" (" in report.pop("protocol") for report in reports)  # names the data and their layout
    assert reports[0] == reports[1]


def test_split__of_archives_is_a_table_to_train_on(packed: Path, tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    command = ["data", "split", str(packed), "--out", str(table), "--fractions", "train=0.7,val=0.3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    root = load_dataset(packed).samples[0].file.parent if packed.joinpath("data").is_dir() else packed
    dataset = load_dataset(table, image_root=root)
    assert dataset.format == "table"
    whole = {sample.path: sample.content for sample in load_dataset(packed).samples}
    assert {sample.path: sample.content for sample in dataset.samples} == whole
    found = run(table, tmp_path / "run", f"data.image_root={root}", "data.num_workers=0", "train.epochs=1")
    assert found.report.num_images == len(dataset.select("val"))
