"""The model in the box: a small exported file that comes with the package, for everyday labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BUILTIN_PATH: Final = Path(__file__).resolve().parents[1] / "builtin" / "model.onnx"
"""An ONNX file, which answers without torch; the card beside it says what it was trained on, how good it is,
and where its limits are."""
BUILTIN_DIGEST: Final = "60be810dc87685de2381bfcdd047c6f6d30353a4e9c4a57a36064b3483c5a858"
"""SHA-256 of the file; `python -m benchmarks.builtin` makes it anew."""
