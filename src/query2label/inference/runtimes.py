"""Which runtime computes a model: by what the model is, what was asked for, and what is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from query2label.bundle import BUILTIN_PATH, Bundle, bundle_digest, read_bundle, resolve_bundle_path
from query2label.errors import BundleError, ConfigError
from query2label.formats import RuntimeName
from query2label.inference.runtime import ExportedRuntime, Runtime
from query2label.storage import sha256_of

_RUNTIMES: Final[dict[str, RuntimeName]] = {".onnx": "onnx", ".xml": "openvino"}
"""What runs an exported file, by how its name ends: the runtime that it was verified with."""


def load_runtime(
    path_or_hub_id: str | Path | None = None,
    *,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    threads: int | None = None,
    shared: bool = False,
) -> tuple[Bundle, Runtime]:
    """What a model is, and what computes its logits; the arguments are those of `Predictor.load`.

    `shared` is that of `OnnxRuntime`.

    A missing package is a `MissingExtraError`, a model that cannot be read a `BundleError`.

    Raises:
        ConfigError: If this runtime does not run bundles.
        BundleError: If the model is a file of another form.
    """
    path_or_hub_id = BUILTIN_PATH if path_or_hub_id is None else path_or_hub_id
    path = Path(path_or_hub_id)
    if is_exported(path):
        exported = load_exported(path, runtime, device=device, threads=threads, shared=shared)
        return exported.bundle, exported
    if path.is_file():
        raise BundleError(
            f"{path} cannot be predicted with: give a bundle folder, or a file that `q2l export` wrote for "
            "onnx (.onnx) or openvino (.xml)."
        )
    if runtime not in {"auto", "torch"}:
        raise ConfigError(
            f"A bundle runs on torch, not on {runtime}: "
            f"q2l export --model {path_or_hub_id} --to {runtime} --out FILE, and give that file."
        )
    from query2label.inference.torch_runtime import TorchRuntime

    folder = resolve_bundle_path(path_or_hub_id)
    return read_bundle(folder), TorchRuntime.load(folder, device=device, threads=threads)


def is_exported(path: Path) -> bool:
    """Whether a model is an exported file, by its name; it need not be there."""
    return path.suffix.lower() in _RUNTIMES and not path.is_dir()


def read_model(path_or_hub_id: str | Path) -> Bundle:
    """What a model is, without computing anything; the argument is that of `Predictor.load`.

    A missing package is a `MissingExtraError`, a model that cannot be read a `BundleError`.
    """
    path = Path(path_or_hub_id)
    if is_exported(path):
        return load_exported(path).bundle
    return read_bundle(resolve_bundle_path(path_or_hub_id))


def model_digest(path_or_hub_id: str | Path | None = None) -> str:
    """SHA-256 of the files of a model that `load_runtime` takes, by which it is known again."""
    model = BUILTIN_PATH if path_or_hub_id is None else path_or_hub_id
    path = Path(model)
    if not path.is_file():
        return bundle_digest(resolve_bundle_path(model))
    weights = path.with_suffix(".bin")  # of OpenVINO
    return "-".join(sha256_of(file) for file in (path, weights) if file == path or weights.is_file())


def load_exported(
    path: Path,
    runtime: RuntimeName = "auto",
    *,
    device: str = "auto",
    threads: int | None = None,
    shared: bool = False,
) -> ExportedRuntime:
    """The runtime of an exported file, with its `bundle`; the arguments are those of `load_runtime`.

    Raises:
        ConfigError: If this runtime cannot run this file.
        BundleError: If there is no such file.
    """
    able = _RUNTIMES.get(path.suffix.lower())
    if able is None or runtime not in {"auto", able}:
        raise ConfigError(
            f"{path} does not run on {runtime}: .onnx files run on onnx, .xml files on openvino."
        )
    if not path.is_file():
        raise BundleError(f"There is no file {path}.")
    if able == "onnx":
        from query2label.inference.onnx_runtime import OnnxRuntime

        return OnnxRuntime(path, device=device, threads=threads, shared=shared)
    from query2label.inference.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(path, device=device, threads=threads)
