"""Checkpoints that survive kills, full disks and bit rot.

`last/` of a run folder holds two generations and a pointer to the newer one:

    last/LATEST                             SHA-256 of its manifest and its name, as `sha256sum` writes them
    last/step-00000123/tensors.safetensors  weights, moments, averages
    last/step-00000123/state.json           everything else
    last/step-00000123/manifest.json        size and SHA-256 of the two files above

A generation is written under a temporary name, flushed, renamed, and only then pointed to. Its manifest
follows from its name and files, and is computed anew on reading: any truncated file or flipped bit, in the
manifest too, is found, and the generation before is loaded. There is no pickle in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from query2label.errors import TrainingError
from query2label.storage import (
    PREVIOUS_SUFFIX,
    atomic_file,
    atomic_folder,
    remove_folder,
    remove_temporaries,
    sha256_of,
)

POINTER = "LATEST"
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_GENERATION = re.compile(rf"step-(\d{{8,}})(?:{re.escape(PREVIOUS_SUFFIX)})?")
_POINTER_LINE = re.compile(rf"([0-9a-f]{{64}})  (step-\d{{8,}})/{re.escape(_MANIFEST)}\n")


@dataclass(frozen=True)
class Checkpoint:
    """What `save_checkpoint` was given, read back."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, Tensor]
    """On the CPU."""
    state: dict[str, Any]
    """JSON values."""
    path: Path
    """The generation it was read from."""
    damaged: tuple[str, ...] = ()
    """What was found damaged on the way, a clause each: `<name>: <reason>`."""


def save_checkpoint(
    last_dir: Path, *, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Writes a new generation, points to it, and removes all but the newest whole one before it.

    Generations of a later step (a damaged one that the run had to go back from) are removed as well.
    Only one process may write to `last_dir`.

    Args:
        last_dir: The run's `last` folder; made where it is missing.
        step: Optimizer steps done.
        tensors: Any dtype and device; they may be views and share storage (each is saved whole).
        state: JSON values.

    Returns:
        The folder of the new generation.

    A tensor or number that is not finite is a `TrainingError` and nothing is written; a refused write and a
    full disk are each a `StorageError`, and what was saved before stays as it was.
    """
    saved = {name: _checked(name, tensor) for name, tensor in tensors.items()}
    _separate(saved)
    state_text = _state_text(state)
    size = sum(tensor.nbytes + len(name) + 128 for name, tensor in saved.items()) + len(state_text) + 4096
    remove_temporaries(last_dir)
    generation = last_dir / f"step-{step:08d}"
    with atomic_folder(generation, needed_bytes=size) as folder:
        save_file(saved, folder / _TENSORS)
        (folder / _STATE).write_text(state_text, encoding="utf-8")
        (folder / _MANIFEST).write_text(_manifest(folder, step), encoding="utf-8")
    with atomic_file(last_dir / POINTER) as file:
        file.write(f"{sha256_of(generation / _MANIFEST)}  {generation.name}/{_MANIFEST}\n")
    others = [other for other in _generations(last_dir) if other != generation]
    before = (other for other in others if _step(other) < step and _damage(other) is None)
    kept = next(before, None)
    for other in others:
        if other != kept:
            remove_folder(other)
    return generation


def load_checkpoint(last_dir: Path) -> Checkpoint | None:
    """The newest generation that is whole, or None where nothing has been saved.

    Nothing is changed on disk, so that several processes may load at once.

    Args:
        last_dir: The run's `last` folder; it may be missing.

    Raises:
        TrainingError: If there are generations but all are damaged; the message says why for each.
    """
    generations = _generations(last_dir)
    pointer = last_dir / POINTER
    if not generations and not pointer.exists():
        return None
    newest = _pointed(pointer)
    damaged = [] if newest else [f"{POINTER}: it does not name a generation and its SHA-256"]
    for folder in sorted(generations, key=lambda folder: folder != newest):
        reason = _damage(folder)
        if reason is None:
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            tensors = load_file(folder / _TENSORS)
            return Checkpoint(_step(folder), tensors, state, folder, tuple(damaged))
        damaged.append(f"{folder.name}: {reason}")
    raise TrainingError(
        f"No checkpoint in {last_dir} can be used ({'; '.join(damaged)}): put back a copy of that folder, "
        "or start the run anew in another one."
    )


def _checked(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise TrainingError(
            f"Tensor {name} holds NaN or infinity: no checkpoint was written, the one before is untouched."
        )
    return tensor.detach().cpu().contiguous()


def _separate(tensors: dict[str, Tensor]) -> None:
    """Copies tensors whose storage an earlier one has, which safetensors refuses."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in seen:
            tensors[name] = tensor.clone()
        seen.add(storage)


def _state_text(state: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(state), indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise TrainingError(
            "The state of the run holds a number that is not finite: no checkpoint was written, "
            "the one before is untouched."
        ) from error


def _manifest(folder: Path, step: int) -> str:
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in (_TENSORS, _STATE)
    }
    return json.dumps({"step": step, "files": files}, indent=2) + "\n"


def _generations(last_dir: Path) -> list[Path]:
    """Folders of generations by falling step; one that was being replaced comes after its successor."""
    if not last_dir.is_dir():
        return []
    found = [path for path in last_dir.iterdir() if _GENERATION.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-_step(path), path.name))


def _step(generation: Path) -> int:
    return int(generation.name.removeprefix("step-").removesuffix(PREVIOUS_SUFFIX))


def _pointed(pointer: Path) -> Path | None:
    """The generation that `LATEST` names, or None if it is not as it was written."""
    try:
        match = _POINTER_LINE.fullmatch(pointer.read_text(encoding="ascii"))
        if match is None or sha256_of(pointer.parent / match[2] / _MANIFEST) != match[1]:
            return None
    except (OSError, UnicodeDecodeError):
        return None
    return pointer.parent / match[2]


def _damage(generation: Path) -> str | None:
    """Why a generation cannot be used, or None if it is as it was written."""
    try:
        found = (generation / _MANIFEST).read_bytes()
        expected = _manifest(generation, _step(generation))
    except OSError as error:
        return f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
    if found == expected.encode():
        return None
    try:
        json.loads(found)
    except ValueError:
        return f"{_MANIFEST} is not JSON"
    for name, now in json.loads(expected)["files"].items():
        if f'"bytes": {now["bytes"]},'.encode() not in found:
            return f"{name} has {now['bytes']} bytes, which is not what {_MANIFEST} says"
        if now["sha256"].encode() not in found:
            return f"{name} does not have the SHA-256 that {_MANIFEST} says"
    return f"{_MANIFEST} is not what was written"
