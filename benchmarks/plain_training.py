"""Training as one would write it down at first: what `train_step.py` and `loader.py` measure against.

Pillow and torchvision's transforms one image at a time, float tensors in PyTorch's DataLoader, channels
first, AdamW parameter by parameter, a naive average of the weights, and two looks at the loss in each step.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from query2label.config import AugmentConfig, OptimConfig
from query2label.losses import Loss
from query2label.preprocess import PreprocessSpec
from query2label.training.optim import parameter_groups


class PlainImages(torch.utils.data.Dataset[Tensor]):
    """Augmented, normalized images, as most training scripts make them."""

    def __init__(self, paths: list[Path], spec: PreprocessSpec, augment: AugmentConfig) -> None:
        self.paths = paths
        steps = [
            transforms.RandomResizedCrop(spec.image_size, scale=(augment.crop_min_area, 1)),
            transforms.RandomHorizontalFlip(augment.flip),
            transforms.RandAugment(augment.randaugment_num_ops, augment.randaugment_magnitude),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.open(self.paths[index]).convert("RGB"))
        return image


class PlainTraining:
    """A network, its optimizer and its average.

    Args:
        network: Images in, logits out; in training mode.
        loss_function: Ours, so that the loss curves can be compared.
        optim: Rates, decay and largest gradient norm; the rate stays at its peak.
        ema_decay: Of the average.
    """

    def __init__(self, network: nn.Module, loss_function: Loss, optim: OptimConfig, ema_decay: float) -> None:
        self.network, self.loss_function = network, loss_function
        self.clip_norm, self.ema_decay = optim.clip_norm, ema_decay
        groups = parameter_groups(network.named_parameters(), optim)
        betas = (optim.beta1, optim.beta2)
        self.optimizer = torch.optim.AdamW(groups, betas=betas, foreach=False, fused=False)
        self.average = copy.deepcopy(network).eval()

    def step(self, images: Tensor, targets: Tensor, number: int) -> float:
        """One step; its loss."""
        self.optimizer.zero_grad()
        loss = self.loss_function(self.network(images), targets)
        if not torch.isfinite(loss).item():
            raise RuntimeError("the loss is not finite")
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm, foreach=False)
        self.optimizer.step()
        decay = min(self.ema_decay, (1 + number) / (10 + number))
        averaged = self.average.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                averaged[name].copy_(decay * averaged[name] + (1 - decay) * value)
            else:
                averaged[name].copy_(value)
        return loss.item()
