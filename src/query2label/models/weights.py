"""Weights files, and putting weights into a module with nothing missing and nothing left over."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # the error alone: nothing is ever unpickled here
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import safe_globals

from query2label.errors import BundleError, ConfigError

_SHOWN_NAMES = 4
_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}
_UNPICKLING_FAILURES = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, TypeError),
    *(ValueError, struct.error),
)
"""What PyTorch's restricted unpickler raises where a file is damaged, besides its own error."""


class _IgnoredType:
    """Stands in for `numpy.dtype`: whatever a file says about it is dropped."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _ignored_scalar(*_: object) -> None:
    """Stands in for the function that makes NumPy's scalars."""


_NUMPY_SCALARS: list[Any] = [
    (_IgnoredType, "numpy.dtype"),
    (_ignored_scalar, "numpy.core.multiarray.scalar"),  # as NumPy 1 writes it
    (_ignored_scalar, "numpy._core.multiarray.scalar"),  # as NumPy 2 does
]
"""All that a file may name beyond what PyTorch allows by itself; not even NumPy's own code runs for it."""


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch file that holds nothing but tensors.

    A PyTorch file may keep them under `state_dict` or `model`. Nothing in it is executed.

    Raises:
        ConfigError: If there is no such file.

    A file that cannot be read, and one that holds anything but tensors, are each a `BundleError`.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no weights file {path}: model.weights is `pretrained`, `none`, or the path of a file."
        )
    content = read_checkpoint(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return named_tensors(content, path)


def named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    """A state dict out of `path`, if it is one.

    Raises:
        BundleError: If it is anything but tensors with values by name.
    """
    if not isinstance(content, Mapping) or not all(map(_has_values, content.values())):
        raise BundleError(f"The weights file {path} does not hold named tensors: give a state dict.")
    return {str(name): tensor.detach() for name, tensor in content.items()}


def _has_values(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_nested
        and value.dtype in _DTYPES
    )


def read_checkpoint(path: Path) -> object:
    """What a `.safetensors` or PyTorch file holds, on the CPU; nothing in it is ever executed.

    Besides tensors, a PyTorch file may hold plain Python values and NumPy's scalars; the latter become None.
    Tensors of a file in PyTorch's zip form stay in the file until they are used.

    Raises:
        BundleError: If it cannot be read, or holds anything else.
    """
    try:
        return load_file(path) if path.suffix == ".safetensors" else _load_pickle_safely(path)
    except (OSError, MemoryError, SafetensorError) as error:
        raise BundleError(f"The weights file {path} cannot be read: {_first_line(error)}.") from None
    except (zipfile.BadZipFile, *_UNPICKLING_FAILURES):
        # The words of the unpickler (`101`, `EOFError`) say nothing to people.
        raise BundleError(
            f"The weights file {path} cannot be read: it is cut off, or no file of PyTorch or safetensors."
        ) from None


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Copies `weights` into `module`; weights that do not fit are a `BundleError`, as in `check_fit`.

    Args:
        module: What is filled.
        weights: Tensors by the module's names.
        source: Where they came from, as the start of an error message.
    """
    check_fit(module, weights, source=source)
    module.load_state_dict(weights)


def check_fit(module: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Refuses weights unless every parameter and buffer of `module` has one of its shape, and none is left.

    Args:
        module: What they are for.
        weights: Tensors by the module's names.
        source: Where they came from, as the start of an error message.

    Raises:
        BundleError: If a name is missing, left over, or has another shape.
    """
    wanted = module.state_dict()
    misfits = [
        f"{title}: {_some(names)}"
        for title, names in (
            ("missing", [name for name in wanted if name not in weights]),
            ("left over", [name for name in weights if name not in wanted]),
            ("of another shape", _differently_shaped(wanted, weights)),
        )
        if names
    ]
    if misfits:
        raise BundleError(f"{source} does not fit the model; {'; '.join(misfits)}.")


def _load_pickle_safely(path: Path) -> object:
    """The content of a PyTorch file.

    Raises:
        BundleError: If it asks for more than tensors, plain values and NumPy's scalars.
    """
    in_zip_form = zipfile.is_zipfile(path)
    if in_zip_form:
        _check_entries(path)
    try:
        # What is odd about the file, the error says.
        with warnings.catch_warnings(action="ignore"), safe_globals(_NUMPY_SCALARS):
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=in_zip_form)
    except UnpicklingError:
        raise BundleError(
            f"The weights file {path} holds Python objects or is damaged: such a file could run code and is "
            "not opened; save it again with tensors only, best as safetensors."
        ) from None


def _check_entries(path: Path) -> None:
    """Refuses archives that unpack to more than they are: PyTorch never compresses.

    Raises:
        BundleError: If this is such an archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > path.stat().st_size or any(
        entry.compress_type != zipfile.ZIP_STORED for entry in entries
    ):
        raise BundleError(
            f"The weights file {path} unpacks to more than it is, as no file of PyTorch does: it is refused."
        )


def _differently_shaped(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES} more"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")
