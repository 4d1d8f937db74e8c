import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from query2label.inference import drawing
from query2label.inference.drawing import (
    INK,
    NOT_PREDICTED,
    PAPER,
    PREDICTED,
    TRACK,
    LabelScore,
    draw_line,
    draw_score,
    fitting,
    font,
    rounded_mask,
    wrapped,
)


def bar_of(score: float, threshold: float | None, *, is_predicted: bool) -> list[tuple[int, ...]]:
    """Colours along the middle of a bar of 201 pixels."""
    sheet = Image.new("RGB", (221, 60), PAPER)
    draw_score(sheet, LabelScore("dog", score, threshold, is_predicted), (10, 5), 201)
    return [tuple(pixel) for pixel in np.asarray(sheet)[5 + 33, 10:211].tolist()]


def test_draw_score__bar_and_tick_are_where_the_score_and_the_threshold_are() -> None:
    bar = bar_of(0.75, 0.5, is_predicted=True)
    assert set(bar[:99] + bar[101:150]) == {PREDICTED}
    assert set(bar[99:101]) == {INK}
    assert set(bar[152:]) == {TRACK}


@pytest.mark.parametrize("score", [0.0, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 1.0, None])
def test_draw_score__the_ends_are_inside(score: float, threshold: float | None) -> None:
    bar = bar_of(score, threshold, is_predicted=False)
    assert bar[100] == (NOT_PREDICTED if score else TRACK)
    ticks = [x for x, colour in enumerate(bar) if colour == INK]
    assert ticks == {0.0: [0], 1.0: [199, 200], None: []}[threshold]


def test_draw_score__shows_the_number_in_the_colour_of_the_bar_and_cuts_long_names() -> None:
    short, long = (Image.new("RGB", (221, 60), PAPER) for _ in range(2))
    draw_score(short, LabelScore("d", 0.5, None, True), (10, 5), 201)
    draw_score(long, LabelScore("d" * 500, 0.5, None, True), (10, 5), 201)
    number = np.asarray(short)[5:30, 171:]
    assert (number == PREDICTED).all(axis=-1).any()
    np.testing.assert_array_equal(number, np.asarray(long)[5:30, 171:])
    assert (np.asarray(long)[:, :10] == 255).all()
    assert (np.asarray(long)[:, 211:] == 255).all()


def test_rounded_mask__leaves_the_corners_out_smoothly() -> None:
    mask = np.asarray(rounded_mask((20, 8), radius=4.0))
    assert mask.shape == (8, 20)
    assert mask[0, 0] == 0
    assert (mask[:, 4:16] == 255).all()
    assert 0 < mask[1, 1] < 255
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])


def test_fitting__cuts_what_is_too_wide_and_shows_no_control_characters() -> None:
    size = font(18)
    assert fitting("dog", size, 200) == "dog"
    assert fitting("\x1b[31m\ndog", size, 200) == "?[31m?dog"
    cut = fitting("d" * 100_000, size, 200)
    assert cut.endswith("d...")
    assert 180 < size.getlength(cut) <= 200
    assert fitting("i" * 400, size, 10**6) == f"{'i' * 300}..."


def test_wrapped__breaks_between_words() -> None:
    size = font(16)
    text = "The image data are damaged or cut off (image file is truncated)."
    lines = wrapped(text, size, 200)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(size.getlength(line) <= 200 for line in lines)
    assert wrapped("x" * 290, size, 100)[0].endswith("...")
    assert wrapped("", size, 100) == []


def test_font__is_the_machines_where_pillows_own_lacks_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing._fonts_of_machine.cache_clear()

    class Wide(ImageFont.FreeTypeFont):
        def __init__(self) -> None:
            self.own = ImageFont.load_default(size=18)

        def getmask(self, text: str, *args: object, **kwargs: object) -> bytes:
            return text.encode("utf-16")

    wide = Wide()
    monkeypatch.setattr(ImageFont, "truetype", lambda *_: wide)
    monkeypatch.setattr(ImageFont, "load_default", lambda size: wide.own)
    assert font(18, "dog") is wide.own
    assert font(18, "Löwe") is wide
    drawing._fonts_of_machine.cache_clear()


def test_font__is_pillows_own_where_no_other_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing._fonts_of_machine.cache_clear()

    def missing(name: str, size: int) -> None:
        raise OSError(name)

    own = ImageFont.load_default(size=18)
    monkeypatch.setattr(ImageFont, "load_default", lambda size: own)
    monkeypatch.setattr(ImageFont, "truetype", missing)
    assert font(18, "Löwe") is own
    sheet = Image.new("RGB", (100, 30), PAPER)
    draw_line(ImageDraw.Draw(sheet), "Löwe", (0, 0), 18, width=100)
    assert (np.asarray(sheet) < 100).any()
    drawing._fonts_of_machine.cache_clear()
