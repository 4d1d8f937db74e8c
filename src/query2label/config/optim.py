"""The section `optim`: AdamW and its schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from query2label.config.section import Section, UnitInterval


class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate of the head."""
    backbone_lr_scale: Annotated[float, Field(ge=0)] = 0.1
    """The backbone learns at this multiple of the head's rate."""
    query_lr_scale: Annotated[float, Field(gt=0)] = 1.0
    """Label queries learn at this multiple of the head's rate: the higher, the sooner they look somewhere."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled weight decay; never on norms, biases and label queries."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of AdamW's second moment."""
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    """`one_cycle` rises and falls as a cosine; `cosine` rises linearly, then falls as a cosine."""
    warmup_fraction: UnitInterval = 0.2
    """Share of all steps in which the rate rises."""
    cycle_beta1: bool = False
    """Let beta1 fall from 0.95 to 0.85 and rise again, against the rate of one_cycle (as published)."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 turns clipping off."""

    @model_validator(mode="after")
    def _cycle_is_one_cycles(self) -> OptimConfig:
        if self.cycle_beta1 and self.schedule != "one_cycle":
            raise ValueError('optim.cycle_beta1 needs optim.schedule = "one_cycle"')
        return self
