"""Checkpoints of the authors' code, published or of one's own training, as models with a bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from query2label.bundle import Bundle
from query2label.errors import BundleError, ConfigError, DataError
from query2label.labels import LabelSet
from query2label.models.build import build_model, restore_model
from query2label.models.coco_labels import COCO_LABELS
from query2label.models.published_forms import Form, recognize
from query2label.models.published_names import to_our_names
from query2label.models.query2label import Query2Label
from query2label.models.weights import named_tensors, read_checkpoint

_AVERAGED: Final = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
_PLAIN: Final = ("state_dict", "model")
_PARALLEL: Final = "module."
"""What PyTorch puts before every name of a model that trains on several GPUs."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model of the paper."""

    name: str
    backbone: str
    image_size: int
    mean_average_precision: float
    """As its authors report it, in [0, 1]."""


PUBLISHED_MODELS: Final = (
    PublishedModel("Q2L-R101-448", "resnet101.tv_in1k", 448, 0.849),
    PublishedModel("Q2L-R101-576", "resnet101.tv_in1k", 576, 0.865),
    PublishedModel("Q2L-TResL-448", "tresnet_l.miil_in1k_448", 448, 0.873),
    PublishedModel("Q2L-TResL_22k-448", "tresnet_v2_l.miil_in21k", 448, 0.892),
    PublishedModel("Q2L-SwinL-384", "swin_large_patch4_window12_384.ms_in22k", 384, 0.905),
    PublishedModel("Q2L-CvT_w24-384", "cvt_w24", 384, 0.913),
)


def load_published(
    path: Path, *, num_heads: int = 4, use_ema: bool = True, label_names: Sequence[str] | None = None
) -> Query2Label:
    """The model of a checkpoint that the authors' code wrote, in evaluation mode, with its `bundle`.

    Which backbone it has, and every size, is told from the names and shapes of its tensors. Nothing in the
    file is executed.

    Args:
        path: PyTorch or `.safetensors` file.
        num_heads: Attention heads, which no shape tells; 4 in all published models.
        use_ema: Where the file holds averaged weights (EMA) beside the plain ones, take those.
        label_names: In output order; unset: MS-COCO's where there are 80 labels, else `label 0`, ...

    A file that cannot be opened safely, and a checkpoint of another model, are each a `BundleError`; heads or
    names that do not fit are a `ConfigError`.

    Raises:
        ConfigError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise ConfigError(f"The checkpoint {path} {what}: give the file as it was downloaded or trained.")
    source = f"The checkpoint {path}"
    weights, kind = _choose_weights(path, use_ema=use_ema)
    form = recognize(weights, num_heads=num_heads, source=source)
    bundle = _describe(form, _label_set(form.num_labels, label_names), f"{path.name} ({kind})")
    with torch.device("meta"):
        names = build_model(form.model, form.num_labels, image_size=form.preprocess.image_size).state_dict()
    ours = to_our_names(weights, names, form.family, source=source)
    return restore_model(bundle, ours, source=source)


def _choose_weights(path: Path, *, use_ema: bool) -> tuple[dict[str, Tensor], str]:
    """The state dict of a checkpoint, and which one it is, in words.

    Raises:
        BundleError: If its tensors claim to be larger than the file.
    """
    content: Any = read_checkpoint(path)
    kind = "the only weights in it"
    if isinstance(content, Mapping):
        keys = (*_AVERAGED, *_PLAIN) if use_ema else (*_PLAIN, *_AVERAGED)
        found = [key for key in keys if isinstance(content.get(key), Mapping)]
        if found:
            content, kind = content[found[0]], _in_words(found[0], found[1:], content[found[0]])
    weights = named_tensors(content, path)
    if sum(tensor.nbytes for tensor in weights.values()) > path.stat().st_size:
        raise BundleError(f"The checkpoint {path} claims tensors larger than itself: it is refused.")
    while weights and _is_parallel(weights):
        weights = {name.removeprefix(_PARALLEL): tensor for name, tensor in weights.items()}
    return weights, kind


def _in_words(key: str, others: Sequence[str], names: Iterable[str]) -> str:
    if key in _AVERAGED:
        return f"its averaged weights (EMA), {key}"
    if any(other in _AVERAGED for other in others) or _is_parallel(names):
        return f"its plain weights, not averaged ones, {key}"
    return f"its only weights, {key}; averaged ones (EMA) if the authors' trainer wrote it"


def _is_parallel(names: Iterable[str]) -> bool:
    return all(str(name).startswith(_PARALLEL) for name in names)


def _label_set(num_labels: int, label_names: Sequence[str] | None) -> LabelSet:
    """The labels in output order.

    Raises:
        ConfigError: If there are more or fewer names than outputs, or they are no set of names.
    """
    if label_names is None:
        numbered = [f"label {index}" for index in range(num_labels)]
        return LabelSet(COCO_LABELS if num_labels == len(COCO_LABELS) else numbered)
    if len(label_names) != num_labels:
        raise ConfigError(
            f"There are {len(label_names)} label names for a checkpoint with {num_labels} labels: "
            "give one name per output, in output order."
        )
    try:
        return LabelSet(label_names)
    except DataError as error:
        raise ConfigError(str(error)) from None


def _describe(form: Form, labels: LabelSet, file: str) -> Bundle:
    published = published_model(form)
    likeness = f"; it has the form of the published {published.name}" if published else ""
    return Bundle(
        model=form.model,
        labels=labels.names,
        preprocess=form.preprocess,
        thresholds=(0.5,) * len(labels),
        threshold_rule="fixed 0.5, not fitted",
        metrics={"published": _reported(published)} if published else {},
        origin=f"Imported from a checkpoint of the authors' code (arXiv:2107.10834), {file}{likeness}.",
        versions={name: importlib.metadata.version(name) for name in ("query2label", "torch", "timm")},
    )


def published_model(form: Form) -> PublishedModel | None:
    """The model of the paper that has this form, with the paper's 80 labels; None for any other."""
    head = {"num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 2, "keep_input_projection": False}
    head |= {"first_self_attention": False, "other_self_attention": False}
    alike = form.num_labels == len(COCO_LABELS) and all(
        getattr(form.model, name) == value for name, value in head.items()
    )
    for model in PUBLISHED_MODELS:
        size = (model.image_size, model.image_size)
        if alike and (form.model.backbone, form.preprocess.image_size) == (model.backbone, size):
            return model
    return None


def _reported(model: PublishedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "mAP": model.mean_average_precision,
        "protocol": "coco14-all (40,504 validation images of MS-COCO 2014, interpolated average precision)",
        "measured": "by its authors for the weights that they published, not for this file",
    }
