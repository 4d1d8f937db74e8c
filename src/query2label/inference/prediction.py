"""What a model says about one image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Prediction:
    """The labels of one image, with the scores of all labels."""

    labels: tuple[str, ...] = ()
    """Names of the predicted labels, best first."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Score in [0, 1] of every label of the model, in output order; empty for a broken image."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """The threshold of every label that was used; empty for a broken image."""
    source: str | None = None
    """Path of the image, where it came from a file."""
    error: str | None = None
    """Why there is no prediction: the image cannot be read."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: source, labels (best first), scores of all labels, error."""
        return {
            "source": self.source,
            "labels": list(self.labels),
            "scores": dict(self.scores),
            "error": self.error,
        }

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels) or "no label"
        source = f"{self.source!r}: " if self.source is not None else ""
        return f"<Prediction {source}{'error: ' + self.error if self.error is not None else found}>"


def choose_labels(
    scores: Float[np.ndarray, " K"],
    reached: Bool[np.ndarray, " K"] | None,
    labels: Sequence[str],
    *,
    top_k: int | None,
) -> tuple[str, ...]:
    """Names of the chosen labels, best first; equal scores keep the order of the labels.

    Args:
        scores: One per label.
        reached: Whether each score reaches its threshold; None: it does not matter.
        labels: Their names.
        top_k: At most so many; None for any number.
    """
    order = np.argsort(-scores, kind="stable")
    if reached is not None:
        order = order[reached[order]]
    return tuple(labels[index] for index in order[:top_k])
