"""What a run ran on: versions, machine, device."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from query2label.training.distributed import Ranks

_PACKAGES = ("query2label", "torchvision", "timm", "numpy", "pillow", "safetensors")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def describe_environment(ranks: Ranks) -> dict[str, object]:
    """What `environment.json` says."""
    cuda = ranks.device.type == "cuda"
    return {
        "versions": package_versions(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(ranks.device.type),
        "device_name": torch.cuda.get_device_name(ranks.device) if cuda else "cpu",
        "world_size": ranks.world_size,
    }
