"""`export_bundle`: from a bundle to a file for another runtime, compared with the bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from query2label.bundle import Bundle, bundle_digest, resolve_bundle_path
from query2label.bundle.artefact import Artefact, to_metadata
from query2label.errors import ExportError
from query2label.evaluation.inputs import resolve_data
from query2label.export.graph import trace
from query2label.export.int8 import MAX_DROP, Gate, Say, Write
from query2label.export.int8_images import calibration_images, first_images
from query2label.export.onnx import onnx_bytes, write_onnx
from query2label.export.openvino import write_openvino
from query2label.export.torch import write_torch
from query2label.export.verify import Verification, compare
from query2label.extras import import_extra
from query2label.formats import DataFormatOrAuto, ExportPrecision, ExportTarget
from query2label.inference.openvino_runtime import import_openvino
from query2label.inference.runtime import ExportedRuntime, Runtime
from query2label.inference.runtimes import load_exported
from query2label.models.build import load_model
from query2label.preprocess import ImageSource

SUFFIXES: Final[dict[ExportTarget, str]] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
_PACKAGES: Final[dict[ExportTarget, tuple[str, ...]]] = {
    "onnx": ("onnx", "onnxscript"),
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
    data: str | Path | None = None,
    split: str | None = None,
    data_format: DataFormatOrAuto = "auto",
    max_drop: float = MAX_DROP,
    threads: int | None = None,
    say: Say = lambda _: None,
) -> Verification:
    """Writes a bundle for another runtime, with all that its `config.json` says, and compares the two.

        export_bundle("runs/birds/best", "birds.onnx", to="onnx")
        Predictor.load("birds.onnx")("photo.jpg")

    Args:
        model: The bundle folder, or `owner/name` on the Hugging Face hub.
        out: The file: `.onnx`, `.xml` (OpenVINO; a `.bin` comes with it) or `.pt2` (torch).
        to: The runtime.
        precision: What it computes in; `fp16` for OpenVINO halves the weights and computes in float32;
            `int8` is calibrated on photos, and held to the mAP on labelled ones (`data`).
        attention: Also give the attention maps.
        any_image_size: Take images of other sizes than the bundle's, where the backbone can.
        images: Photos to compare on, and to calibrate int8 on; none: generated ones, and for int8 those of
            the split `train` of the data.
        data: Labelled images that int8 is measured on.
        split: Of those; unset: `val`, else `test`, else all where the data have no splits.
        data_format: Layout of the data.
        max_drop: Points (hundredths) of mAP that int8 may cost.
        threads: Of the runtime while it is compared.
        say: Told what int8 is doing, which takes minutes.

    Returns:
        How well they agree.

    A bundle that cannot be read is a `BundleError`, a missing package a `MissingExtraError`, data without the
    split or with other labels a `DataError`.

    Raises:
        ExportError: If the file would be of no use or is there already; or if its scores differ by more than
            is tolerated: it stays then, to be looked at.
    """
    path = Path(out)
    _check(path, to, precision, data)
    bundle_path = resolve_bundle_path(model)
    original = load_model(bundle_path)
    bundle = cast(Bundle, original.bundle)
    artefact = Artefact(
        bundle_digest=bundle_digest(bundle_path),
        precision=precision,
        any_image_size=any_image_size,
        attention=attention,
        versions={
            name: importlib.metadata.version(name) for name in ("query2label", "torch", *_PACKAGES[to])
        },
    )
    program = trace(
        original,
        image_size=bundle.preprocess.image_size,
        precision="fp32" if to == "openvino" else precision,
        attention=attention,
        any_image_size=any_image_size,
    )
    metadata = to_metadata(bundle, artefact)
    trade_off = None
    if to == "torch":
        runtime: Runtime = write_torch(program, path, metadata)
    else:
        content = onnx_bytes(program, metadata if to == "onnx" else {})
        write = _writer(to, metadata, half_weights=precision == "fp16", threads=threads)
        if precision == "int8":
            labelled, _ = resolve_data(
                cast(Path, data), bundle, split=split, preferred=("val", "test"), format=data_format
            )
            calibration = calibration_images(images, cast(Path, data), bundle, format=data_format)
            gate = Gate(
                content,
                calibration,
                labelled,
                original,
                path.name,
                write=write,
                max_drop=max_drop,
                threads=threads,
                say=say,
            )
            content, trade_off = gate.search()
            images = images or first_images(labelled)
        runtime = write(content, path)
    verification = replace(compare(runtime, original, artefact, images), trade_off=trade_off)
    if not verification.passed:
        raise ExportError(f"{path} is written but must not be used: {verification}.")
    return verification


def _check(path: Path, to: ExportTarget, precision: ExportPrecision, data: str | Path | None) -> None:
    """Refuses what can be refused before any work.

    Raises:
        ExportError: If the name or the precision does not fit the runtime or the data, or the file is there.
    """
    if path.suffix.lower() != SUFFIXES[to]:
        raise ExportError(f"A file for {to} ends in {SUFFIXES[to]}: {path} does not.")
    if to == "onnx" and precision == "bf16":
        raise ExportError(
            "ONNX Runtime has no bfloat16 convolutions on processors: take --precision fp16 or --to openvino."
        )
    if to == "torch" and precision == "int8":
        raise ExportError("int8 is for ONNX Runtime and OpenVINO: take --to onnx or --to openvino.")
    if (precision == "int8") != (data is not None):
        raise ExportError(
            "int8 is measured on labelled images, which show what it costs: give --data."
            if data is None
            else "Labelled images (--data) are for int8 only: take --precision int8, or leave them out."
        )
    for package in (*_PACKAGES[to], *(_PACKAGES["onnx"] if precision == "int8" else ())):
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


def _writer(
    to: ExportTarget, metadata: Mapping[str, str], *, half_weights: bool, threads: int | None
) -> Write:
    """What writes an ONNX graph for a runtime, and loads it there."""

    def write(content: bytes, path: Path) -> ExportedRuntime:
        if to == "onnx":
            write_onnx(content, path)
        else:
            write_openvino(content, path, metadata, half_weights=half_weights)
        return load_exported(path, to, threads=threads)

    return write
