"""The model that is served: from the bytes of an image file to what the answer says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from query2label import __version__
from query2label.decode import image_size
from query2label.errors import ConfigError, DataError
from query2label.formats import RuntimeName
from query2label.inference.choice import LabelChoice
from query2label.inference.looking import attention_of
from query2label.inference.predictor import Predictor
from query2label.inference.runtime import AttentiveRuntime, ExportedRuntime
from query2label.inference.runtimes import load_runtime, model_digest
from query2label.labels import LabelSet
from query2label.preprocess import preprocess
from query2label.serve.attention import attention_pngs, why_no_attention
from query2label.serve.batching import Scored
from query2label.serve.limits import Limits
from query2label.serve.options import Options
from query2label.serve.refusal import InvalidRequestError
from query2label.serve.schemas import ImageAnswer, LabelAnswer, LimitsAnswer, ModelAnswer

_RUNTIME_NAMES = {"TorchRuntime": "torch", "OnnxRuntime": "onnx", "OpenVinoRuntime": "openvino"}


@dataclass(frozen=True)
class DecodedImage:
    """An image on its way to the model."""

    pixels: Float32[np.ndarray, "3 H W"]
    """The model's input."""
    size: tuple[int, int]
    """(height, width) as displayed."""


@dataclass(frozen=True)
class Choice:
    """What an answer has of the model's labels."""

    labels: LabelChoice
    indices: Sequence[int]
    """Output indices of the labels that were asked for."""
    are_named: bool
    """Whether the request names them."""
    wants_attention: bool


class ServedModel:
    """A predictor taken apart into the steps that the service runs in different places.

    Args:
        predictor: The model.
        digest: SHA-256 of its bundle, where it is known; an exported file says it itself.
    """

    def __init__(self, predictor: Predictor, *, digest: str = "") -> None:
        self.bundle = predictor.bundle
        self.runtime = predictor.runtime
        self.no_attention = why_no_attention(self.runtime)
        self.digest, self.precision = digest, "fp32"
        if isinstance(self.runtime, ExportedRuntime):
            artefact = self.runtime.artefact
            self.digest, self.precision = artefact.bundle_digest, artefact.precision
        self.pays_to_batch: bool = getattr(self.runtime, "pays_to_batch", True)
        self._label_set = LabelSet(self.bundle.labels)

    @classmethod
    def load(
        cls,
        path_or_hub_id: str | None,
        *,
        runtime: RuntimeName = "auto",
        device: str = "auto",
        threads: int | None = None,
    ) -> ServedModel:
        """A bundle or an exported file; arguments and errors are those of `Predictor.load`."""
        loaded = load_runtime(path_or_hub_id, runtime=runtime, device=device, threads=threads, shared=True)
        predictor = Predictor(*loaded, threads=threads)
        if isinstance(predictor.runtime, ExportedRuntime):
            return cls(predictor)
        return cls(predictor, digest=model_digest(path_or_hub_id))

    def choice(self, options: Options) -> Choice:
        """What the options mean for this model.

        Raises:
            InvalidRequestError: If they name a label that it does not know, or are out of range.
        """
        try:
            labels = LabelChoice.of(self.bundle, top_k=options.top_k, threshold=options.threshold)
            indices = options.label_indices(self._label_set)
        except (ConfigError, DataError) as error:
            raise InvalidRequestError(str(error)) from None
        attention = bool(options.attention) and self.no_attention is None
        return Choice(labels.among(indices), indices, options.labels is not None, attention)

    def decode(self, data: bytes, *, max_pixels: int) -> DecodedImage:
        """The model's input for an image file; what is none is an `ImageError`."""
        pixels = preprocess(data, self.bundle.preprocess, max_pixels=max_pixels)
        return DecodedImage(pixels, image_size(data))

    def compute(self, images: Float[np.ndarray, "B 3 H W"], attention: bool) -> list[Scored]:
        """Scores of a batch, with attention maps where they are wanted."""
        if not attention or not isinstance(self.runtime, AttentiveRuntime):
            return [Scored(scores, None) for scores in self.bundle.scores(self.runtime(images))]
        logits, maps = self.runtime.with_attention(images)
        rows = zip(self.bundle.scores(logits), attention_of(maps, layer="mean"), strict=True)
        return [Scored(scores, label_map) for scores, label_map in rows]

    def warm_up(self, batch_size: int) -> None:
        """Computes images of nothing, one and so many: requests then find everything in place, memory too."""
        for number in (1, batch_size):
            nothing = np.zeros((number, 3, *self.bundle.preprocess.image_size), dtype=np.float32)
            self.compute(nothing, attention=False)
            self.compute(nothing, attention=self.no_attention is None)

    def answer(self, name: str | None, image: DecodedImage, scored: Scored, choice: Choice) -> ImageAnswer:
        """What the answer says about one image."""
        indices = list(choice.indices)
        prediction = choice.labels.prediction(scored.scores[indices])
        height, width = image.size
        maps: Mapping[str, str] | None = None
        if scored.maps is not None and prediction.error is None:
            shown = choice.labels.labels if choice.are_named else prediction.labels
            by_label = {label: scored.maps[self._label_set.index(label)] for label in shown}
            maps = attention_pngs(by_label, image.size, self.bundle.preprocess)
        return ImageAnswer(
            name=name,
            width=width,
            height=height,
            labels=list(prediction.labels),
            scores=dict(prediction.scores),
            thresholds=dict(prediction.thresholds),
            attention=None if maps is None else dict(maps),
            error=prediction.error,
        )

    def described(self, limits: Limits) -> ModelAnswer:
        """What `GET /v1/model` says."""
        bundle, name = self.bundle, type(self.runtime).__name__
        return ModelAnswer(
            labels=[
                LabelAnswer(name=label, threshold=threshold)
                for label, threshold in zip(bundle.labels, bundle.thresholds, strict=True)
            ],
            threshold_rule=bundle.threshold_rule,
            temperature=bundle.temperature,
            preprocess=bundle.preprocess.model_dump(mode="json"),
            metrics=bundle.metrics,
            digest=self.digest,
            runtime=_RUNTIME_NAMES.get(name, name),
            precision=self.precision,
            no_attention=self.no_attention,
            backbone=bundle.model.backbone,
            limits=LimitsAnswer(
                max_images=limits.queue, max_body_bytes=limits.max_body_bytes, max_pixels=limits.max_pixels
            ),
            version=__version__,
        )
