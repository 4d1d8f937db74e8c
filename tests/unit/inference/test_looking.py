from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.errors import ConfigError, DataError, ImageError
from query2label.export.run import export_bundle
from query2label.inference.heat import map_on_image
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec, preprocess, resize_image

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


def test_explain__maps_are_the_mean_over_layers_and_heads(predictor: Predictor, image: Image.Image) -> None:
    explanation = predictor.explain(image, labels=["bird", "cat"])
    assert list(explanation.maps) == ["bird", "cat"]
    pixels = torch.from_numpy(preprocess(image, predictor.bundle.preprocess)[None])
    with torch.inference_mode():
        _, attention = predictor.runtime.model.forward_with_attention(pixels)
    for label, index in (("bird", 2), ("cat", 0)):
        expected = attention[:, 0, :, index].mean(dim=(0, 1)).numpy()
        np.testing.assert_allclose(explanation.maps[label], expected, atol=1e-6)
        assert explanation.maps[label].sum() == pytest.approx(1, abs=1e-5)
    assert explanation.prediction == predictor(image)
    assert explanation.image.size == (70, 50)
    heat = explanation.map_on_image("bird", (25, 35))
    assert heat.shape == (25, 35)
    assert heat.max() == pytest.approx(1)


def test_explain__shows_the_best_predicted_labels(tmp_path: Path, image: Image.Image) -> None:
    everything = make_predictor(tmp_path, thresholds=0.0).explain(image)
    assert tuple(everything.maps) == everything.prediction.labels[:5]
    nothing = make_predictor(tmp_path, thresholds=1.0).explain(image)
    assert nothing.prediction.labels == ()
    assert list(nothing.maps) == [max(nothing.prediction.scores, key=nothing.prediction.scores.get)]


def test_explain__names_the_file(predictor: Predictor, image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "x.png")
    assert predictor.explain(tmp_path / "x.png").prediction.source == str(tmp_path / "x.png")


