"""Names that moved to `inference`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from query2label.inference.explanation import Explanation
from query2label.inference.heat import map_on_image
from query2label.inference.looking import attention_of, explain_image

__all__ = ["Explanation", "explain_image", "label_maps", "map_on_image"]


def label_maps(attention: Float[np.ndarray, "B L M K h w"]) -> Float32[np.ndarray, "B K h w"]:
    """One map per label: that of the last decoder layer, averaged over its heads."""
    return attention_of(attention, layer=attention.shape[1])
