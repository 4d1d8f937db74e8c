"""The model in the box: a small bundle that comes with the package, for everyday labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BUILTIN_PATH: Final = Path(__file__).resolve().parents[1] / "builtin"
"""Its folder; the model card in it says what it was trained on, how good it is, and where its limits are."""
BUILTIN_DIGEST: Final = "19174e55f74ba37519a07f198a5c718d8dcee8079a1bb8c7f2973d54e35bf671"
"""`bundle_digest` of what is shipped; `python -m benchmarks.builtin` makes it anew."""
