"""Attention masks of a Swin backbone that are kept with its weights, as the authors' checkpoints have them.

A mask keeps the parts of a shifted window apart that are no neighbours in the image. timm computes it for
each image size. The authors keep it as a buffer, and averaged weights (EMA) average that too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor

from query2label.errors import ConfigError
from query2label.models.backbone import SpatialBackbone


class StoredMaskBlock(SwinTransformerBlock):
    """A block of timm's Swin with the mask for maps of one size as a buffer that belongs to its weights."""

    attn_mask: Tensor
    stored_size: tuple[int, int]
    """(height, width) of that map, padded to whole windows."""

    def get_attn_mask(
        self, x: Tensor | None = None, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Tensor | None:
        """The kept mask for maps of its size, a computed one for others."""
        if x is not None and tuple(x.shape[1:3]) == self.stored_size:
            return self.attn_mask
        return super().get_attn_mask(x, device, dtype)


def keep_masks(backbone: SpatialBackbone, map_size: tuple[int, int]) -> None:
    """From now on, the masks for one image size are part of the backbone's weights; they begin as computed.

    Args:
        backbone: A Swin.
        map_size: (height, width) of its feature map for that image size.

    Raises:
        ConfigError: If it is another backbone.
    """
    shifted: list[tuple[int, Any]] = [
        (stage, block)
        for stage, layer in enumerate(getattr(backbone.model, "layers", []))
        for block in getattr(layer, "blocks", [])
        if isinstance(block, SwinTransformerBlock) and any(block.shift_size)
    ]
    if not shifted:
        raise ConfigError(
            f"Backbone {backbone.architecture} is no Swin, whose attention masks could be kept: leave "
            "model.stored_masks unset."
        )
    last = len(backbone.model.layers) - 1
    for stage, block in shifted:
        height, width = (
            math.ceil(size * 2 ** (last - stage) / window) * window
            for size, window in zip(map_size, block.window_size, strict=True)
        )
        mask = block.get_attn_mask(torch.empty(1, height, width, 1))
        block.register_buffer("attn_mask", mask, persistent=True)
        block.dynamic_mask = True
        block.stored_size = (height, width)
        block.__class__ = StoredMaskBlock
