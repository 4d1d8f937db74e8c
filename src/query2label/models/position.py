"""Where on the feature map a token sits: the two-dimensional sine position encoding."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from query2label.errors import ConfigError

TEMPERATURE = 1e4


def check_position_dim(dim: int) -> None:
    """Refuses a width that sines and cosines of two axes cannot share evenly.

    Raises:
        ConfigError: If `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise ConfigError(
            f"Hidden width {dim} is not a multiple of 4, which the sine position encoding needs: "
            f"set model.hidden_dim, for example to {max(4, round(dim / 4) * 4)}."
        )


def sine_position_encoding(
    height: int, width: int, dim: int, *, device: torch.device | None = None
) -> Float[Tensor, "1 {height*width} {dim}"]:
    """Position encoding of a feature map of any shape, one row per token in raster order.

    The first half of the channels tells y, the second x; in each half sines and cosines alternate over
    wavelengths from 2*pi to 2*pi * 10,000. Positions 1..H are scaled to (0, 2*pi], so that maps of different
    size share their ends.

    Args:
        height: Rows H of the feature map.
        width: Columns W of the feature map.
        dim: Width D, a multiple of 4.
        device: Where the result is made.

    Returns:
        Encoding in [-1, 1], float32, to be broadcast over the batch.

    Source:
        Carion et al. (2020), arXiv:2005.12872, as used by Liu et al. (2021), arXiv:2107.10834.
    """
    along_y = _encode_axis(height, dim // 2, device)
    along_x = _encode_axis(width, dim // 2, device)
    shape = (height, width, dim // 2)
    both = torch.cat([along_y[:, None, :].expand(shape), along_x[None, :, :].expand(shape)], dim=-1)
    return both.reshape(1, height * width, dim)


def _encode_axis(length: int, dim: int, device: torch.device | None) -> Float[Tensor, "{length} {dim}"]:
    positions = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    angles = positions / (length + 1e-6) * (2 * math.pi)
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    phases = angles[:, None] / TEMPERATURE**exponents
    return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(1)
