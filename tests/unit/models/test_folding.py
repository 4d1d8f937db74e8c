import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from query2label.models.folding import fold_batch_norms


def unsettle(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            norm.running_var += torch.rand(norm.running_var.shape, generator=generator)
    return module.eval()


class Branches(nn.Module):
    """A convolution that two norms read, one that a sum reads as well, and a norm that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.summed, self.alone = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shared, summed = self.shared(images), self.summed(images)
        images = self.norms[0](shared) + self.norms[1](shared) + summed + self.norms[2](summed)
        return self.norms[3](self.norms[4](self.alone(images))) + self.norms[3](images)


def num_norms(module: nn.Module) -> int:
    return sum(isinstance(each, nn.BatchNorm2d) for each in module.modules())


@torch.no_grad()
@pytest.mark.parametrize(
    ("module", "num_left"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)), 0),
        (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, dilation=2), nn.BatchNorm2d(6, eps=1e-2)), 0),
        (nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8, act_layer=nn.SiLU)), 0),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)), 2),
        (nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.BatchNorm2d(8)), 1),
        (Branches(), 4),
    ],
    ids=["plain", "grouped", "with activation", "not after a convolution", "transposed", "branches"],
)
def test_fold_batch_norms__keeps_the_function(module: nn.Module, num_left: int) -> None:
    unsettle(module)
    images = torch.randn(2, 3, 12, 10)
    expected = module(images)

    shape = fold_batch_norms(module, (12, 10))

    assert num_norms(module) == num_left
    assert shape[2:] == expected.shape[2:]
    torch.testing.assert_close(module(images), expected, rtol=1e-5, atol=1e-5)
