"""Where a model looked for each label: the decoder's own cross-attention, laid over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from query2label.errors import ConfigError
from query2label.inference.prediction import Prediction, choose_labels
from query2label.inference.predictor import Predictor
from query2label.inference.runtime import AttentiveRuntime, ExportedRuntime
from query2label.preprocess import ImageSource, PreprocessSpec, load_image, preprocess, resize_geometry

_MAX_LABELS = 5


@dataclass(frozen=True)
class Explanation:
    """An image with, for some labels, the share of attention that each of its places got."""

    image: Image.Image
    """The image as displayed, RGB."""
    prediction: Prediction
    """What the model says about it."""
    maps: Mapping[str, Float32[np.ndarray, "h w"]]
    """Attention by label, one value per cell of the feature map; each sums to 1."""
    spec: PreprocessSpec
    """How the image became the model's input, and so where the cells lie."""

    def map_on_image(self, label: str, size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
        """The attention of `label` on the image shown at this (height, width), scaled to a maximum of 1.

        Interpolated bilinearly. What a centre crop cut away is 0: the model has not seen it.
        """
        return map_on_image(self.maps[label], (self.image.height, self.image.width), self.spec, shown=size)


def explain_image(
    predictor: Predictor, source: ImageSource, *, labels: Sequence[str] | None = None
) -> Explanation:
    """The prediction for an image, and where the model looked for its labels.

    Attention is that of the last decoder layer, averaged over its heads. It shows where the label's query
    took its evidence from; it does not prove that this evidence was decisive.

    Args:
        predictor: A model with attention: a bundle, or a file that was exported with it.
        source: Image, as for a `Predictor`.
        labels: Which labels to explain; unset: the (at most five) best predicted ones, or the best one.

    An image that cannot be read is an `ImageError`, an unknown label a `DataError`, a head without attention
    maps a `ConfigError`.

    Raises:
        ConfigError: If this runtime, or this exported file, has no attention maps.
    """
    runtime = predictor.runtime
    if not isinstance(runtime, AttentiveRuntime):
        raise ConfigError(
            f"{type(runtime).__name__} gives no attention maps: load the bundle with Predictor.load."
        )
    if isinstance(runtime, ExportedRuntime) and not runtime.has_attention:
        raise ConfigError(
            "This file was exported without attention maps: q2l export --attention makes one that has them."
        )
    image = load_image(source)
    spec = predictor.bundle.preprocess
    prediction = predictor(source)
    if isinstance(source, str | Path):
        prediction = replace(prediction, source=str(source))
    if labels is None:
        scores = np.fromiter(prediction.scores.values(), dtype=np.float32)
        labels = prediction.labels[:_MAX_LABELS] or choose_labels(scores, None, predictor.labels, top_k=1)
    indices = [predictor.bundle.label_set.index(label) for label in labels]
    _, attention = runtime.with_attention(preprocess(source, spec)[None])
    attention = label_maps(attention)[0]
    maps = {label: attention[index] for label, index in zip(labels, indices, strict=True)}
    return Explanation(image=image, prediction=prediction, maps=maps, spec=spec)


def map_on_image(
    attention: Float[np.ndarray, "h w"],
    image_size: tuple[int, int],
    spec: PreprocessSpec,
    *,
    shown: tuple[int, int],
) -> Float32[np.ndarray, "H W"]:
    """One attention map, put back through the resizing of `preprocess` and scaled to a maximum of 1.

    Args:
        attention: One value per cell of the feature map, which covers the model's input.
        image_size: (height, width) of the image as displayed.
        spec: How it became the model's input.
        shown: (height, width) of the map that is given.
    """
    geometry = resize_geometry(image_size, spec)
    rows, columns = attention.shape
    scale_x, scale_y = columns / spec.image_size[1], rows / spec.image_size[0]
    left, top, right, bottom = geometry.input_box
    cells = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
    zoom_x, zoom_y = shown[1] / image_size[1], shown[0] / image_size[0]
    left, top = round(geometry.image_box[0] * zoom_x), round(geometry.image_box[1] * zoom_y)
    right, bottom = round(geometry.image_box[2] * zoom_x), round(geometry.image_box[3] * zoom_y)
    seen = Image.fromarray(np.asarray(attention, dtype=np.float32)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR, box=cells
    )
    canvas = Image.new("F", (shown[1], shown[0]), 0.0)
    canvas.paste(seen, (left, top))
    heat = np.array(canvas, dtype=np.float32)
    return heat / max(float(heat.max()), float(np.finfo(np.float32).tiny))


def label_maps(attention: Float[np.ndarray, "B L M K h w"]) -> Float32[np.ndarray, "B K h w"]:
    """One map per label: that of the last decoder layer, averaged over its heads."""
    maps: np.ndarray = attention[:, -1].mean(axis=1, dtype=np.float32)
    return maps
