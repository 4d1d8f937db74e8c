from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.errors import ConfigError
from query2label.inference import sheet
from query2label.inference.explanation import Explanation, MapMethod
from query2label.inference.heat import drawn_map, heat_colours, overlay, stretched
from query2label.inference.prediction import Prediction
from query2label.inference.sheet import explanation_sheet, label_picture
from query2label.preprocess import PreprocessSpec


def make_explanation(labels: list[str], size: tuple[int, int] = (120, 80)) -> Explanation:
    scores = {label: 0.9 - 0.1 * number for number, label in enumerate(labels)}
    return Explanation(
        image=Image.new("RGB", size, (40, 120, 200)),
        prediction=Prediction(
            tuple(labels[:1]), scores, dict.fromkeys(labels, 0.85), source="folder/photo.jpg"
        ),
        maps={label: np.eye(4, dtype=np.float32) / 4 for label in labels},
        spec=PreprocessSpec(image_size=(32, 32)),
    )


def test_heat_colours__grow_brighter_all_the_way() -> None:
    colours = heat_colours(np.linspace(0, 1, 101)[None])[0].astype(float)
    brightness = colours @ (0.2126, 0.7152, 0.0722)
    assert np.all(np.diff(brightness) > 0)
    np.testing.assert_array_equal(colours[0], (0, 0, 4))
    np.testing.assert_array_equal(colours[-1], (252, 255, 164))


def test_overlay__is_dim_grey_without_attention_and_glows_with_it() -> None:
    image = Image.new("RGB", (4, 2), (40, 120, 200))
    heat = np.zeros((2, 4))
    heat[0, 0] = 1
    pixels = np.asarray(overlay(image, heat)).astype(int)
    assert np.ptp(pixels[1, 1]) == 0
    assert pixels[1, 1, 0] < 120
    assert pixels[0, 0].sum() > 2 * pixels[1, 1].sum()


@pytest.mark.parametrize(
    ("num_labels", "columns", "rows"), [(1, 2, 1), (2, 3, 1), (3, 2, 2), (5, 3, 2), (8, 3, 3)]
)
def test_explanation_sheet__panels_fill_rows_evenly(num_labels: int, columns: int, rows: int) -> None:
    sheet = explanation_sheet(make_explanation([f"label {number}" for number in range(num_labels)]))
    panel_width, panel_height = 380, round(380 * 80 / 120)
    assert sheet.width == columns * (panel_width + 24) + 24
    assert rows * panel_height < sheet.height < rows * (panel_height + 120) + 120


@pytest.mark.parametrize("size", [(4000, 40), (40, 4000), (1, 1), (3000, 2000)])
def test_explanation_sheet__any_shape_of_image_fits(size: tuple[int, int]) -> None:
    sheet = explanation_sheet(make_explanation(["a"], size))
    assert sheet.width < 1300
    assert sheet.height < 1000


def test_explanation_sheet__long_and_hostile_names_are_cut_and_harmless() -> None:
    names = ["x" * 500, "\x1b[31m\n\u202e猫", "<b>&amp;</b>"]
    assert explanation_sheet(make_explanation(names)).mode == "RGB"


def test_explanation_sheet__score_bar_and_threshold_are_drawn_where_they_belong() -> None:
    pixels = np.asarray(explanation_sheet(make_explanation(["a", "b"]))).astype(int)
    height = round(380 * 80 / 120)
    row = 40 + 12 + height + 43
    first = 24 + 404
    red = np.all(pixels[row] == (201, 62, 60), axis=-1)
    assert red[first + 10]
    assert red[first + round(0.88 * 379)]
    assert not red[first + round(0.92 * 379)]
    assert np.all(pixels[row, first + round(0.85 * 379)] == (24, 26, 32))
    second = first + 404
    assert not np.all(pixels[row, second : second + 380] == (201, 62, 60), axis=-1).any()


def test_stretched__tells_soft_attention_apart() -> None:
    heat = np.array([[0.8, 0.9], [1.0, 0.8]])
    np.testing.assert_allclose(stretched(heat), [[0, 0.5], [1, 0]])


