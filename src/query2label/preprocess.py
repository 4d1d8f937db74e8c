"""The one evaluation-time image path: decode, orient, convert, resize, normalize.

Validation in training, `evaluate`, `predict`, exported files and the server all use it, so that they cannot
disagree. It needs Pillow and NumPy, never torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

ResizeMode = Literal["squash", "letterbox", "crop"]
Interpolation = Literal["bilinear", "bicubic"]


class PreprocessSpec(BaseModel):
    """How pixels become the model's input; stored in every bundle and exported file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    image_size: tuple[int, int]
    """(height, width) in pixels of the model's input."""
    resize: ResizeMode = "squash"
    """`squash` ignores the aspect ratio, `letterbox` pads, `crop` cuts the centre."""
    interpolation: Interpolation = "bilinear"
    """Always antialiased."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """RGB standard deviation in [0, 1]."""
