"""Explaining an image: which labels, by which method, of which decoder layer and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Float32

from query2label.errors import ConfigError, ImageError
from query2label.inference.explanation import Explanation, HeadChoice, LayerChoice, MapMethod
from query2label.inference.prediction import Prediction, choose_labels
from query2label.inference.predictor import Predictor
from query2label.inference.runtime import AttentiveRuntime, ExportedRuntime, GradientRuntime
from query2label.preprocess import ImageSource, load_image, preprocess

MethodChoice = Literal["auto", "attention", "gradcam"]
_MAX_LABELS: Final = 5


def explain_image(
    predictor: Predictor,
    source: ImageSource,
    *,
    labels: Sequence[str] | None = None,
    method: MethodChoice = "auto",
    layer: LayerChoice | None = None,
    head: HeadChoice | None = None,
) -> Explanation:
    """The prediction for an image, and where the model looked for its labels; see `Predictor.explain`.

    An image that cannot be read is an `ImageError`, an unknown label a `DataError`, a method, layer or head
    that this model does not have a `ConfigError`.

    Raises:
        ImageError: If the scores of this image are not finite.
        ConfigError: If `labels` is empty.
    """
    if labels is not None and not labels:
        raise ConfigError("There is no label to explain: name some, or leave `labels` unset.")
    look = _way_to_look(predictor, method, layer, head)
    image = load_image(source)
    spec = predictor.bundle.preprocess
    prediction = predictor(source)
    if prediction.error is not None:
        raise ImageError(prediction.error)
    labels = explained_labels(prediction) if labels is None else labels
    indices = [predictor.bundle.label_set.index(label) for label in labels]
    maps = look(preprocess(source, spec)[None], indices)
    by_label = dict(zip(labels, maps.maps, strict=True))
    each = {} if maps.of_heads is None else dict(zip(labels, maps.of_heads, strict=True))
    return Explanation(
        image,
        prediction,
        by_label,
        spec,
        method=maps.method,
        layer=maps.layer,
        head=maps.head,
        head_maps=each,
    )


def explained_labels(prediction: Prediction) -> tuple[str, ...]:
    """The labels that are explained where none are named: the five best predicted ones, or the best one."""
    scores = np.fromiter(prediction.scores.values(), dtype=np.float32)
    return prediction.labels[:_MAX_LABELS] or choose_labels(scores, None, tuple(prediction.scores), top_k=1)


def attention_of(
    attention: Float[np.ndarray, "B L M K h w"], *, layer: LayerChoice, head: int | Literal["mean"] = "mean"
) -> Float32[np.ndarray, "B K h w"]:
    """One map per label, of a layer and head, or of the mean over them; each sums to 1.

    Args:
        attention: As `AttentiveRuntime.with_attention` gives it.
        layer: Counted from 1, or the mean of all.
        head: Counted from 1, or the mean of all.

    Raises:
        ConfigError: If there is no such head.
    """
    heads = heads_of(attention, layer)
    if head == "mean":
        maps: np.ndarray = heads.mean(axis=1, dtype=np.float32)
        return maps
    if not 1 <= head <= heads.shape[1]:
        raise ConfigError(f"There is no attention head {head}: this model has {heads.shape[1]}, from 1 on.")
    return heads[:, head - 1]


def heads_of(
    attention: Float[np.ndarray, "B L M K h w"], layer: LayerChoice
) -> Float32[np.ndarray, "B M K h w"]:
    """The maps of each head, of a layer (counted from 1) or of the mean over the layers.

    Raises:
        ConfigError: If there is no such layer.
    """
    if layer == "mean":
        maps: np.ndarray = attention.mean(axis=1, dtype=np.float32)
        return maps
    if not 1 <= layer <= attention.shape[1]:
        raise ConfigError(
            f"There is no decoder layer {layer}: this model has {attention.shape[1]}, from 1 on."
        )
    return attention[:, layer - 1].astype(np.float32)


@dataclass(frozen=True)
class _Maps:
    """Maps of one image, and what they are."""

    maps: Float32[np.ndarray, "k h w"]
    method: MapMethod
    layer: LayerChoice | None = None
    head: HeadChoice | None = None
    of_heads: Float32[np.ndarray, "k M h w"] | None = None


def _way_to_look(
    predictor: Predictor, method: MethodChoice, layer: LayerChoice | None, head: HeadChoice | None
) -> Callable[[Float32[np.ndarray, "1 3 H W"], list[int]], _Maps]:
    """What makes maps of an image for some labels, as asked for and as this model can.

    Raises:
        ConfigError: If it cannot.
    """
    runtime, model = predictor.runtime, predictor.bundle.model
    if method != "gradcam" and isinstance(runtime, AttentiveRuntime) and runtime.has_attention:
        return partial(_attention, runtime, layer=layer, head=head)
    if method != "attention" and isinstance(runtime, GradientRuntime):
        if layer is not None or head is not None:
            raise ConfigError("Grad-CAM has no decoder layers and heads to choose: leave them away.")
        return partial(_grad_cam, runtime)
    if isinstance(runtime, GradientRuntime):
        raise ConfigError(f"A {model.head} head has no attention maps: ask for gradcam, or auto.")
    if not isinstance(runtime, ExportedRuntime):
        raise ConfigError(
            f"{type(runtime).__name__} can explain nothing: load the bundle with Predictor.load."
        )
    if method != "gradcam" and model.head == "query2label":
        raise ConfigError(
            "This file was exported without attention maps: q2l export --attention makes one that has them."
        )
    raise ConfigError(
        "An exported file gives no gradients, which Grad-CAM needs: explain the bundle that it was made from."
    )


def _attention(
    runtime: AttentiveRuntime,
    pixels: Float32[np.ndarray, "1 3 H W"],
    indices: list[int],
    *,
    layer: LayerChoice | None,
    head: HeadChoice | None,
) -> _Maps:
    _, attention = runtime.with_attention(pixels)
    layer = "mean" if layer is None else layer
    head = "mean" if head is None else head
    maps = attention_of(attention, layer=layer, head="mean" if head == "each" else head)[0, indices]
    each = heads_of(attention, layer)[0].swapaxes(0, 1)[indices] if head == "each" else None
    return _Maps(maps, "attention", layer, head, each)


def _grad_cam(runtime: GradientRuntime, pixels: Float32[np.ndarray, "1 3 H W"], indices: list[int]) -> _Maps:
    return _Maps(runtime.grad_cam(pixels, indices)[0], "gradcam")