def test_explain__says_what_does_not_work(predictor: Predictor, image: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Unknown label 'dug'"):
        predictor.explain(image, labels=["dug"])
    with pytest.raises(ImageError, match="no such file"):
        predictor.explain(tmp_path / "nowhere.png")
    other = Predictor(predictor.bundle, lambda images: np.zeros((len(images), 7), dtype=np.float32))
    with pytest.raises(ConfigError, match="function can explain nothing: load the bundle with"):
        other.explain(image)
    with pytest.raises(ConfigError, match="There is no label to explain: name some"):
        predictor.explain(image, labels=[])
    with pytest.raises(ConfigError, match="A linear head has no attention maps: ask for gradcam, or auto"):
        make_predictor(tmp_path, head="linear").explain(image, method="attention")
    with pytest.raises(ConfigError, match="There is no decoder layer 3: this model has 2, from 1 on"):
        predictor.explain(image, layer=3)
    with pytest.raises(ConfigError, match="There is no attention head 0: this model has 4, from 1 on"):
        predictor.explain(image, head=0)
    with pytest.raises(ConfigError, match="Grad-CAM has no decoder layers and heads to choose"):
        predictor.explain(image, method="gradcam", layer=1)


def test_explain__takes_the_layer_and_head_that_are_asked_for(
    predictor: Predictor, image: Image.Image
) -> None:
    pixels = preprocess(image, predictor.bundle.preprocess)[None]
    _, attention = predictor.runtime.with_attention(pixels)
    cow = attention[0, :, :, 3]
    expected = {
        (None, None): cow.mean((0, 1)),
        (1, None): cow[0].mean(0),
        (1, 3): cow[0, 2],
        ("mean", 2): cow[:, 1].mean(0),
        ("mean", "mean"): cow.mean((0, 1)),
        (2, "each"): cow[1].mean(0),
    }
    for (layer, head), cells in expected.items():
        explanation = predictor.explain(image, labels=["cow"], layer=layer, head=head)
        np.testing.assert_allclose(explanation.maps["cow"], cells, atol=1e-6)
        assert (explanation.layer, explanation.head) == (layer or "mean", head or "mean")
        assert explanation.maps["cow"].sum() == pytest.approx(1, abs=1e-5)
    each = predictor.explain(image, labels=["cow", "ant"], layer="mean", head="each").head_maps
    assert list(each) == ["cow", "ant"]
    np.testing.assert_allclose(each["cow"], cow.mean(0), atol=1e-6)


@pytest.mark.parametrize("head", ["linear", "query2label"])
def test_explain__grad_cam_is_for_every_bundle(tmp_path: Path, image: Image.Image, head: str) -> None:
    predictor = make_predictor(tmp_path, head=head)
    explanation = predictor.explain(image, labels=["bee", "cat"], method="gradcam")
    expected = predictor.runtime.grad_cam(preprocess(image, predictor.bundle.preprocess)[None], [6, 0])[0]
    np.testing.assert_array_equal(list(explanation.maps.values()), expected)
    assert (explanation.method, explanation.layer, explanation.head) == ("gradcam", None, None)
    assert explanation.prediction == predictor(image)


def test_explain__without_attention_is_grad_cam(tmp_path: Path, image: Image.Image) -> None:
    assert make_predictor(tmp_path, head="linear").explain(image).method == "gradcam"


def test_explain__of_scores_that_are_not_finite_says_so(predictor: Predictor, image: Image.Image) -> None:
    lost = BrightnessRuntime()
    lost.logits = np.nan
    with pytest.raises(ImageError, match="scores that are not finite"):
        Predictor(predictor.bundle, lost).explain(image)


class BrightnessRuntime:
    """A model that looks where it is bright, so that it is known where its maps belong."""

    has_attention = True
    logits = 0.0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.full((len(images), len(LABELS)), self.logits, dtype=np.float32)

    def with_attention(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = images.shape[2] // 4, images.shape[3] // 4
        cells = images.mean(1).reshape(-1, height, 4, width, 4).mean((2, 4))
        maps = np.broadcast_to(cells[:, None, None, None], (len(images), 1, 1, len(LABELS), height, width))
        return self(images), maps


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_explain__maps_lie_right_on_photos_of_any_orientation(
    tmp_path: Path, resize: str, orientation: int
) -> None:
    stored = np.zeros((96, 160, 3), dtype=np.uint8)
    stored[24:40, 96:112] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    spec = replace_size(PreprocessSpec(image_size=(96, 128), resize=resize))
    bundle = Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=LABELS,
        preprocess=spec,
        thresholds=(0.5,) * len(LABELS),
    )

    explanation = Predictor(bundle, BrightnessRuntime()).explain(tmp_path / "turned.jpg", labels=["cow"])

    # Where TIFF 6.0 says that row 0 and column 0 of the stored image are seen.
    row, column = 32, 104
    down, right = (row, 96 - row), (column, 160 - column)
    seen = {
        1: (down[0], right[0]),
        2: (down[0], right[1]),
        3: (down[1], right[1]),
        4: (down[1], right[0]),
        5: (right[0], down[0]),
        6: (right[0], down[1]),
        7: (right[1], down[1]),
        8: (right[1], down[0]),
    }[orientation]
    height, width = (96, 160) if orientation <= 4 else (160, 96)
    assert explanation.image.size == (width, height)
    for zoom in (1, 0.5, 3):
        shown = (round(height * zoom), round(width * zoom))
        heat = explanation.map_on_image("cow", shown)
        assert heat.shape == shown
        rows, columns = np.mgrid[0 : shown[0], 0 : shown[1]] + 0.5
        weight = np.where(heat > 0.5, heat, 0)
        centre = ((weight * rows).sum() / weight.sum(), (weight * columns).sum() / weight.sum())
        assert centre == pytest.approx((seen[0] * zoom, seen[1] * zoom), abs=3 * max(zoom, 1))


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
    explanation = predictor.explain(image)
    assert replace(explanation, maps={}).maps == {}
    with pytest.raises(AttributeError):
        explanation.maps = {}


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_explain__of_an_exported_file_agrees_with_its_bundle(
    tmp_path: Path, image: Image.Image, suffix: str
) -> None:
    predictor = make_predictor(tmp_path)
    plain, path = tmp_path / f"plain{suffix}", tmp_path / f"model{suffix}"
    target = "onnx" if suffix == ".onnx" else "openvino"
    export_bundle(tmp_path / "query2label", path, to=target, attention=True)
    expected = predictor.explain(image, labels=["cow", "ant"])
    found = Predictor.load(path).explain(image, labels=["cow", "ant"])
    for label in ("cow", "ant"):
        np.testing.assert_allclose(found.maps[label], expected.maps[label], atol=1e-5)
    export_bundle(tmp_path / "query2label", plain, to=target)
    with pytest.raises(ConfigError, match="exported without attention maps: q2l export --attention"):
        Predictor.load(plain).explain(image)
    with pytest.raises(ConfigError, match="An exported file gives no gradients, which Grad-CAM needs"):
        Predictor.load(path).explain(image, method="gradcam")
