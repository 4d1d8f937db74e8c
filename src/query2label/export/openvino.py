"""A graph as an OpenVINO model: an `.xml` file and its weights in a `.bin` beside it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from query2label.errors import StorageError
from query2label.inference.openvino_runtime import import_openvino
from query2label.storage import explained_os_errors, fsync_folder, require_room, temporary_path


def write_openvino(
    content: bytes, path: Path, metadata: Mapping[str, str], *, half_weights: bool = False
) -> None:
    """Writes a graph as OpenVINO files: the weights first, so that an `.xml` that is there is whole.

    Args:
        content: Of an ONNX file in float32 or int8.
        path: The `.xml` file; the `.bin` file has the same stem.
        metadata: Texts that go into the file.
        half_weights: Keep the weights in float16.

    A refused write is a `StorageError`.
    """
    openvino = import_openvino("Exporting for OpenVINO")
    model = openvino.Core().read_model(io.BytesIO(content))
    for key, text in metadata.items():
        model.set_rt_info(text, key.split("."))
    needed = len(content) // 2 if half_weights else len(content)
    folder = temporary_path(path)
    with explained_os_errors(path, needed_bytes=needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_room(path, needed)
        try:
            folder.mkdir()
            _save(openvino, model, folder / path.name, half_weights=half_weights)
            for suffix in (".bin", ".xml"):
                file = (folder / path.name).with_suffix(suffix)
                fsync_folder(file)
                file.replace(path.with_suffix(suffix))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        fsync_folder(path.parent)


def _save(openvino: ModuleType, model: Any, path: Path, *, half_weights: bool) -> None:
    """Writes the two files.

    Raises:
        StorageError: If OpenVINO could not; its errors do not say why.
    """
    try:
        openvino.save_model(model, path, compress_to_fp16=half_weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise StorageError(
            f"OpenVINO could not write {path.name} in {path.parent.parent}: {reason}."
        ) from None
