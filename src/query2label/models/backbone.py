"""Any timm model that can give a spatial feature map, behind one interface: images in, (B, C, H, W) out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from timm.models import group_parameters
from torch import Tensor, nn

from query2label.errors import ConfigError
from query2label.models.timm_models import build_timm_model
from query2label.preprocess import Interpolation

FreezePart = Literal["none", "stem", "all"]
Layout = Literal["channels first", "channels last", "tokens"]


@dataclass(frozen=True, slots=True)
class PretrainedSpec:
    """What images a backbone's pretrained weights were made with."""

    mean: tuple[float, float, float]
    """RGB mean in [0, 1]."""
    std: tuple[float, float, float]
    """RGB standard deviation in [0, 1]."""
    interpolation: Interpolation
    """Of the resize."""
    image_size: tuple[int, int]
    """(height, width) in pixels."""


class SpatialBackbone(nn.Module):
    """Adapter that makes a timm model's last features a (B, C, H, W) map.

    CNNs give (B, C, H, W) already, Swin-like nets (B, H, W, C); of token models timm itself lays out the
    patch tokens and leaves class and register tokens away. What a model gives is found by running its shapes
    (on the meta device: no arithmetic), and so are parameters that the map does not depend on, like those of
    a classifier's norm: they are set not to learn.

    Args:
        model: A timm model without classifier.
        image_size: (height, width) that it must be able to take; unset: what it was pretrained with.

    A model that gives no such map is a `ConfigError`.
    """

    def __init__(self, model: Any, *, image_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.model: Any = model
        self.pretrained_spec = _pretrained_spec(model)
        self.architecture: str = model.pretrained_cfg["architecture"]
        self.layout: Layout = "channels first"
        self.frozen_part: FreezePart = "none"
        self._frozen_modules: list[str] = []
        self.num_channels = _probe(self, image_size or self.pretrained_spec.image_size)

    def forward(self, images: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B C H W"]:
        """Feature maps of normalized images; outside autograd where the whole backbone is frozen."""
        if self.frozen_part == "all":
            with torch.no_grad():
                return self._feature_map(images)
        return self._feature_map(images)

    def freeze(self, part: FreezePart, *, norm: bool = False) -> None:
        """Keeps a part of the backbone as it is from now on: out of autograd, and always in evaluation mode.

        Args:
            part: `stem` is the stem and the first stage (a plain ViT has no stages: the first block).
            norm: Also freeze the weights and statistics of all normalization layers.

        A model whose first stage timm does not know is a `ConfigError` for `stem`.
        """
        self.frozen_part = part
        if part == "all":
            self._freeze_modules([""])
        elif part == "stem":
            self._freeze_stem()
        if norm:
            self._freeze_modules([name for name, module in self.model.named_modules() if _is_norm(module)])
        self.train(self.training)

    def train(self, mode: bool = True) -> SpatialBackbone:
        """Training or evaluation mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for name in self._frozen_modules:
            self.model.get_submodule(name).eval()
        return self

    def _feature_map(self, images: Tensor) -> Tensor:
        if self.layout == "tokens":
            return _token_map(self.model, images)
        features: Tensor = self.model.forward_features(images)
        return features.permute(0, 3, 1, 2) if self.layout == "channels last" else features

    def _freeze_stem(self) -> None:
        if not hasattr(self.model, "group_matcher"):
            raise ConfigError(
                f"timm does not say where the first stage of {self.architecture} ends: "
                "set model.freeze to none or all."
            )
        groups = group_parameters(self.model, self.model.group_matcher(coarse=True))
        frozen = {*groups[0], *groups[1]}
        for name in frozen:
            self.model.get_parameter(name).requires_grad_(False)
        names = [name for name, _ in self.model.named_parameters()]
        whole = []
        for module, _ in self.model.named_modules():
            inner = {name for name in names if name.startswith(f"{module}.")}
            if inner and inner <= frozen:
                whole.append(module)
        self._freeze_modules(whole)

    def _freeze_modules(self, names: list[str]) -> None:
        self._frozen_modules += names
        for name in names:
            self.model.get_submodule(name).requires_grad_(False)


def build_backbone(
    name: str,
    *,
    weights: str = "pretrained",
    image_size: tuple[int, int] | None = None,
    output_stride: int | None = None,
) -> SpatialBackbone:
    """A backbone by its timm name, with or without the tag of its weights.

    Args:
        name: For example `resnet50` or `resnet50.a1_in1k`.
        weights: `pretrained` (an installed package, the hub's cache, or the hub), `none`, or a file's path.
        image_size: (height, width) that it must be able to take; unset: what it was pretrained with.
        output_stride: Pixels per step of the feature map, by dilation; unset: the model's own (32 for most).

    A name that timm does not know, weights that cannot be had and a model without a spatial map are each a
    `ConfigError`; weights that do not fit are a `BundleError`.
    """
    model = build_timm_model(name, weights=weights, image_size=image_size, output_stride=output_stride)
    return SpatialBackbone(model, image_size=image_size)


def _is_norm(module: nn.Module) -> bool:
    # By name, since norms come from torch and from timm; a block that only holds a norm has it as a child.
    return "Norm" in type(module).__name__ and len(list(module.parameters())) == len(
        list(module.parameters(recurse=False))
    )


def _token_map(model: Any, images: Tensor) -> Tensor:
    (features,) = model.forward_intermediates(
        images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    if isinstance(getattr(model, "norm", None), nn.Identity) and hasattr(model, "fc_norm"):
        # Pooling models normalize after their average; here there is none, so each token is normalized.
        features = model.fc_norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return features  # type: ignore[no-any-return]


def _pretrained_spec(model: Any) -> PretrainedSpec:
    settings = model.pretrained_cfg
    return PretrainedSpec(
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
        image_size=tuple(settings["input_size"][1:]),
    )


class _LastFeatures(nn.Module):
    """What a timm model gives before its classifier, whatever that is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Any:
        return self.model.forward_features(images)


def _probe(backbone: SpatialBackbone, image_size: tuple[int, int]) -> int:
    """Finds a backbone's layout and number of channels, and stops parameters that the map does not need.

    Raises:
        ConfigError: If there is no map.
    """
    backbone.train()  # in evaluation mode, some models would keep tensors of this run
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():  # whatever the caller is in
            features, _ = _run_shapes(_LastFeatures(backbone.model), image_size)
            backbone.layout = _layout(backbone.model, features)
            features, parameters = _run_shapes(backbone, image_size)
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                features.sum(), list(parameters.values()), allow_unused=True
            )
    except (RuntimeError, AssertionError, ValueError, TypeError, NotImplementedError) as error:
        height, width = image_size
        reason = (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"Backbone {backbone.architecture} gives no spatial feature map of images of {height} x {width} "
            f"pixels (height x width): {reason}. Choose another backbone or data.image_size."
        ) from None
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            backbone.get_parameter(name).requires_grad_(False)
    return int(features.shape[1])


def _run_shapes(module: nn.Module, image_size: tuple[int, int]) -> tuple[Any, dict[str, Tensor]]:
    """The output of `module` on the meta device, and the parameters that stood in for its own."""
    parameters = {
        name: torch.empty_like(parameter, device="meta", requires_grad=True)
        for name, parameter in module.named_parameters()
    }
    buffers = {name: torch.empty_like(buffer, device="meta") for name, buffer in module.named_buffers()}
    images = torch.empty(2, 3, *image_size, device="meta")
    return torch.func.functional_call(module, {**parameters, **buffers}, (images,)), parameters


def _layout(model: Any, features: object) -> Layout:
    if not isinstance(features, Tensor):
        raise TypeError(f"it ends in a {type(features).__name__} of tensors, not in one map")
    if features.ndim == 4:
        return "channels last" if str(getattr(model, "output_fmt", "NCHW")) == "NHWC" else "channels first"
    if features.ndim == 3 and hasattr(model, "forward_intermediates"):
        return "tokens"
    raise TypeError(f"its features have the shape {tuple(features.shape)}")
