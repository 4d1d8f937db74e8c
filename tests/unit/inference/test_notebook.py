import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.inference.drawing import LabelScore
from query2label.inference.explanation import Explanation
from query2label.inference.notebook import score_html, text
from query2label.inference.prediction import Prediction
from query2label.preprocess import PreprocessSpec

HOSTILE = "<img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """What a browser would make of the page: elements, their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.depth = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.depth += tag != "img"

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def pictures(self) -> list[Image.Image]:
        sources = [value for name, value in self.attributes if name == "src"]
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def prediction(source: str | None = None) -> Prediction:
    return Prediction((HOSTILE,), {HOSTILE: 0.9, "cat": 0.2}, {HOSTILE: 0.4, "cat": 0.5}, source=source)


def check_harmless(seen: Seen) -> None:
    assert set(seen.tags) <= {"div", "span", "img"}
    assert {name for name, _ in seen.attributes} <= {"style", "title", "alt", "src"}
    assert seen.depth == 0


def test_prediction__shows_its_photo_and_its_labels_as_text(tmp_path: Path) -> None:
    photo = tmp_path / "<b>photo&amp;.png"
    Image.new("RGB", (900, 600), (10, 200, 30)).save(photo)
    seen = Seen(prediction(str(photo))._repr_html_())
    check_harmless(seen)
    assert "<b>photo&amp;.png" in seen.text
    assert "1 label found" in seen.text
    assert HOSTILE in seen.text
    assert "0.90" in seen.text
    assert "cat" not in seen.text
    (picture,) = seen.pictures
    assert picture.size == (720, 480)
    assert picture.getpixel((300, 200)) == (10, 200, 30)


def test_prediction__without_a_photo_to_read_shows_its_labels_alone(tmp_path: Path) -> None:
    for source in (None, str(tmp_path / "gone.jpg")):
        seen = Seen(prediction(source)._repr_html_())
        check_harmless(seen)
        assert seen.pictures == []
        assert HOSTILE in seen.text


def test_prediction__of_a_broken_image_says_why() -> None:
    seen = Seen(Prediction(source="a/x.jpg", error=f"It is not an image {HOSTILE}")._repr_html_())
    check_harmless(seen)
    assert seen.text == f"x.jpgIt is not an image {HOSTILE}"


def test_explanation__shows_the_map_of_each_label() -> None:
    explanation = Explanation(
        image=Image.new("RGB", (300, 200), (40, 120, 200)),
        prediction=prediction(),
        maps={label: np.eye(4, dtype=np.float32) / 4 for label in (HOSTILE, "cat")},
        spec=PreprocessSpec(image_size=(32, 32)),
        layer=2,
        head="mean",
    )
    seen = Seen(explanation._repr_html_())
    check_harmless(seen)
    assert "attention, layer 2, mean of heads" in seen.text
    assert HOSTILE in seen.text
    assert [picture.size for picture in seen.pictures] == [(300, 200)] * 2
    bright, dim = (seen.pictures[0].getpixel(place) for place in ((5, 5), (295, 5)))
    assert sum(bright) > 2 * sum(dim)


def test_score_html__has_the_bar_and_the_tick_where_they_belong() -> None:
    page = score_html(LabelScore("a", 0.25, 0.75, is_predicted=True))
    assert "width:25.00%" in page
    assert "left:calc(75.00% - 1px)" in page
    assert "currentColor" not in score_html(LabelScore("a", 0.25, None, is_predicted=False))


def test_colours__are_those_of_the_notebook() -> None:
    # No text colour and no ground of our own: both would be unreadable in one of light and dark.
    page = prediction()._repr_html_()
    assert not re.search(r"[^-]color:", page)
    assert set(re.findall(r"background:([^;\"]+)", page)) == {
        "rgba(128,128,128,.3)",
        "#c93e3c",
        "currentColor",
    }


@pytest.mark.parametrize(("raw", "shown"), [("a\nb\x00", "a\ufffdb\ufffd"), ("x" * 400, "x" * 300 + "...")])
def test_text__is_one_line_of_bounded_length(raw: str, shown: str) -> None:
    assert text(raw) == shown
