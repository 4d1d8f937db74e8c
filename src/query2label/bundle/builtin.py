"""The model in the box: a small exported file that comes with the package, for everyday labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BUILTIN_PATH: Final = Path(__file__).resolve().parents[1] / "builtin" / "model.onnx"
"""An ONNX file, which answers without torch; the card beside it says what it was trained on, how good it is,
and where its limits are."""
BUILTIN_DIGEST: Final = "840c3703583552715f40e5ded5149272b7f5a58930a2dcc4c6c5576cf3109ff6"
"""SHA-256 of the file; `python -m benchmarks.builtin` makes it anew."""
