"""From the scores of an image to its labels: thresholds of the bundle or others, and how many labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from query2label.bundle import Bundle, predicted
from query2label.errors import ConfigError
from query2label.inference.prediction import Prediction, choose_labels
from query2label.labels import LabelSet


@dataclass(frozen=True)
class LabelChoice:
    """Turns the scores of an image into a prediction."""

    labels: tuple[str, ...]
    """All labels of the model, in output order."""
    thresholds: Mapping[str, float]
    """One per label, in [0, 1]."""
    top_k: int | None
    """At most so many labels; None for any number."""
    ranked_only: bool
    """Whether the best labels are taken whether or not they reach their thresholds."""

    @classmethod
    def of(
        cls, bundle: Bundle, *, top_k: int | None = None, threshold: float | Mapping[str, float] | None = None
    ) -> LabelChoice:
        """The choice for a model; options as for a call of `Predictor`.

        A label that the model does not know is a `DataError`, a threshold out of range a `ConfigError` too.

        Raises:
            ConfigError: If `top_k` is out of range.
        """
        if top_k is not None and top_k < 1:
            raise ConfigError(f"top_k ({top_k}) must be at least 1.")
        thresholds = _changed(dict(zip(bundle.labels, bundle.thresholds, strict=True)), threshold)
        return cls(bundle.labels, thresholds, top_k, ranked_only=top_k is not None and threshold is None)

    @classmethod
    def by_thresholds(cls, labels: tuple[str, ...], threshold: float | Mapping[str, float]) -> LabelChoice:
        """The choice by one threshold for all labels, or by one for each.

        A threshold out of range is a `ConfigError`, an unknown label a `DataError`.
        """
        return cls(labels, _changed(dict.fromkeys(labels, 1.0), threshold), top_k=None, ranked_only=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what two choices have to agree in to choose the same."""
        return {
            "labels": list(self.labels),
            "thresholds": dict(self.thresholds),
            "top_k": self.top_k,
            "ranked_only": self.ranked_only,
        }

    def among(self, indices: Sequence[int]) -> LabelChoice:
        """The same choice among some labels only, given by output index; scores then come in that order."""
        labels = tuple(self.labels[index] for index in indices)
        return replace(self, labels=labels, thresholds={label: self.thresholds[label] for label in labels})

    def prediction(
        self,
        scores: Float[np.ndarray, " K"],
        *,
        source: str | None = None,
        logits: Float[np.ndarray, " K"] | None = None,
    ) -> Prediction:
        """What these scores say; scores that are not finite give a prediction with an `error`."""
        if not np.isfinite(scores).all():
            return Prediction(source=source, error="The model gives scores that are not finite.")
        limits = np.fromiter(self.thresholds.values(), dtype=np.float64)
        reached = None if self.ranked_only else predicted(scores[None], limits)[0]
        return Prediction(
            labels=choose_labels(scores, reached, self.labels, top_k=self.top_k),
            scores=dict(zip(self.labels, scores.tolist(), strict=True)),
            thresholds=self.thresholds,
            source=source,
            logits={} if logits is None else dict(zip(self.labels, logits.tolist(), strict=True)),
        )


def parse_thresholds(texts: Sequence[str]) -> float | dict[str, float] | None:
    """The thresholds that texts stand for: a number for all labels, or `LABEL=NUMBER` for each.

    Raises:
        ConfigError: If a text is neither, or a number for all labels is not the only one.
    """
    named: dict[str, float] = {}
    for text in texts:
        label, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"The threshold {text:.80} is neither a number nor LABEL=NUMBER.") from None
        if not label:
            if len(texts) > 1:
                raise ConfigError(f"The threshold {text} is for all labels: it cannot be given with others.")
            return value
        named[label] = value
    return named or None


def _changed(thresholds: dict[str, float], threshold: float | Mapping[str, float] | None) -> dict[str, float]:
    labels = LabelSet(tuple(thresholds))
    if isinstance(threshold, Mapping):
        for label, value in threshold.items():
            thresholds[labels[labels.index(label)]] = value
    elif threshold is not None:
        thresholds = dict.fromkeys(thresholds, threshold)
    for label, value in thresholds.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"The threshold {value} of label {label!r} is not within 0 and 1.")
    return thresholds
