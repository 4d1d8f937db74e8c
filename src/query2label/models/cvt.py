"""CvT, a vision transformer with convolutions: the backbone of the strongest published Query2Label model.

timm has none. It differs from a plain vision transformer in four ways: three stages, each with a convolution
as patch embedding; no position encoding; queries, keys and values come from depth-wise convolutions over the
tokens' grid, keys and values at half of its resolution; and the softmax scale is that of the embedding's
width, not of one head's. Names are those of Microsoft's weights.
"""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional

_IMAGENET: Final = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bicubic"}
_EMBEDDINGS: Final = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
"""Kernel, stride and padding of each stage's patch embedding."""


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), with which these weights were trained; the exact GELU gives other features."""

    def forward(self, tokens: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The activated tokens."""
        return tokens * torch.sigmoid(1.702 * tokens)


class PatchEmbedding(nn.Module):
    """A convolution with stride, then LayerNorm over channels."""

    def __init__(self, in_channels: int, dim: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Float[Tensor, "B C height width"]) -> Float[Tensor, "B H W D"]:
        """The grid of embedded patches, channels last."""
        output: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return output


class ConvAttention(nn.Module):
    """Self-attention whose queries, keys and values are convolved on the grid, then projected.

    Tokens in front of the grid's (a class token) skip the convolution.
    """

    def __init__(self, dim: int, num_heads: int, num_prefix_tokens: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_prefix_tokens = num_prefix_tokens
        self.scale = dim**-0.5
        self.conv_proj_q, self.conv_proj_k, self.conv_proj_v = (
            _depthwise(dim, stride) for stride in (1, 2, 2)
        )
        self.proj_q, self.proj_k, self.proj_v, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, tokens: Float[Tensor, "B T D"], height: int, width: int) -> Float[Tensor, "B T D"]:
        """Attended values; the last `height * width` tokens are the grid's, in raster order."""
        prefix = tokens[:, : self.num_prefix_tokens]
        grid = _as_map(tokens[:, self.num_prefix_tokens :], height, width)
        query, key, value = (
            self._split(self._project(projection, prefix, convolution(grid)))
            for convolution, projection in (
                (self.conv_proj_q, self.proj_q),
                (self.conv_proj_k, self.proj_k),
                (self.conv_proj_v, self.proj_v),
            )
        )
        attended = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output

    def _project(self, projection: nn.Module, prefix: Tensor, grid: Tensor) -> Tensor:
        """Both projected, then joined: OpenVINO cannot compute a product of joined tokens in 8 bits."""
        tokens: Tensor = projection(grid.flatten(2).transpose(1, 2))
        return torch.cat([projection(prefix), tokens], dim=1) if self.num_prefix_tokens else tokens

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Attention and feed-forward part, each normalized first and added."""

    def __init__(self, dim: int, num_heads: int, num_prefix_tokens: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ConvAttention(dim, num_heads, num_prefix_tokens)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(dim, 4 * dim))
        self.mlp.add_module("act", QuickGELU())
        self.mlp.add_module("fc2", nn.Linear(4 * dim, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Float[Tensor, "B T D"], height: int, width: int) -> Float[Tensor, "B T D"]:
        """The tokens after both parts."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), height, width))
        output: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return output


class Stage(nn.Module):
    """Patch embedding and blocks; a class token, where there is one, joins the grid's tokens in the blocks.

    Args:
        in_channels: Channels of the map that comes in.
        dim: Width D.
        depth: Number of blocks.
        num_heads: Attention heads.
        embedding: Kernel, stride and padding of the patch embedding.
        class_token: Whether there is a class token.
        drop_path: Probability that the last block's parts are skipped in training; less before it.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        embedding: tuple[int, int, int],
        class_token: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        self.patch_embed = PatchEmbedding(in_channels, dim, *embedding)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, int(class_token), drop_path * index / max(1, depth - 1))
            for index in range(depth)
        )

    def forward(self, images: Float[Tensor, "B C height width"]) -> Float[Tensor, "B D H W"]:
        """The grid of tokens after all blocks, without the class token."""
        grid = self.patch_embed(images)
        height, width = grid.shape[1:3]
        tokens = grid.flatten(1, 2)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, height, width)
        if self.cls_token is not None:
            tokens = tokens[:, 1:]
        return _as_map(tokens, height, width)


class CvT(nn.Module):
    """Convolutional vision transformer without classifier.

    Args:
        dims: Width of each of the three stages.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        drop_path_rate: Of the last stage's last block; only this stage skips parts, and has a class token.

    Source:
        Wu et al. (2021), arXiv:2103.15808.
    """

    def __init__(
        self,
        dims: tuple[int, int, int],
        depths: tuple[int, int, int],
        num_heads: tuple[int, int, int],
        *,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_info = []
        reduction, in_channels = 1, 3
        for index, dim in enumerate(dims):
            last = index == len(dims) - 1
            stage = Stage(
                in_channels,
                dim,
                depths[index],
                num_heads[index],
                embedding=_EMBEDDINGS[index],
                class_token=last,
                drop_path=drop_path_rate if last else 0.0,
            )
            self.add_module(f"stage{index}", stage)
            reduction, in_channels = reduction * _EMBEDDINGS[index][1], dim
            self.feature_info.append({"num_chs": dim, "reduction": reduction, "module": f"stage{index}"})
        self.norm = nn.LayerNorm(dims[-1])
        self.num_features = dims[-1]
        self.apply(_initialize)

    def forward_features(self, images: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B C H W"]:
        """The last stage's map, normalized."""
        features: Tensor = images
        for stage in (self.stage0, self.stage1, self.stage2):
            features = cast(Stage, stage)(features)
        output: Tensor = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return output

    def forward(self, images: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B C H W"]:
        """As `forward_features`: there is no classifier."""
        return self.forward_features(images)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """How timm tells stages (or blocks) from parameters' names."""
        return {
            "stem": r"^stage0\.patch_embed",
            "blocks": r"^stage(\d+)" if coarse else r"^stage(\d+)(?:\.blocks\.(\d+))?",
        }


def _as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def _depthwise(dim: int, stride: int) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(dim, dim, 3, stride, padding=1, groups=dim, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(dim))
    return layers


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Stage) and module.cls_token is not None:
        nn.init.trunc_normal_(module.cls_token, std=0.02)


default_cfgs = generate_default_cfgs(
    {
        "cvt_w24": {**_IMAGENET, "input_size": (3, 384, 384), "num_classes": 0, "classifier": "head"},
        "test_cvt": {**_IMAGENET, "input_size": (3, 96, 96), "num_classes": 0, "classifier": "head"},
    }
)
"""What timm's registry knows of the models below; weights files may hold the classifier `head`."""


@register_model
def cvt_w24(pretrained: bool, **options: Any) -> CvT:
    """CvT-W24: 276 million parameters, feature map of stride 16 with 1,024 channels."""
    sizes = {"dims": (192, 768, 1024), "depths": (2, 2, 20), "num_heads": (3, 12, 16), "drop_path_rate": 0.3}
    return _create("cvt_w24", pretrained, sizes | options)


@register_model
def test_cvt(pretrained: bool, **options: Any) -> CvT:
    """A tiny CvT for tests."""
    sizes = {"dims": (16, 32, 64), "depths": (1, 1, 2), "num_heads": (1, 2, 4)}
    return _create("test_cvt", pretrained, sizes | options)


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> CvT:
    not_ours: Any = ("num_classes", "in_chans", "global_pool")  # timm's annotation allows one name only
    model: CvT = build_model_with_cfg(CvT, name, pretrained, kwargs_filter=not_ours, **options)
    return model
