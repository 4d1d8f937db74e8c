"""Multi-label image classification with label queries (Query2Label, arXiv:2107.10834).

The public names are loaded on first use, so that importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from query2label.data.load import load_dataset
    from query2label.evaluation.evaluate import evaluate
    from query2label.inference.prediction import Prediction
    from query2label.inference.predictor import Predictor
    from query2label.models.query2label import Query2Label
    from query2label.training.run import train

__version__ = "0.1.0"

_HOMES = {
    "Prediction": "query2label.inference.prediction",
    "Predictor": "query2label.inference.predictor",
    "Query2Label": "query2label.models.query2label",
    "evaluate": "query2label.evaluation.evaluate",
    "load_dataset": "query2label.data.load",
    "train": "query2label.training.run",
}

__all__ = ["Prediction", "Predictor", "Query2Label", "__version__", "evaluate", "load_dataset", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'query2label' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
