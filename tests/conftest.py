"""What all tests share: one thread, no network, and the folder of real photos where there is one."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Two OpenMP programs on a small machine slow each other down many times over.
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _offline() -> None:
    # No test may depend on a model hub.
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the real photos and golden values that lie beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data beside the checkout ({SHARED.name}/ is absent)")
    return SHARED


@pytest.fixture(scope="session")
def voc_sample(shared_dir: Path) -> Path:
    """Native PASCAL VOC folder: 651 train and 277 val photos, 15 labels."""
    return shared_dir / "data" / "voc-sample" / "VOC2012"


@pytest.fixture(scope="session")
def ccp(shared_dir: Path) -> Path:
    """Table data set: 1,479 train and 619 test photos, 56 labels."""
    return shared_dir / "data" / "ccp"


@pytest.fixture(scope="session")
def coco_sample(shared_dir: Path) -> Path:
    """Native COCO folder: 208 train and 204 val photos, 80 labels."""
    return shared_dir / "data" / "coco-sample"
