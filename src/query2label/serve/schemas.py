"""What comes in and goes out as JSON; the OpenAPI schema is made of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

UnitInterval = Annotated[float, Field(ge=0, le=1)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class EncodedImage(_Form):
    """An image file inside of JSON."""

    data: str
    """The bytes of the file in base64; a `data:` URL is taken as well. Other URLs are never fetched."""
    name: str | None = None
    """Comes back in the answer."""


class PredictJson(_Form):
    """Images and options in JSON."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "images": [
                    {
                        "name": "dot.png",
                        "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4"
                        "nGP4DwABAQEAsTjYOQAAAABJRU5ErkJggg==",
                    }
                ],
                "top_k": 3,
            }
        }
    )

    images: Annotated[list[EncodedImage | str], Field(min_length=1)]
    """Each with a name, or just the base64 text."""
    labels: Annotated[list[str], Field(min_length=1, max_length=20_000)] | None = None
    """Score and choose among these labels only."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """The so many best labels, whatever their thresholds; with `threshold`, at most so many that reach it."""
    threshold: UnitInterval | dict[str, UnitInterval] | None = None
    """One for all labels, or some by label; unset: the model's own."""
    attention: bool | None = None
    """Whether to say where the model looked for the labels of the answer."""


class PredictQuery(_Form):
    """Options in the query, for images that come as a form or as bare bytes."""

    labels: Annotated[list[str], Field(min_length=1)] | None = None
    """Score and choose among these labels only; may be repeated."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """The so many best labels, whatever their thresholds; with `threshold`, at most so many that reach it."""
    threshold: list[str] | None = None
    """A number for all labels, or LABEL=NUMBER for one; may be repeated. Unset: the model's own."""
    attention: bool | None = None
    """Whether to say where the model looked for the labels of the answer."""


class ImageAnswer(_Form):
    """What the model says about one image."""

    name: str | None
    """As it was sent."""
    width: int | None = None
    """In pixels, as the image is displayed."""
    height: int | None = None
    """In pixels, as the image is displayed."""
    labels: list[str] = []
    """The predicted labels, best first."""
    scores: dict[str, float] = {}
    """In [0, 1], of every label that was asked for; empty for a broken image."""
    thresholds: dict[str, float] = {}
    """That were used; a label is predicted where its score reaches its threshold."""
    attention: dict[str, str] | None = None
    """By label, a grey PNG in base64 that covers the whole image: bright is where the model looked."""
    error: str | None = None
    """Why there is no prediction: the image cannot be read."""


class PredictAnswer(_Form):
    """The answer to a request, in the order of its images."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "predictions": [
                    {
                        "name": "photo.jpg",
                        "width": 640,
                        "height": 480,
                        "labels": ["dog"],
                        "scores": {"cat": 0.04, "dog": 0.93},
                        "thresholds": {"cat": 0.5, "dog": 0.42},
                        "attention": None,
                        "error": None,
                    }
                ],
                "no_attention": None,
            }
        }
    )

    predictions: list[ImageAnswer]
    no_attention: str | None = None
    """Why there are no maps, where they were asked for."""


class BrokenImage(_Form):
    """An image that cannot be read."""

    index: int
    """Its place in the request, from 0."""
    name: str | None
    message: str


class Problem(_Form):
    """Why a request was refused."""

    code: str
    """A short name for programs."""
    message: str
    """One sentence for people."""
    images: list[BrokenImage] = []
    """Where all images of the request are broken: each with its reason."""


class ErrorAnswer(_Form):
    """The form of every error."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {"code": "overloaded", "message": "The service is at its capacity: try again."}
            }
        }
    )

    error: Problem


class LabelAnswer(_Form):
    """One label of the model."""

    name: str
    threshold: float
    """In [0, 1], of the model itself."""


class LimitsAnswer(_Form):
    """What a request may hold."""

    max_images: int
    max_body_bytes: int
    max_pixels: int
    """Of one image."""


class ModelAnswer(_Form):
    """What is served."""

    labels: list[LabelAnswer]
    """In output order."""
    threshold_rule: str
    """How the thresholds were found."""
    temperature: float
    """Calibration: scores are sigmoid(logits / temperature)."""
    preprocess: dict[str, Any]
    """How pixels become the model's input."""
    metrics: dict[str, Any]
    """Results on validation data, with their protocol."""
    digest: str
    """SHA-256 of the bundle, or of the bundle that the exported file was made from; empty if not known."""
    runtime: str
    """What computes: torch, onnx or openvino."""
    precision: str
    """Of the arithmetic."""
    no_attention: str | None
    """Why this model cannot say where it looked; null where it can."""
    backbone: str
    limits: LimitsAnswer
    version: str
    """Of query2label."""


class StatusAnswer(_Form):
    """Whether the process lives, or is ready."""

    status: str
