"""A graph as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch.export import ExportedProgram

from query2label.errors import ExportError
from query2label.export.graph import quiet_exporters
from query2label.storage import atomic_file

_MAX_BYTES: Final = 2_000_000_000
"""What one ONNX file can hold is two gibibytes, the graph included."""
_STACK_TRACE: Final = "pkg.torch.onnx.stack_trace"
"""What the exporter notes of each operation: folders of this machine, which are nobody else's business."""


def write_onnx(content: bytes, path: Path) -> None:
    """Writes the content of an ONNX file as a whole or not at all; a refused write is a `StorageError`."""
    with atomic_file(path, mode="wb", needed_bytes=len(content)) as file:
        file.write(content)


def onnx_bytes(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """The content of an ONNX file.

    Args:
        program: From `trace`.
        metadata: Texts that go into the file.

    Raises:
        ExportError: If the model is larger than an ONNX file can be, or has an operation that ONNX lacks.
    """
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size > _MAX_BYTES:
        raise ExportError(
            f"The weights have {size / 1e9:.1f} GB, and one ONNX file (the way to OpenVINO as well) holds 2: "
            "export for onnx with --precision fp16, or for torch."
        )
    try:
        with quiet_exporters():
            converted = torch.onnx.export(
                program, dynamo=True, input_names=["images"], output_names=_names(program), verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0].rstrip(".")
        raise ExportError(f"The model cannot be written as ONNX: {reason}.") from error
    if converted is None:
        raise ExportError("The model cannot be written as ONNX: the exporter gave nothing.")
    for node in converted.model.graph.all_nodes():
        node.metadata_props.pop(_STACK_TRACE, None)
    converted.model.metadata_props.update(metadata)
    return bytes(converted.model_proto.SerializeToString())


def _names(program: ExportedProgram) -> list[str]:
    return ["logits", "attention"][: len(program.graph_signature.user_outputs)]
