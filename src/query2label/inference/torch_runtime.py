"""The reference runtime: the PyTorch model itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from query2label.errors import ConfigError
from query2label.inference.threads import choose_threads
from query2label.models.build import load_model
from query2label.models.grad_cam import grad_cam
from query2label.models.heads import Head
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
    def load(cls, path: Path, *, device: str = "auto", threads: int | None = None) -> TorchRuntime:
        """The runtime of a bundle folder.

        Args:
            path: The folder.
            device: As for a model.
            threads: Of this whole process; unset: as many as it may use, unless torch was told otherwise.
        """
        chosen = str(choose_device(device))  # a wrong device is said before the weights are read
        if threads is not None or choose_threads() < torch.get_num_threads():
            torch.set_num_threads(choose_threads(threads))
        return cls(load_model(path), device=chosen)

    @torch.inference_mode()
    def __call__(self, images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        """Logits of normalized float32 images."""
        logits: np.ndarray = self.model(torch.from_numpy(images).to(self.device)).float().cpu().numpy()
        return logits

    @property
    def has_attention(self) -> bool:
        """Whether the model's head has attention maps."""
        return type(self.model.head).forward_with_attention is not Head.forward_with_attention

    @torch.inference_mode()
    def with_attention(
        self, images: Float[np.ndarray, "B 3 H W"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B L M K h w"]]:
        """Logits and attention maps of normalized float32 images; a head without them is a `ConfigError`."""
        logits, attention = self.model.forward_with_attention(torch.from_numpy(images).to(self.device))
        return logits.float().cpu().numpy(), attention.transpose(0, 1).float().cpu().numpy()

    def grad_cam(
        self, images: Float[np.ndarray, "B 3 H W"], label_indices: Sequence[int]
    ) -> Float[np.ndarray, "B k h w"]:
        """How much each cell of the feature map raises the logit of each label; 0 or more."""
        with torch.no_grad():
            features = self.model.forward_features(torch.from_numpy(images).to(self.device))
        maps = grad_cam(self.model, features, label_indices)
        return maps.float().cpu().numpy()


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
