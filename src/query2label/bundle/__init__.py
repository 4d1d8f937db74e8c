"""A trained model on disk: `config.json`, `model.safetensors` and `README.md` in one folder.

This room knows files, not modules: `Bundle` says everything about a model but how to compute it, so that
runtimes without torch read the same file. `models` builds the network from it.
"""

from query2label.bundle.builtin import BUILTIN_DIGEST, BUILTIN_PATH
from query2label.bundle.files import (
    CARD_NAME,
    CONFIG_NAME,
    PICTURE_NAME,
    WEIGHTS_NAME,
    bundle_digest,
    edit_bundle,
    read_bundle,
    read_weights,
    save_bundle,
)
from query2label.bundle.hub import resolve_bundle_path
from query2label.bundle.schema import SCHEMA_VERSION, Bundle, predicted, scores_from_logits

__all__ = [
    "BUILTIN_DIGEST",
    "BUILTIN_PATH",
    "CARD_NAME",
    "CONFIG_NAME",
    "PICTURE_NAME",
    "SCHEMA_VERSION",
    "WEIGHTS_NAME",
    "Bundle",
    "bundle_digest",
    "edit_bundle",
    "predicted",
    "read_bundle",
    "read_weights",
    "resolve_bundle_path",
    "save_bundle",
    "scores_from_logits",
]
