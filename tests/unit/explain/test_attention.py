from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.errors import ConfigError, DataError, ImageError
from query2label.explain.attention import explain_image, map_on_image
from query2label.export.run import export_bundle
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec, resize_image

LABELS = ("cat", "dog", "bird", "cow", "fish", "ant", "bee")


def make_predictor(folder: Path, *, thresholds: float = 0.5, head: str = "query2label") -> Predictor:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16, head=head)
    model = build_model(config, len(LABELS), image_size=(64, 96))
    model.bundle = Bundle(
        model=config,
        labels=LABELS,
        preprocess=PreprocessSpec(image_size=(64, 96)),
        thresholds=(thresholds,) * len(LABELS),
    )
    model.save_pretrained(folder / head)
    return Predictor.load(folder / head, device="cpu")


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return make_predictor(tmp_path)


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


def test_explain_image__maps_are_the_last_layers_mean_over_heads(
    predictor: Predictor, image: Image.Image
) -> None:
    explanation = explain_image(predictor, image, labels=["bird", "cat"])
    assert list(explanation.maps) == ["bird", "cat"]
    from query2label.preprocess import preprocess

    pixels = torch.from_numpy(preprocess(image, predictor.bundle.preprocess)[None])
    with torch.inference_mode():
        _, attention = predictor.runtime.model.forward_with_attention(pixels)
    for label, index in (("bird", 2), ("cat", 0)):
        expected = attention[-1, 0, :, index].mean(dim=0).numpy()
        np.testing.assert_allclose(explanation.maps[label], expected, atol=1e-6)
        assert explanation.maps[label].sum() == pytest.approx(1, abs=1e-5)
    assert explanation.prediction == predictor(image)
    assert explanation.image.size == (70, 50)
    heat = explanation.map_on_image("bird", (25, 35))
    assert heat.shape == (25, 35)
    assert heat.max() == pytest.approx(1)


def test_explain_image__shows_the_best_predicted_labels(tmp_path: Path, image: Image.Image) -> None:
    everything = explain_image(make_predictor(tmp_path, thresholds=0.0), image)
    assert tuple(everything.maps) == everything.prediction.labels[:5]
    nothing = explain_image(make_predictor(tmp_path, thresholds=1.0), image)
    assert nothing.prediction.labels == ()
    assert list(nothing.maps) == [max(nothing.prediction.scores, key=nothing.prediction.scores.get)]


def test_explain_image__names_the_file(predictor: Predictor, image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "x.png")
    assert explain_image(predictor, tmp_path / "x.png").prediction.source == str(tmp_path / "x.png")


def test_explain_image__says_what_does_not_work(
    predictor: Predictor, image: Image.Image, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="Unknown label 'dug'"):
        explain_image(predictor, image, labels=["dug"])
    with pytest.raises(ImageError, match="no such file"):
        explain_image(predictor, tmp_path / "nowhere.png")
    other = Predictor(predictor.bundle, lambda images: np.zeros((len(images), 7), dtype=np.float32))
    with pytest.raises(ConfigError, match="gives no attention maps: load the bundle"):
        explain_image(other, image)
    with pytest.raises(ConfigError, match="attention"):
        explain_image(make_predictor(tmp_path, head="linear"), image)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(120, 120), (90, 160), (200, 100)])
def test_map_on_image__lies_where_the_thing_is(resize: str, size: tuple[int, int]) -> None:
    height, width = size
    spec = replace_size(PreprocessSpec(image_size=(96, 128), resize=resize))
    for row, column in ((0.5, 0.5), (0.4, 0.6), (0.6, 0.35)):
        top, left = int(row * height) - 8, int(column * width) - 8
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[top : top + 16, left : left + 16] = 255
        seen = np.asarray(resize_image(Image.fromarray(pixels), spec), dtype=np.float64)[..., 0]
        cells = seen.reshape(24, 4, 32, 4).mean(axis=(1, 3))
        heat = map_on_image(cells, size, spec, shown=size)
        rows, columns = np.mgrid[0:height, 0:width] + 0.5
        centre = ((heat * rows).sum() / heat.sum(), (heat * columns).sum() / heat.sum())
        assert centre == pytest.approx((top + 8, left + 8), abs=1.5)


def replace_size(spec: PreprocessSpec) -> PreprocessSpec:
    # Padding has the mean colour: black here, as the background.
    return spec.model_copy(update={"mean": (0.0, 0.0, 0.0)})


def test_map_on_image__what_a_crop_cuts_away_has_no_attention() -> None:
    spec = PreprocessSpec(image_size=(32, 32), resize="crop")
    heat = map_on_image(np.ones((4, 4)), (100, 200), spec, shown=(50, 100))
    assert np.all(heat[:, 25:75] == 1)
    assert np.all(heat[:, :25] == 0)
    assert np.all(heat[:, 75:] == 0)


def test_map_on_image__of_nothing_stays_finite() -> None:
    spec = PreprocessSpec(image_size=(32, 32))
    assert not map_on_image(np.zeros((4, 4)), (10, 10), spec, shown=(10, 10)).any()


def test_explanation__is_frozen(predictor: Predictor, image: Image.Image) -> None:
    explanation = explain_image(predictor, image)
    assert replace(explanation, maps={}).maps == {}
    with pytest.raises(AttributeError):
        explanation.maps = {}


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_explain_image__of_an_exported_file_agrees_with_its_bundle(
    tmp_path: Path, image: Image.Image, suffix: str
) -> None:
    predictor = make_predictor(tmp_path)
    plain, path = tmp_path / f"plain{suffix}", tmp_path / f"model{suffix}"
    target = "onnx" if suffix == ".onnx" else "openvino"
    export_bundle(tmp_path / "query2label", path, to=target, attention=True)
    expected = explain_image(predictor, image, labels=["cow", "ant"])
    found = explain_image(Predictor.load(path), image, labels=["cow", "ant"])
    for label in ("cow", "ant"):
        np.testing.assert_allclose(found.maps[label], expected.maps[label], atol=1e-5)
    export_bundle(tmp_path / "query2label", plain, to=target)
    with pytest.raises(ConfigError, match="exported without attention maps: q2l export --attention"):
        explain_image(Predictor.load(plain), image)
