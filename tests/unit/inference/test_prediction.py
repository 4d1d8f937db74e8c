"""Pictures and files of a prediction."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.errors import ConfigError, DataError, StorageError
from query2label.inference.drawing import GREY, INK, NOT_PREDICTED, PREDICTED
from query2label.inference.plot import MAX_ROWS
from query2label.inference.prediction import Prediction

SCORES = {"dog": 0.9, "sofa": 0.6, "cat": 0.4, "bus": 0.1}
THRESHOLDS = dict.fromkeys(SCORES, 0.5)
BLUE = (30, 60, 200)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (340, 280), BLUE).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def found(source: Path | str | None = None) -> Prediction:
    return Prediction(("dog", "sofa"), SCORES, THRESHOLDS, None if source is None else str(source))


def pixels_of(picture: Image.Image) -> np.ndarray:
    assert picture.mode == "RGB"
    return np.asarray(picture)


def widths_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """Width in pixels of each bar of `colour`, from top to bottom."""
    counts = (pixels == colour).all(axis=-1).sum(axis=1)
    long = [0, *np.where(counts > 25, counts, 0).tolist()]
    return [max(long[i : i + 7]) for i in range(1, len(long)) if long[i] and not long[i - 1]]


def test_plot__shows_the_photo_and_a_bar_for_each_predicted_label(photo: Path) -> None:
    pixels = pixels_of(found(photo).plot())
    assert pixels.shape[1] == 32 + 680 + 40 + 300 + 32
    assert pixels.shape[0] == 32 + 560 + 32
    assert (pixels[40:580, 40:700] == BLUE).all()
    column = pixels[:, 752:]
    dog, sofa = widths_of(column, PREDICTED)
    assert dog == pytest.approx(0.9 * 300, abs=4)  # the tick and the round ends hide a little
    assert sofa == pytest.approx(0.6 * 300, abs=4)
    assert (column[:, 149:151] == INK).all(axis=-1).any()
    assert widths_of(column, NOT_PREDICTED) == []


def test_plot__shows_the_three_best_in_grey_where_no_label_is_predicted(photo: Path) -> None:
    nothing = Prediction((), SCORES, dict.fromkeys(SCORES, 0.95), str(photo))
    column = pixels_of(nothing.plot())[:, 752:]
    assert widths_of(column, PREDICTED) == []
    assert widths_of(column, NOT_PREDICTED) == pytest.approx([270, 180, 120], abs=4)


def test_plot__takes_the_image_in_any_form_and_prefers_the_one_given(photo: Path, tmp_path: Path) -> None:
    expected = pixels_of(found(photo).plot())
    with Image.open(photo) as image:
        for source in (photo, str(photo), photo.read_bytes(), image, np.asarray(image)):
            np.testing.assert_array_equal(pixels_of(found(tmp_path / "photo.png").plot(source)), expected)
    red = Image.new("RGB", (34, 28), "red")
    assert (pixels_of(found(photo).plot(red))[300, 300] == (255, 0, 0)).all()
    assert (pixels_of(found().plot(red))[300, 300] == (255, 0, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000), (8, 8), (5000, 4000)])
def test_plot__any_size_of_photo_gives_a_legible_picture(size: tuple[int, int]) -> None:
    picture = found().plot(Image.new("RGB", size, BLUE))
    assert 32 + 1 + 40 + 300 + 32 <= picture.width <= 1084
    assert 250 < picture.height <= 624
    assert len(widths_of(pixels_of(picture), PREDICTED)) == 2


def test_plot__counts_the_labels_that_do_not_fit_and_needs_no_thresholds(photo: Path) -> None:
    labels = tuple(f"label {number}" for number in range(MAX_ROWS + 5))
    many = Prediction(labels, dict.fromkeys(labels, 0.8), source=str(photo))
    pixels = pixels_of(many.plot())
    column = pixels[:, 752:]
    assert len(widths_of(column, PREDICTED)) == MAX_ROWS
    footer = column[32 + 78 + MAX_ROWS * 60 :]
    assert (footer == GREY).all(axis=-1).any()
    exact = Prediction(labels[:MAX_ROWS], dict.fromkeys(labels, 0.8), source=str(photo))
    assert not (pixels_of(exact.plot())[32 + 78 + MAX_ROWS * 60 :, 752:] == GREY).all(axis=-1).any()


def test_plot__an_error_is_a_picture_with_the_reason() -> None:
    short, long = (
        pixels_of(Prediction(source="a/b.jpg", error=reason).plot())
        for reason in ("It is empty.", "The image data are damaged or cut off. " * 12)
    )
    assert short.shape == (334, 764, 3)
    assert long.shape[0] > 400 > short.shape[0]
    assert (short[:, 432:] == PREDICTED).all(axis=-1).any()
    inked = [(pixels[110:, 432:] == INK).all(axis=-1).sum() for pixels in (short, long)]
    assert 0 < inked[0] < inked[1]


def test_plot__hostile_names_are_drawn_harmlessly(photo: Path) -> None:
    names = ("x" * 100_000, "\x1b[31m\n\u202e猫", "", "<b>&amp;</b>")
    strange = Prediction(names, dict.fromkeys(names, 0.5), source=os.fsdecode(b"\xe9\n.jpg"))
    assert strange.plot(photo).height == 624


def test_plot__says_which_image_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did not come from a file: give it to plot\(image\)"):
        found().plot()
    with pytest.raises(DataError, match=rf"Cannot draw {tmp_path}/gone\.jpg: .*no such file"):
        found(tmp_path / "gone.jpg").plot()
    with pytest.raises(DataError, match="Cannot draw the image: It is not a JPEG"):
        found().plot(b"no image")


def test_save__json_has_the_values(tmp_path: Path) -> None:
    prediction = Prediction(("dög",), {"dög": 0.75}, {"dög": 0.5}, os.fsdecode(b"\xe9.jpg"))
    prediction.save(tmp_path / "new" / "p.json")
    text = (tmp_path / "new" / "p.json").read_text(encoding="utf-8")
    assert json.loads(text) == prediction.to_dict()
    assert text.endswith("}\n")
    Prediction(source="a.jpg", error="It is empty.").save(str(tmp_path / "e.JSON"))
    assert json.loads((tmp_path / "e.JSON").read_text())["error"] == "It is empty."


@pytest.mark.parametrize(
    ("name", "form"), [("p.png", "PNG"), ("p.jpg", "JPEG"), ("p.jpeg", "JPEG"), ("p.PNG", "PNG")]
)
def test_save__pictures_are_those_of_plot(photo: Path, tmp_path: Path, name: str, form: str) -> None:
    prediction = found(photo)
    prediction.save(tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == form
        written = np.asarray(picture).astype(int)
    limit = 0 if form == "PNG" else 6
    assert np.abs(written - np.asarray(prediction.plot())).mean() <= limit


@pytest.mark.parametrize("name", ["p.csv", "p", "p.gif"])
def test_save__refuses_other_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"as {tmp_path}/{name}: end the name with \.json, \.png or \.jpg"):
        Prediction(error="It is empty.").save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_save__leaves_nothing_behind_and_the_old_file_alone_where_it_fails(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_text("old")
    with pytest.raises(DataError, match="Cannot draw"):
        found(tmp_path / "gone.jpg").save(tmp_path / "p.png")
    with pytest.raises(ValueError, match="Out of range float"):
        Prediction(scores={"dog": float("nan")}).save(tmp_path / "p.json")
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert (tmp_path / "p.png").read_text() == "old"
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot write"):
        Prediction(error="It is empty.").save(tmp_path / "file" / "p.json")
