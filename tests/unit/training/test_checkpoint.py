"""Checkpoints: what is saved comes back, and nothing damaged ever does."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from query2label.errors import StorageError, TrainingError
from query2label.training.checkpoint import POINTER, load_checkpoint, save_checkpoint

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(last_dir: Path, step: int) -> Path:
    tensors = {"head.weight": torch.full((5, 7), float(step)), "moment.step": torch.tensor(step)}
    return save_checkpoint(last_dir, step=step, tensors=tensors, state={"epoch": step, "best": 0.5})


def loaded_step(last_dir: Path) -> int:
    """Step of what is loaded, after checking that all of it belongs to that step."""
    checkpoint = load_checkpoint(last_dir)
    assert checkpoint is not None
    assert checkpoint.state == {"epoch": checkpoint.step, "best": 0.5}
    assert torch.equal(checkpoint.tensors["head.weight"], torch.full((5, 7), float(checkpoint.step)))
    assert checkpoint.tensors["moment.step"].item() == checkpoint.step
    return checkpoint.step


@pytest.fixture
def last_dir(tmp_path: Path) -> Path:
    """A `last` folder with two generations, 1 and 2."""
    save(tmp_path / "last", 1)
    save(tmp_path / "last", 2)
    return tmp_path / "last"


def test_save_checkpoint__brings_back_every_kind_of_tensor_bit_by_bit(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    tensors = {
        "whole": whole,
        "shared": whole,
        "view": whole[1:3],
        "transposed": whole.t(),
        "expanded": torch.ones(1).expand(3),
        "zero_dim": torch.tensor(2.5),
        "int64": torch.tensor(2**40 + 1),
        "bfloat16": torch.randn(3).bfloat16(),
        "float64": torch.randn(3, dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "empty_too": torch.zeros(0),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    wanted = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    state = {"epoch": 3, "text": "größe\n", "none": None, "nested": {"list": [1, 2.5, True]}}
    path = save_checkpoint(tmp_path / "last", step=7, tensors=tensors, state=state)
    whole.zero_()  # what is loaded must come from the disk
    checkpoint = load_checkpoint(tmp_path / "last")
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.state, checkpoint.path, checkpoint.damaged) == (7, state, path, ())
    assert checkpoint.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype, name
        assert torch.equal(checkpoint.tensors[name], tensor), name


def test_save_checkpoint__keeps_two_generations_and_nothing_else(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    assert names_in(tmp_path) == [POINTER, "step-00000003", "step-00000004"]
    assert names_in(tmp_path / "step-00000004") == sorted(FILES)


def test_save_checkpoint__pointer_is_read_by_sha256sum(last_dir: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", POINTER], cwd=last_dir, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"step-00000002/manifest.json: OK" in done.stdout


def test_save_checkpoint__replaces_the_same_step(last_dir: Path) -> None:
    save_checkpoint(last_dir, step=2, tensors={"new": torch.ones(1)}, state={})
    checkpoint = load_checkpoint(last_dir)
    assert checkpoint is not None
    assert list(checkpoint.tensors) == ["new"]
    assert names_in(last_dir) == [POINTER, "step-00000001", "step-00000002"]


def test_save_checkpoint__removes_stale_temporaries(last_dir: Path) -> None:
    (last_dir / ".tmp-01234567-step-00000009").mkdir()
    (last_dir / ".tmp-01234567-step-00000009" / FILES[0]).write_bytes(b"half")
    (last_dir / f".tmp-89abcdef-{POINTER}").write_text("half")
    save(last_dir, 3)
    assert names_in(last_dir) == [POINTER, "step-00000002", "step-00000003"]


def test_save_checkpoint__keeps_the_last_whole_generation_not_a_damaged_one(last_dir: Path) -> None:
    os.truncate(last_dir / "step-00000002" / FILES[0], 10)
    assert loaded_step(last_dir) == 1
    save(last_dir, 3)
    assert names_in(last_dir) == [POINTER, "step-00000001", "step-00000003"]


def test_save_checkpoint__removes_later_steps_that_the_run_went_back_from(last_dir: Path) -> None:
    save(last_dir, 9)
    os.truncate(last_dir / "step-00000009" / FILES[0], 10)
    assert loaded_step(last_dir) == 2
    save(last_dir, 3)
    assert names_in(last_dir) == [POINTER, "step-00000002", "step-00000003"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_save_checkpoint__refuses_tensors_that_are_not_finite(
    last_dir: Path, value: float, dtype: torch.dtype
) -> None:
    tensors = {"good": torch.ones(3), "ema.head.bias": torch.tensor([0.0, value], dtype=dtype)}
    with pytest.raises(TrainingError, match=r"^Tensor ema.head.bias holds NaN or infinity: no checkp"):
        save_checkpoint(last_dir, step=3, tensors=tensors, state={})
    assert loaded_step(last_dir) == 2
    assert names_in(last_dir) == [POINTER, "step-00000001", "step-00000002"]


def test_save_checkpoint__refuses_numbers_that_are_not_finite(last_dir: Path) -> None:
    with pytest.raises(TrainingError, match=r"^The state of the run holds a number that is not finite: no"):
        save_checkpoint(last_dir, step=3, tensors={}, state={"nested": [{"loss": float("nan")}]})
    assert loaded_step(last_dir) == 2


def test_save_checkpoint__failed_write_leaves_what_was_there(
    last_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("query2label.training.checkpoint.save_file", refuse)
    with pytest.raises(StorageError, match=r"^Cannot write .*last/step-00000003: Permission denied\.$"):
        save(last_dir, 3)
    assert names_in(last_dir) == [POINTER, "step-00000001", "step-00000002"]


def test_load_checkpoint__is_none_where_nothing_was_saved(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "missing") is None
    assert load_checkpoint(tmp_path) is None
    (tmp_path / ".tmp-01234567-step-00000009").mkdir()
    assert load_checkpoint(tmp_path) is None


def places(path: Path) -> list[int]:
    """Lengths to cut a file to: nothing, inside and at the end of a header, the middle, one byte short."""
    size = path.stat().st_size
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little") if path.suffix == ".safetensors" else 8
    return sorted({0, 1, 7, 8, 9, header - 1, header, header + 1, size // 2, size - 1})


@pytest.mark.parametrize("name", FILES)
def test_load_checkpoint__finds_truncation_and_goes_back_one(last_dir: Path, name: str) -> None:
    path = last_dir / "step-00000002" / name
    content = path.read_bytes()
    for length in places(path):
        path.write_bytes(content[:length])
        checkpoint = load_checkpoint(last_dir)
        assert checkpoint is not None
        assert checkpoint.step == loaded_step(last_dir) == 1
        assert any(clause.startswith(f"step-00000002: {name} ") for clause in checkpoint.damaged), length
    path.unlink()
    checkpoint = load_checkpoint(last_dir)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert f"step-00000002: {name} cannot be read (No such file or directory)" in checkpoint.damaged


def test_load_checkpoint__finds_every_flipped_bit(last_dir: Path) -> None:
    chosen = random.Random(0)
    for _ in range(100):
        path = last_dir / "step-00000002" / chosen.choice(FILES)
        content = path.read_bytes()
        bit = chosen.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        checkpoint = load_checkpoint(last_dir)
        assert checkpoint is not None
        assert checkpoint.step == 1, (path, bit)
        assert any(clause.startswith("step-00000002: ") for clause in checkpoint.damaged)
        path.write_bytes(content)
    assert loaded_step(last_dir) == 2


def test_load_checkpoint__finds_a_damaged_pointer_and_loads_the_newest(last_dir: Path) -> None:
    pointer = last_dir / POINTER
    content = pointer.read_bytes()
    flips = [
        content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]
        for bit in range(0, 8 * len(content), 5)
    ]
    for damaged in [*flips, *(content[:length] for length in range(len(content)))]:
        pointer.write_bytes(damaged)
        checkpoint = load_checkpoint(last_dir)
        assert checkpoint is not None
        assert checkpoint.step == 2
        assert checkpoint.damaged == ("LATEST: it does not name a generation and its SHA-256",)
    pointer.unlink()
    assert loaded_step(last_dir) == 2


def test_load_checkpoint__prefers_what_the_pointer_names(last_dir: Path) -> None:
    # Killed after a save pointed to step 2 and before it removed the step that the run went back from.
    Path(last_dir / "step-00000001").rename(last_dir / "step-00000009")
    assert loaded_step(last_dir) == 2


def test_load_checkpoint__finds_what_was_being_replaced(last_dir: Path) -> None:
    # Killed between the two renames that replace a generation of the same step.
    Path(last_dir / "step-00000002").rename(last_dir / "step-00000002.previous")
    assert loaded_step(last_dir) == 2
    save(last_dir, 3)
    assert loaded_step(last_dir) == 3
    os.truncate(last_dir / "step-00000003" / FILES[0], 10)
    assert loaded_step(last_dir) == 2


def test_load_checkpoint__says_why_each_is_damaged_where_none_is_whole(last_dir: Path) -> None:
    os.truncate(last_dir / "step-00000001" / "state.json", 3)
    (last_dir / "step-00000002" / "tensors.safetensors").unlink()
    wanted = (
        r"^No checkpoint in .*last can be used \(step-00000002: tensors.safetensors cannot be read \(No such"
        r" file or directory\); step-00000001: state.json has 3 bytes, which is not what manifest.json "
        r"says\): put back a copy of that folder, or start the run anew in another one\.$"
    )
    with pytest.raises(TrainingError, match=wanted):
        load_checkpoint(last_dir)


def test_load_checkpoint__a_pointer_to_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / POINTER).write_text("0" * 64 + "  step-00000001/manifest.json\n")
    with pytest.raises(TrainingError, match=r"can be used \(LATEST: it does not name a generation"):
        load_checkpoint(tmp_path)


def test_load_checkpoint__changes_nothing_on_disk(last_dir: Path) -> None:
    def listing() -> dict[str, Any]:
        return {str(path): path.stat().st_mtime_ns for path in sorted(last_dir.rglob("*"))}

    (last_dir / ".tmp-01234567-step-00000009").mkdir()
    os.truncate(last_dir / "step-00000002" / FILES[0], 10)
    before = listing()
    load_checkpoint(last_dir)
    assert listing() == before


def test_manifest__names_sizes_and_digests(last_dir: Path) -> None:
    generation = last_dir / "step-00000002"
    manifest = json.loads((generation / "manifest.json").read_text())
    assert manifest["step"] == 2
    assert manifest["files"]["state.json"]["bytes"] == (generation / "state.json").stat().st_size
    assert len(manifest["files"]["tensors.safetensors"]["sha256"]) == 64
