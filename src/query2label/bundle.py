"""A trained model on disk: `config.json`, `model.safetensors` and `README.md` in one folder.

This module knows files, not modules: `Bundle` says everything about a model but how to compute it, so that
runtimes without torch read the same file. `models` builds the network from it.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from query2label.config import ModelConfig
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
    thresholds: tuple[float, ...]
    """One per label, in [0, 1]: a label is predicted where its score reaches its threshold."""
    temperature: float = 1.0
    """Calibration: scores are sigmoid(logits / temperature)."""
    threshold_rule: str = "fixed 0.5"
    """How the thresholds were found, for people to read."""
    metrics: dict[str, Any] = {}
    """Results on validation data, with their protocol."""
    run: dict[str, Any] = {}
    """Resolved configuration of the run that made it."""
    versions: dict[str, str] = {}
    """Versions of the packages that made it."""
