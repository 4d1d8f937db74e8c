"""A model as one graph of operations, good for any number of images."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from query2label.errors import ExportError
from query2label.formats import ExportPrecision
from query2label.models.query2label import Query2Label

DTYPES: Final = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,  # what it is quantized from
}
_NUM_EXAMPLES: Final = 3  # 1 would be taken for a constant


class ExportedModel(nn.Module):
    """`model` with float32 images in and float32 logits out, whatever it computes in.

    Args:
        model: The model, in evaluation mode; it is changed to `dtype`.
        dtype: What it computes in.
        attention: Also give the attention maps (B, L, M, K, H, W).
    """

    def __init__(self, model: Query2Label, dtype: torch.dtype, *, attention: bool) -> None:
        super().__init__()
        self.model = model.to(dtype)
        self.dtype = dtype
        self.attention = attention
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, and attention maps where they are asked for."""
        images = images.to(self.dtype)
        if not self.attention:
            return (self.model(images).float(),)
        logits, maps = self.model.forward_with_attention(images)
        return logits.float(), maps.transpose(0, 1).float()


def trace(
    model: Query2Label,
    *,
    image_size: tuple[int, int],
    precision: ExportPrecision,
    attention: bool,
    any_image_size: bool,
) -> ExportedProgram:
    """The optimized model as a graph.

    Args:
        model: It stays as it is.
        image_size: (height, width) of the images.
        precision: What it computes in.
        attention: Also give the attention maps; a head that has none is a `ConfigError`.
        any_image_size: Make the graph good for other sizes as well.

    Raises:
        ExportError: If the model cannot be made a graph, or not for any size.
    """
    if any_image_size:
        _refuse_windows(model)
    optimized = model.optimize_for_inference(image_size=image_size, any_size=any_image_size)
    exported = ExportedModel(optimized, DTYPES[precision], attention=attention)
    free = {0: Dim("batch")} | ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if any_image_size else {})
    images = torch.zeros(_NUM_EXAMPLES, 3, *image_size)
    try:
        with quiet_exporters():
            return torch.export.export(exported, (images,), dynamic_shapes={"images": free}, strict=False)
    except (
        RuntimeError,
        AssertionError,
        ValueError,
        TypeError,
    ) as error:  # torch's own are children of these
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
        name = model.backbone.architecture
        hint = "take --image-size fixed" if any_image_size else "no runtime but torch can run it"
        raise ExportError(
            f"A model with the backbone {name} cannot be exported like this: {hint} ({reason})."
        ) from error


def _refuse_windows(model: Query2Label) -> None:
    """Refuses what torch would reason about for hours.

    Raises:
        ExportError: If the backbone attends within windows, whose number and masks depend on the size.
    """
    modules = model.backbone.modules()
    if any(hasattr(module, name) for module in modules for name in ("window_size", "partition_size")):
        raise ExportError(
            f"The backbone {model.backbone.architecture} attends within windows, made for one image "
            "size: take --image-size fixed."
        )


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Keeps torch's exporters from telling about themselves on the terminal; errors still come."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
