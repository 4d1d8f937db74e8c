"""The section `loss`: what is minimized."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from query2label.config.section import Section, UnitInterval


class LossConfig(Section):
    """What is minimized."""

    name: Literal["asymmetric", "bce", "focal"] = "asymmetric"
    """Asymmetric focal loss (paper), binary cross-entropy, or focal loss."""
    gamma_pos: Annotated[float, Field(ge=0)] = 0.0
    """Focusing exponent of positives (asymmetric); the exponent of both sides for focal is `gamma`."""
    gamma_neg: Annotated[float, Field(ge=0)] = 2.0
    """Focusing exponent of negatives (asymmetric)."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Negatives scored under this add nothing (asymmetric)."""
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """Focusing exponent (focal)."""
    alpha: UnitInterval | None = None
    """Weight of positives, 1 - alpha that of negatives (focal); unset: both 1."""
