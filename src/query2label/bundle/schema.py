"""What a bundle says about a model, and how its logits become scores and predicted labels."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from query2label.config import ModelConfig, UnitInterval
from query2label.errors import DataError
from query2label.labels import LabelSet
from query2label.preprocess import PreprocessSpec

SCHEMA_VERSION: Final = 1


class Bundle(BaseModel):
    """What `config.json` says: the whole contract of a trained model but its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    """Version of this file's form; newer ones are refused with a sentence."""
    model: ModelConfig
    """Backbone and head."""
    labels: tuple[str, ...]
    """Label names in output order."""
    preprocess: PreprocessSpec
    """How pixels become the model's input."""
    thresholds: tuple[UnitInterval, ...]
    """One per label, in [0, 1]: a label is predicted where its score reaches its threshold."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Calibration: scores are sigmoid(logits / temperature)."""
    threshold_rule: str = "fixed 0.5"
    """How the thresholds were found, for people to read."""
    metrics: dict[str, Any] = {}
    """Results on validation data, with their protocol."""
    data: dict[str, Any] = {}
    """What it was trained on: the name of the data, numbers of images, and of training images per label."""
    run: dict[str, Any] = {}
    """Resolved configuration of the run that made it."""
    origin: str = ""
    """Where the weights come from, where no run here made them; for people to read."""
    versions: dict[str, str] = {}
    """Versions of the packages that made it."""

    @field_validator("labels")
    @classmethod
    def _labels_are_a_set(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return LabelSet(labels).names
        except DataError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_threshold_per_label(self) -> Bundle:
        if len(self.thresholds) != len(self.labels):
            raise ValueError(f"there are {len(self.thresholds)} thresholds for {len(self.labels)} labels")
        return self

    @property
    def label_set(self) -> LabelSet:
        """The labels, with their output index by name."""
        return LabelSet(self.labels)

    def scores(self, logits: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B K"]:
        """Calibrated scores in [0, 1], float32."""
        return scores_from_logits(logits, self.temperature)

    def predicted(self, scores: Float[np.ndarray, "B K"]) -> Bool[np.ndarray, "B K"]:
        """Which labels are predicted: those whose score reaches their threshold."""
        return predicted(scores, np.asarray(self.thresholds))


def scores_from_logits(logits: Float[np.ndarray, "B K"], temperature: float) -> Float[np.ndarray, "B K"]:
    """sigmoid(logits / temperature) in float32, without overflow for logits of any size; NaN stays NaN.

    Training, evaluation and prediction all use it, so that they cannot disagree.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -scaled)).astype(np.float32)


def predicted(
    scores: Float[np.ndarray, "B K"], thresholds: Float[np.ndarray, " K"]
) -> Bool[np.ndarray, "B K"]:
    """Whether each score reaches its label's threshold, compared in float32 (the precision of scores)."""
    return np.asarray(scores, dtype=np.float32) >= np.asarray(thresholds, dtype=np.float32)
