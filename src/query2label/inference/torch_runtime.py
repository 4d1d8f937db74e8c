"""The reference runtime: the PyTorch model itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from query2label.errors import ConfigError
from query2label.models.build import load_model
from query2label.models.query2label import Query2Label


class TorchRuntime:
    """Computes logits with a model in evaluation mode, in float32, without gradients.

    Args:
        model: The model; it stays as it is, a copy that is optimized for inference is used.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
    """

    def __init__(self, model: Query2Label, *, device: str = "auto") -> None:
        self.device = choose_device(device)
        self.model = model.optimize_for_inference().to(self.device)

    @classmethod
    def load(cls, path: Path, *, device: str = "auto") -> TorchRuntime:
        """The runtime of a bundle folder."""
        chosen = str(choose_device(device))  # a wrong device is said before the weights are read
        return cls(load_model(path), device=chosen)

    @torch.inference_mode()
    def __call__(self, images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        """Logits of normalized float32 images."""
        logits: np.ndarray = self.model(torch.from_numpy(images).to(self.device)).float().cpu().numpy()
        return logits


def choose_device(name: str) -> torch.device:
    """The torch device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: If there is no such device on this machine.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(
            f"There is no device {name!r} here: use auto, cpu, or one that `q2l doctor` lists."
        ) from None
    return device
