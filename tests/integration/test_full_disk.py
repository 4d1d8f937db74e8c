"""A disk that is full: what was there stays, nothing half-written remains, and the message helps."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from query2label.errors import StorageError
from query2label.storage import atomic_file, atomic_folder, write_json
from query2label.training.checkpoint import POINTER, load_checkpoint, save_checkpoint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["seen before writing", "met while writing"])
def discovery(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to meet a full disk: by looking first, and because something else filled it meanwhile."""
    if request.param == "met while writing":
        monkeypatch.setattr("query2label.storage.require_room", lambda *_: None)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(last_dir: Path, step: int) -> None:
    tensors = {"weight": torch.full((6_000_000,), float(step))}
    save_checkpoint(last_dir, step=step, tensors=tensors, state={"step": step})


@pytest.mark.usefixtures("discovery")
def test_save_checkpoint__full_disk_keeps_the_previous_and_leaves_nothing(small_disk: Path) -> None:
    last_dir = small_disk / "run" / "last"
    save(last_dir, 1)
    save(last_dir, 2)
    with pytest.raises(StorageError) as caught:
        save(last_dir, 3)
    found = re.fullmatch(
        r"No room to write (\S+): (\d+\.\d) MB are needed, (\d+\.\d) MB are free; free some space and start "
        r"again \(what was there before is untouched\)\.",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    assert found[1] == str(last_dir / "step-00000003")
    assert float(found[2]) == pytest.approx(24.0, abs=0.1)
    assert float(found[3]) == pytest.approx(60 * 1.048576 - 48.0, abs=0.5)
    assert names_in(last_dir) == [POINTER, "step-00000001", "step-00000002"]
    checkpoint = load_checkpoint(last_dir)
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert bool((checkpoint.tensors["weight"] == 2).all())


@pytest.mark.usefixtures("discovery")
def test_atomic_file__full_disk_keeps_the_old_content(small_disk: Path) -> None:
    path = small_disk / "report.json"
    path.write_text("old")
    with pytest.raises(StorageError, match=r"No room to write .*report\.json: 7\d\.\d MB are needed, 6"):
        write_json(path, "x" * 70_000_000)
    with (
        pytest.raises(StorageError, match=r"No room to write .*report\.json: 6\d\.\d MB are free; free some"),
        atomic_file(path, mode="wb") as file,
    ):
        file.write(bytes(70_000_000))
    assert names_in(small_disk) == ["report.json"]
    assert path.read_text() == "old"


def test_atomic_folder__full_disk_met_while_writing_keeps_the_old_folder(small_disk: Path) -> None:
    path = small_disk / "best"
    with atomic_folder(path) as folder:
        (folder / "config.json").write_text("old")
    with (
        pytest.raises(StorageError, match=r"No room to write .*best: 6\d\.\d MB are free"),
        atomic_folder(path) as folder,
    ):
        (folder / "model.safetensors").write_bytes(bytes(70_000_000))
    assert names_in(small_disk) == ["best"]
    assert (path / "config.json").read_text() == "old"
