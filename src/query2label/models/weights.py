"""Weights files, and putting weights into a module with nothing missing and nothing left over."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # the error alone: nothing is ever unpickled here

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from query2label.errors import BundleError, ConfigError

_SHOWN_NAMES = 4


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch file that holds nothing but tensors.

    A PyTorch file may keep them under `state_dict` or `model`. Nothing in it is executed.

    Raises:
        ConfigError: If there is no such file.
        BundleError: If it cannot be read, or holds anything but tensors.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no weights file {path}: model.weights is `pretrained`, `none`, or the path of a file."
        )
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pickle_safely(path)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BundleError(f"The weights file {path} cannot be read: {_first_line(error)}.") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BundleError(f"The weights file {path} does not hold named tensors: give a state dict.")
    return {str(name): tensor for name, tensor in content.items()}


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
    try:
        with warnings.catch_warnings(action="ignore"):  # what is odd about the file, the error says
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise BundleError(
            f"The weights file {path} holds Python objects or is damaged: such a file could run code and is "
            "not opened; save it again with tensors only, best as safetensors."
        ) from None


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
