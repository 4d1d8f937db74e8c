"""The model in the box: a small exported file that comes with the package, for everyday labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BUILTIN_PATH: Final = Path(__file__).resolve().parents[1] / "builtin" / "model.onnx"
"""An ONNX file, which answers without torch; the card beside it says what it was trained on, how good it is,
and where its limits are."""
BUILTIN_DIGEST: Final = "6d7cebf4a6dfd4039708a78981687fcfa09a40b6bb623315b4ab9cc2ab386dd5"
"""SHA-256 of the file; `python -m benchmarks.builtin` makes it anew."""
