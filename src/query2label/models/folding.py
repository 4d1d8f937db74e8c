"""Batch normalization folded into the convolution before it: the same function, a pass less over the map."""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CONVOLUTION = torch.ops.aten.convolution.default
_FOLDABLE_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
"""Exactly these, not their subclasses, which may do more."""


def fold_batch_norms(model: nn.Module, image_size: tuple[int, int]) -> torch.Size:
    """Folds, in place, each batch norm whose only input is a convolution that nothing else reads.

    Which these are is not guessed from names: the shapes of one image are run through a copy of the model
    without data, and each operation says what it read.

    Args:
        model: In evaluation mode; images (B, 3, H, W) in.
        image_size: (height, width) of the image.

    A norm's activation, where it has one, stays.

    Returns:
        Shape of the model's output for one such image.
    """
    pairs, shape = _pairs(model, image_size)
    for convolution_name, norm_name in pairs:
        convolution, norm = model.get_submodule(convolution_name), model.get_submodule(norm_name)
        _fold(convolution, norm)
        model.set_submodule(norm_name, _what_remains(norm))
    return shape


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the convolutions and norms of a run, and how often each tensor is read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_reads: dict[int, int] = {}
        self.convolution_of: dict[int, Tensor] = {}
        """Output of a convolution -> its weight, both by identity."""
        self.norm_input: list[tuple[Tensor, Tensor]] = []
        """What each batch norm reads, and its running mean."""
        self._alive: list[Any] = []  # an identity is one tensor's only while that lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in read:
            self.num_reads[id(tensor)] = self.num_reads.get(id(tensor), 0) + 1
        if func is _CONVOLUTION and not args[6]:  # not transposed
            self.convolution_of[id(output)] = args[1]
        elif "batch_norm" in str(func) and len(args) > 3 and isinstance(args[3], Tensor):
            self.norm_input.append((args[0], args[3]))
        self._alive += [*read, output]
        return output


def _pairs(model: nn.Module, image_size: tuple[int, int]) -> tuple[list[tuple[str, str]], torch.Size]:
    """Names of the convolutions and of the norms that can be folded into them; shape of the output."""
    twin = _without_data(model)
    convolutions = {
        id(module.weight): name for name, module in twin.named_modules() if isinstance(module, nn.Conv2d)
    }
    norms = {
        id(module.running_mean): name
        for name, module in twin.named_modules()
        if type(module) in _FOLDABLE_NORMS and module.running_mean is not None
    }
    with torch.no_grad(), _Reads() as reads:
        output = twin(torch.empty(1, 3, *image_size, device="meta"))
    pairs = []
    for tensor, mean in reads.norm_input:
        weight = reads.convolution_of.get(id(tensor))
        once = weight is not None and reads.num_reads[id(tensor)] == reads.num_reads[id(weight)] == 1
        if once and id(weight) in convolutions and id(mean) in norms and reads.num_reads[id(mean)] == 1:
            pairs.append((convolutions[id(weight)], norms[id(mean)]))
    return pairs, output.shape


def _without_data(model: nn.Module) -> nn.Module:
    """A copy on the meta device that takes no memory."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def _fold(convolution: Any, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight.double(),
        None if convolution.bias is None else convolution.bias.double(),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        None if norm.weight is None else norm.weight.double(),
        None if norm.bias is None else norm.bias.double(),
    )
    dtype = convolution.weight.dtype
    convolution.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)


def _what_remains(norm: Any) -> nn.Module:
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
