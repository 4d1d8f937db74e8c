"""Writing and reading the files of a bundle; nothing in them is ever executed or followed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import ValidationError

from query2label.bundle import card as cards
from query2label.bundle import form
from query2label.bundle.schema import Bundle
from query2label.errors import BundleError
from query2label.storage import TEMPORARY_PREFIX, atomic_file, atomic_folder, sha256_of, write_json

if TYPE_CHECKING:
    import torch

CONFIG_NAME: Final = "config.json"
WEIGHTS_NAME: Final = "model.safetensors"
CARD_NAME: Final = "README.md"
PICTURE_NAME: Final = "examples.jpg"
_NAMES: Final = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, PICTURE_NAME, ".DS_Store")
_STATISTICS: Final = ("running_mean", "running_var")
"""Ends of the names of what batch norms have measured: a few numbers, of very different sizes."""


def save_bundle(
    bundle: Bundle,
    tensors: Mapping[str, np.ndarray | torch.Tensor],
    path: str | Path,
    *,
    card: str | None = None,
    picture: bytes | None = None,
    half_precision: bool = False,
) -> None:
    """Writes a bundle folder as a whole or not at all; a bundle that stood at `path` is replaced.

    A refused write and a full disk are each a `StorageError`, and leave the previous bundle in place; a
    weight that is not finite, and a `bundle` that holds what JSON cannot, are each a `BundleError`.
    So is anything but a bundle at `path`, which would be lost: it stays as it is.

    Args:
        bundle: What the model is.
        tensors: Its weights by name.
        path: The folder to write.
        card: Text of the model card; unset: generated from `bundle`.
        picture: A JPEG file for the card, of images that everybody may see who gets the bundle.
        half_precision: Store float32 weights as float16, in half the room; running statistics of norms stay
            as they are. A weight that float16 cannot hold is a `BundleError` as well.
    """
    _refuse_to_replace(Path(path))
    document = form.to_document(bundle)
    weights = _serialize(tensors, half_precision=half_precision)
    with atomic_folder(Path(path), needed_bytes=len(weights)) as folder:
        write_json(folder / CONFIG_NAME, document)
        (folder / WEIGHTS_NAME).write_bytes(weights)
        if picture is not None:
            (folder / PICTURE_NAME).write_bytes(picture)
        text = card or cards.model_card(bundle, picture=None if picture is None else PICTURE_NAME)
        (folder / CARD_NAME).write_text(text, encoding="utf-8")


def _refuse_to_replace(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise BundleError(f"{path} is a file: name a folder for the bundle.")
    others = sorted(file.name for file in path.iterdir() if not _may_go(file)) if path.is_dir() else []
    if others:
        raise BundleError(f"{path} holds more than a bundle ({others[0]}): name a new folder for the bundle.")


def _may_go(file: Path) -> bool:
    ours = file.name in {CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, PICTURE_NAME} or file.name.startswith(
        TEMPORARY_PREFIX
    )
    return (ours or file.name == ".DS_Store") and not file.is_dir()


def read_bundle(path: str | Path) -> Bundle:
    """What `config.json` of a bundle folder says, fully checked.

    A missing or unreadable file, a wrong key or value, and a form newer than this version of query2label are
    each a `BundleError` of one sentence.
    """
    file = _file_of(Path(path), CONFIG_NAME)
    return form.from_document(form.parse_json(file), where=file)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a bundle folder by name, on the CPU; what is stored as float16 comes as float32.

    Raises:
        BundleError: If the file is missing, cut off, or not in the safetensors form.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _file_of(Path(path), WEIGHTS_NAME)
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BundleError(f"{file} is not a whole safetensors file: {reason}.") from None
    return {name: _widened(tensor) for name, tensor in weights.items()}


def edit_bundle(path: str | Path, **changes: Any) -> Bundle:
    """Changes fields of a bundle on disk, for example `thresholds`; the weights stay as they are.

    `config.json` is replaced atomically, then the generated part of the model card.

    Args:
        path: The bundle folder.
        **changes: New values of `Bundle` fields.

    Returns:
        The bundle as it is now.

    Raises:
        BundleError: If a field is unknown or its value does not fit.
    """
    folder = Path(path)
    try:
        bundle = Bundle.model_validate({**dict(read_bundle(folder)), **changes})
    except ValidationError as error:
        raise BundleError(form.explain(error, folder / CONFIG_NAME)) from None
    write_json(folder / CONFIG_NAME, form.to_document(bundle))
    if (folder / CARD_NAME).exists():
        text = _file_of(folder, CARD_NAME).read_text(encoding="utf-8", errors="replace")
        with atomic_file(folder / CARD_NAME) as file:
            picture = PICTURE_NAME if (folder / PICTURE_NAME).is_file() else None
            file.write(cards.renewed_card(text, bundle, picture=picture))
    return bundle


def bundle_digest(path: str | Path) -> str:
    """SHA-256 (hexadecimal) over `config.json` and `model.safetensors`; binds an export to its bundle."""
    digests = (sha256_of(_file_of(Path(path), name)) for name in (CONFIG_NAME, WEIGHTS_NAME))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _file_of(folder: Path, name: str) -> Path:
    """A regular file of the bundle that lies in it.

    Raises:
        BundleError: If it is missing, or a link that leads out of the bundle.
    """
    file = folder / name
    if folder.is_file():
        raise BundleError(
            f"{folder} is a file, and this needs a bundle: give the folder with its {CONFIG_NAME} "
            "(an exported file was made from one)."
        )
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}: give the folder with its {CONFIG_NAME}.")
    if not file.is_file():
        inner = folder / "best"
        hint = f"its bundle is {inner}: give that" if (inner / name).is_file() else "it is not a bundle"
        raise BundleError(f"{folder} has no {name}: {hint}.")
    if not _stays_inside(file):
        raise BundleError(
            f"{file} is a link that leads out of the bundle: it is refused, copy the file instead."
        )
    return file


def _stays_inside(file: Path) -> bool:
    # The hub's cache is links by design: snapshots/<commit>/<file> -> blobs/<digest>.
    homes = [file.parent.resolve()]
    if homes[0].parent.name == "snapshots":
        homes.append(homes[0].parent.parent / "blobs")
    return any(file.resolve().is_relative_to(home) for home in homes)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _halved(name: str, tensor: torch.Tensor) -> torch.Tensor:
    import torch

    is_statistic = name.endswith(_STATISTICS)
    return tensor.half() if tensor.dtype == torch.float32 and not is_statistic else tensor


def _serialize(tensors: Mapping[str, np.ndarray | torch.Tensor], *, half_precision: bool) -> bytes:
    import torch
    from safetensors.torch import save

    weights = {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}
    if half_precision:
        weights = {name: _halved(name, tensor) for name, tensor in weights.items()}
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"Weight {name} has values that are not finite: the bundle is not written.")
    return save(weights, metadata={"format": "pt"})
