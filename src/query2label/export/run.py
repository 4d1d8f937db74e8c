"""`export_bundle`: from a bundle to a file for another runtime, compared with the bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

from query2label.bundle import Bundle, bundle_digest, resolve_bundle_path
from query2label.bundle.artefact import Artefact, to_metadata
from query2label.errors import ExportError
from query2label.export.graph import trace
from query2label.export.onnx import write_onnx
from query2label.export.openvino import write_openvino
from query2label.export.torch import write_torch
from query2label.export.verify import Verification, compare
from query2label.extras import import_extra
from query2label.formats import ExportPrecision, ExportTarget
from query2label.inference.openvino_runtime import import_openvino
from query2label.inference.runtime import Runtime
from query2label.inference.runtimes import load_exported
from query2label.models.build import load_model
from query2label.models.query2label import Query2Label
from query2label.preprocess import ImageSource

SUFFIXES: Final[dict[ExportTarget, str]] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
_PACKAGES: Final[dict[ExportTarget, tuple[str, ...]]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
"""What each needs beside torch, as the extras `onnx` and `openvino` install it."""


def export_bundle(
    model: str | Path,
    out: str | Path,
    *,
    to: ExportTarget,
    precision: ExportPrecision = "fp32",
    attention: bool = False,
    any_image_size: bool = False,
    images: Sequence[ImageSource] = (),
    threads: int | None = None,
) -> Verification:
    """Writes a bundle for another runtime, with all that its `config.json` says, and compares the two.

        export_bundle("runs/birds/best", "birds.onnx", to="onnx")
        Predictor.load("birds.onnx")("photo.jpg")

    Args:
        model: The bundle folder, or `owner/name` on the Hugging Face hub.
        out: The file: `.onnx`, `.xml` (OpenVINO; a `.bin` comes with it) or `.pt2` (torch).
        to: The runtime.
        precision: What it computes in; `fp16` for OpenVINO halves the weights and computes in float32.
        attention: Also give the attention maps.
        any_image_size: Take images of other sizes than the bundle's, where the backbone can.
        images: Photos to compare on; none: generated ones.
        threads: Of the runtime while it is compared.

    Returns:
        How well they agree.

    A bundle that cannot be read is a `BundleError`, a missing package a `MissingExtraError`.

    Raises:
        ExportError: If the file would be of no use or is there already; or if its scores differ by more than
            is tolerated: it stays then, to be looked at.
    """
    path = Path(out)
    _check(path, to, precision)
    bundle_path = resolve_bundle_path(model)
    original = load_model(bundle_path)
    artefact = Artefact(
        bundle_digest=bundle_digest(bundle_path),
        precision=precision,
        any_image_size=any_image_size,
        attention=attention,
        versions={
            name: importlib.metadata.version(name) for name in ("query2label", "torch", *_PACKAGES[to])
        },
    )
    runtime = _write(original, path, artefact, to=to, threads=threads)
    verification = compare(runtime, original, artefact, images)
    if not verification.passed:
        raise ExportError(f"{path} is written but must not be used: {verification}.")
    return verification


def _check(path: Path, to: ExportTarget, precision: ExportPrecision) -> None:
    """Refuses what can be refused before any work.

    Raises:
        ExportError: If the name or the precision does not fit the runtime, or the file is there.
    """
    if path.suffix.lower() != SUFFIXES[to]:
        raise ExportError(f"A file for {to} ends in {SUFFIXES[to]}: {path} does not.")
    if to == "onnx" and precision == "bf16":
        raise ExportError(
            "ONNX Runtime has no bfloat16 convolutions on processors: take --precision fp16 or --to openvino."
        )
    for package in _PACKAGES[to]:
        _require(package)
    for file in (path, path.with_suffix(".bin")) if to == "openvino" else (path,):
        if file.exists():
            raise ExportError(f"{file} is there already: name another file, or remove it first.")


def _require(package: str) -> None:
    purpose = "Exporting a model"
    if package == "openvino":
        import_openvino(purpose)
    else:
        import_extra(package, extra="onnx", purpose=purpose)


def _write(
    model: Query2Label, path: Path, artefact: Artefact, *, to: ExportTarget, threads: int | None
) -> Runtime:
    """Writes the file, and gives what computes with it."""
    bundle = cast(Bundle, model.bundle)
    program = trace(
        model,
        image_size=bundle.preprocess.image_size,
        precision="fp32" if to == "openvino" else artefact.precision,
        attention=artefact.attention,
        any_image_size=artefact.any_image_size,
    )
    metadata = to_metadata(bundle, artefact)
    if to == "torch":
        return write_torch(program, path, metadata)
    if to == "onnx":
        write_onnx(program, path, metadata)
    else:
        write_openvino(program, path, metadata, half_weights=artefact.precision == "fp16")
    return load_exported(path, to, threads=threads)
