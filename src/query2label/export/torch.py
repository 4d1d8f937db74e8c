"""A graph as a torch archive (`.pt2`), for programs that trust it: torch opens such files with pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch.export import ExportedProgram

from query2label.export.graph import quiet_exporters
from query2label.inference.runtime import Runtime
from query2label.storage import atomic_file


def write_torch(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> Runtime:
    """Writes a graph as a torch archive, as a whole or not at all.

    Args:
        program: From `trace`.
        path: The file.
        metadata: Texts that go into the file, as extra files of the archive.

    Returns:
        What computes logits with the very bytes that were written. Nothing here opens such a file again.

    A refused write is a `StorageError`.
    """
    content = io.BytesIO()
    with quiet_exporters():
        torch.export.save(program, content, extra_files=dict(metadata))
    with atomic_file(path, mode="wb", needed_bytes=len(content.getbuffer())) as file:
        file.write(content.getbuffer())
    content.seek(0)
    with quiet_exporters():
        written = torch.export.load(content).module()

    @torch.inference_mode()
    def score(images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        logits: np.ndarray = written(torch.from_numpy(images))[0].numpy()
        return logits

    return score
