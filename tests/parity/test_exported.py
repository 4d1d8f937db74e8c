"""Exported files score photos as the torch model does: backbone families, heads, and photos of all kinds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.export.run import export_bundle
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model, load_model
from query2label.preprocess import PreprocessSpec, preprocess

SIZE = (96, 128)
K = 7
MODELS: dict[str, dict[str, object]] = {
    "resnet, three layers": {"backbone": "test_resnet", "num_decoder_layers": 3},
    "byobnet, feature norm": {"backbone": "test_byobnet", "feature_norm": True},
    "efficientnet, as wide as its map": {"backbone": "test_efficientnet", "hidden_dim": None},
    "tf_efficientnet_lite0, direct": {
        "backbone": "tf_efficientnet_lite0",
        "attention": "direct",
        "num_encoder_layers": 0,
        "num_decoder_layers": 1,
        "feedforward_dim": 0,
        "feature_norm": True,
    },
    "convnext, all self-attention": {
        "backbone": "test_convnext2",
        "first_self_attention": True,
        "other_self_attention": True,
    },
    "mambaout, no encoder": {"backbone": "test_mambaout", "num_encoder_layers": 0},
    "vit": {"backbone": "test_vit"},
    "cvt": {"backbone": "test_cvt"},
    "swin": {"backbone": "swin_tiny_patch4_window7_224"},
    "resnet, linear": {"backbone": "test_resnet", "head": "linear", "feature_norm": True},
    "resnet, csra": {"backbone": "test_resnet", "head": "csra", "csra_num_heads": 4},
    "resnet, ml_decoder": {"backbone": "test_resnet", "head": "ml_decoder", "ml_decoder_num_groups": 3},
}
RUNTIMES = {"onnx": "model.onnx", "openvino": "model.xml"}
PAIRS = [(name, runtime) for name in MODELS for runtime in RUNTIMES if (name, runtime) != ("swin", "onnx")]
"""All but one that takes long; its way to OpenVINO leads through ONNX anyway."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """EXIF-rotated, grey, 16-bit, CMYK, palette, transparent, odd-sized and tiny photos."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)

    def noise(height: int, width: int) -> Image.Image:
        coarse = generator.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        noise(75, 133).save(folder / f"turned-{orientation}.jpg", exif=exif)
    noise(60, 61).convert("L").save(folder / "grey.jpg")
    noise(97, 51).convert("CMYK").save(folder / "cmyk.jpg")
    noise(33, 200).convert("P").save(folder / "palette.png")
    clear = noise(64, 64)
    clear.putalpha(Image.linear_gradient("L").resize((64, 64)))
    clear.save(folder / "clear.png")
    Image.fromarray(generator.integers(0, 65536, (40, 30), dtype=np.uint16)).save(folder / "deep.png")
    noise(1, 3).save(folder / "tiny.png")
    noise(401, 299).save(folder / "odd.webp")
    return sorted(folder.iterdir())


def save_model(folder: Path, **settings: object) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(**{"weights": "none", "hidden_dim": 16, **settings})
    model = build_model(config, K, image_size=SIZE).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 0.1 * torch.randn(module.running_mean.shape)
                module.running_var *= torch.rand(module.running_var.shape) + 0.5
        if config.attention == "direct":  # it starts at zero
            for parameter in model.head.parameters():
                nn.init.normal_(parameter, std=0.3)
    model.bundle = Bundle(
        model=config,
        labels=tuple(f"label {index}" for index in range(K)),
        preprocess=PreprocessSpec(image_size=SIZE),
        thresholds=(0.5,) * K,
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "runtime"), PAIRS)
@pytest.mark.slow
def test_exported__gives_the_scores_of_torch(
    name: str, runtime: str, photos: list[Path], tmp_path: Path
) -> None:
    bundle, path = save_model(tmp_path / "bundle", **MODELS[name]), tmp_path / RUNTIMES[runtime]
    model = load_model(bundle)
    pixels = np.stack([preprocess(photo, model.bundle.preprocess) for photo in photos])
    with torch.inference_mode():
        expected = model.bundle.scores(model(torch.from_numpy(pixels)).numpy())

    verification = export_bundle(bundle, path, to=runtime, images=photos[:3], threads=1)

    assert verification.max_difference < 1e-4
    predictor = Predictor.load(path, threads=1)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the photos differ
    for batch_size in (1, 3, 16):
        predictions = predictor(photos, batch_size=batch_size)
        scores = np.array([list(prediction.scores.values()) for prediction in predictions])
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