def test_stretched__makes_nothing_of_uniform_attention() -> None:
    assert not stretched(np.full((3, 3), 1 / 9)).any()
    assert not stretched(np.full((3, 3), 1 / 9) + np.eye(3) * 1e-6).any()
    assert not stretched(np.zeros((3, 3))).any()


@pytest.mark.parametrize(
    ("least", "brightest"), [(0.0, 1.0), (0.75, 1.0), (0.9, 0.4), (0.99, 0.04), (1.0, 0.0)]
)
def test_drawn_map__is_faint_where_attention_is_nearly_uniform(least: float, brightest: float) -> None:
    spec = PreprocessSpec(image_size=(64, 64), resize="squash")
    heat = drawn_map(np.array([[least, 1.0], [least, least]], np.float32), (64, 64), spec, shown=(64, 64))
    assert heat[0, -1] == pytest.approx(brightest, abs=1e-4)
    assert heat.min() == 0


def test_drawn_map__what_a_crop_cut_away_gives_the_rest_no_colour() -> None:
    spec = PreprocessSpec(image_size=(64, 64), resize="crop")
    heat = drawn_map(np.full((2, 2), 0.25, np.float32), (64, 192), spec, shown=(64, 192))
    assert not heat.any()


def test_label_picture__is_the_image_with_the_score_under_it() -> None:
    picture = label_picture(make_explanation(["a"], (300, 200)), "a")
    assert picture.width == 300 + 24
    assert 200 < picture.height < 300
    assert picture.getpixel((12 + 290, 12 + 190)) != (255, 255, 255)
    wide = label_picture(make_explanation(["a"], (4096, 64)), "a")
    assert wide.width == 2048 + 24


def test_explanation_sheet__has_a_row_per_label_where_heads_were_asked_for() -> None:
    explanation = make_explanation(["a", "b"])
    heads = {label: np.stack([cells] * 4) for label, cells in explanation.maps.items()}
    sheet = explanation_sheet(replace(explanation, head_maps=heads, layer=1, head="each"))
    assert sheet.width == 5 * (236 + 24) + 24


def test_explanation_sheet__what_a_crop_cut_away_is_dim_and_the_rest_keeps_its_contrast() -> None:
    flat = np.array([[0.19, 0.19], [0.19, 0.26]], dtype=np.float32)
    explanation = replace(
        make_explanation(["a"], (240, 120)),
        maps={"a": flat},
        spec=PreprocessSpec(image_size=(32, 32), resize="crop"),
    )
    picture = np.asarray(label_picture(explanation, "a")).astype(int)[12:132, 12:252]
    np.testing.assert_array_equal(picture[60, 10], picture[40, 70])
    assert picture[115, 175].sum() > 2 * picture[115, 185].sum()


def test_explanation__saves_pictures_and_numbers_and_nothing_else(tmp_path: Path) -> None:
    explanation = make_explanation(["a", "b"])
    explanation.save(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as picture:
        assert picture.size == explanation.plot().size
    explanation.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["labels"].tolist() == ["a", "b"]
        np.testing.assert_allclose(arrays["scores"], [0.9, 0.8])
        np.testing.assert_array_equal(arrays["maps"][1], np.eye(4, dtype=np.float32) / 4)
        assert (str(arrays["method"]), str(arrays["layer"])) == ("attention", "")
        assert "head_maps" not in arrays
    with pytest.raises(ConfigError, match=r"end the name with \.png, \.jpg or \.npz"):
        explanation.save(tmp_path / "x.gif")


@pytest.mark.parametrize(
    ("most", "method", "note"),
    [
        (2.0, "attention", "most: 1.9 x the average"),
        (1.02, "attention", "looks everywhere alike; ask Grad-CAM"),
        (1.02, "gradcam", "looks everywhere alike"),
        (0.0, "gradcam", "no place raises the score"),
    ],
)
def test_explanation_sheet__says_how_much_the_highest_place_stands_out(
    monkeypatch: pytest.MonkeyPatch, most: float, method: MapMethod, note: str
) -> None:
    cells = np.full((4, 4), min(most, 1), dtype=np.float32)
    cells[1, 2] = most
    written: list[str] = []
    monkeypatch.setattr(sheet, "draw_line", lambda draw, text, *_, **__: written.append(text))
    explanation_sheet(replace(make_explanation(["a"]), maps={"a": cells}, method=method))
    assert note in written
