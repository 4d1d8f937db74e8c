import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.errors import ConfigError, DataError
from query2label.inference.pipeline import AHEAD
from query2label.inference.prediction import Prediction, choose_labels
from query2label.inference.predictor import Predictor, _each
from query2label.inference.runtime import Runtime


def picture(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (12, 10), colour)


def test_call__gives_labels_best_first_and_all_scores(predictor: Predictor) -> None:
    prediction = predictor(picture((0, 200, 255)))
    assert prediction.labels == ("blue", "green")
    assert list(prediction.scores) == ["red", "green", "blue"]
    expected = 1 / (1 + np.exp(-(np.array([0, 200, 255]) / 255 - 0.5) / 0.05))
    np.testing.assert_allclose(list(prediction.scores.values()), expected, rtol=1e-5)
    assert prediction.thresholds == {"red": 0.5, "green": 0.5, "blue": 0.5}
    assert prediction.error is None


def test_call__path_array_bytes_and_picture_are_the_same_image(predictor: Predictor, photos: Path) -> None:
    path = photos / "sub" / "teal.png"
    with Image.open(path) as opened:
        opened.load()
        image = opened.copy()
    expected = predictor(path)
    assert expected.source == str(path)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    for source in (str(path), image, np.asarray(image), buffer.getvalue()):
        assert predictor(source).scores == expected.scores, predictor(source)
    assert predictor(image).source is None
    assert predictor(np.asarray(image)).source is None


def test_call__several_sources_give_a_list_in_order(predictor: Predictor, photos: Path) -> None:
    images = [picture((255, 0, 0)), picture((0, 255, 0)), picture((0, 0, 255))]
    expected = [("red",), ("green",), ("blue",)]
    assert [p.labels for p in predictor(images)] == expected
    assert [p.labels for p in predictor(tuple(images))] == expected
    assert [p.labels for p in predictor(image for image in images)] == expected
    assert predictor([]) == []
    found = predictor(photos)
    assert [Path(p.source).name for p in found] == ["broken.jpg", "red.png", "teal.png"]
    assert [p.labels for p in predictor(str(photos))] == [p.labels for p in found]


def test_call__batches_change_nothing(predictor: Predictor) -> None:
    images = [picture((shade, 255 - shade, 128)) for shade in range(0, 250, 50)]
    one_by_one = [predictor(image) for image in images]
    assert predictor(images, batch_size=2) == one_by_one
    assert predictor.runtime.batches == [1] * 5 + [2, 2, 1]


def test_call__a_broken_image_is_a_row_with_an_error(predictor: Predictor, photos: Path) -> None:
    broken, fine, missing = predictor([photos / "broken.jpg", photos / "red.png", "nowhere.png"])
    assert fine.labels == ("red",)
    for prediction, reason in ((broken, "damaged"), (missing, "no such file")):
        assert reason in prediction.error
        assert prediction.labels == ()
        assert prediction.scores == {}
    assert predictor(photos / "broken.jpg") == broken
    assert "error: " in repr(broken)
    assert predictor.runtime.batches == [1]


def test_call__scores_that_are_not_finite_are_an_error(predictor: Predictor) -> None:
    broken = Predictor(predictor.bundle, lambda images: np.full((len(images), 3), np.nan, dtype=np.float32))
    assert broken(picture((0, 0, 0))).error == "The model gives scores that are not finite."


def test_call__top_k_gives_the_best_whatever_the_thresholds(predictor: Predictor) -> None:
    image = picture((255, 110, 120))
    assert predictor(image).labels == ("red",)
    assert predictor(image, top_k=2).labels == ("red", "blue")
    assert predictor(image, top_k=9).labels == ("red", "blue", "green")
    assert predictor(image, top_k=2, threshold=0.5).labels == ("red",)
    assert predictor(image, top_k=1, threshold=0.1).labels == ("red",)


def test_call__thresholds_for_all_or_by_name(predictor: Predictor) -> None:
    image = picture((255, 110, 120))
    scores = predictor(image).scores
    assert predictor(image, threshold=scores["blue"]).labels == ("red", "blue")
    assert predictor(image, threshold={"green": 0.0, "red": 1.0}).labels == ("green",)
    assert predictor(image, threshold={"green": 0.0}).thresholds == {"red": 0.5, "green": 0.0, "blue": 0.5}


def test_call__refuses_options_out_of_range(predictor: Predictor) -> None:
    image = picture((0, 0, 0))
    with pytest.raises(ConfigError, match=r"batch_size \(0\) must be at least 1"):
        predictor(image, batch_size=0)
    with pytest.raises(ConfigError, match=r"top_k \(0\)"):
        predictor(image, top_k=0)
    for threshold in (1.5, -0.1, float("nan"), {"red": 2.0}):
        with pytest.raises(ConfigError, match=r"of label 'red' is not within 0 and 1"):
            predictor(image, threshold=threshold)
    with pytest.raises(DataError, match=r"Unknown label 'rad'.*Did you mean 'red'"):
        predictor(image, threshold={"rad": 0.5})


def test_call__an_empty_folder_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are no images in"):
        predictor(tmp_path)


def test_each__what_is_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="None is no image: give a path, a PIL image, an array"):
        _each(None)


@pytest.mark.parametrize("source", [io.BytesIO(b"x"), bytearray(b"x")])
def test_each__an_open_file_or_a_buffer_is_no_image(predictor: Predictor, source: object) -> None:
    with pytest.raises(DataError, match="is no image: give a path, a PIL image, an array, the bytes of a"):
        _each(source)
    with pytest.raises(DataError, match="is no image: give a path, a PIL image, an array, the bytes of a"):
        predictor._load(source)


def test_stream__takes_images_only_as_it_goes(predictor: Predictor) -> None:
    taken = []

    def images():
        for number in range(100):
            taken.append(number)
            yield picture((0, 0, 255))

    assert [p.labels for p in predictor.stream(picture((255, 0, 0)))] == [("red",)]
    stream = predictor.stream(images(), batch_size=4)
    assert taken == []
    assert next(stream).labels == ("blue",)
    assert len(taken) == 4 * (1 + AHEAD)
    assert len(list(stream)) == 99
    assert predictor.runtime.batches == [1] + [4] * 25


def test_stream__keeps_logits_where_asked(predictor: Predictor) -> None:
    image = picture((255, 110, 120))
    assert predictor(image).logits == {}
    assert "logits" not in predictor(image).to_dict()
    (kept,) = predictor.stream([image], keep_logits=True)
    expected = (np.array([255, 110, 120]) / 255 - 0.5) / 0.05
    np.testing.assert_allclose(list(kept.logits.values()), expected, rtol=1e-5)
    assert kept.to_dict()["logits"] == kept.logits
    (one,) = predictor.stream(image, keep_logits=True)
    assert one == kept


def test_stream__raises_what_the_runtime_raises_and_ends_its_threads(predictor: Predictor) -> None:
    def failing(images: np.ndarray) -> np.ndarray:
        raise RuntimeError("the model fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        list(Predictor(predictor.bundle, failing).stream([picture((0, 0, 0))] * 9, batch_size=2))
    stream = predictor.stream([picture((0, 0, 0))] * 9, batch_size=2)
    next(stream)
    stream.close()
    names = {thread.name.partition("_")[0] for thread in threading.enumerate()}
    assert not names & {"decode", "compute"}


def test_predictor__knows_its_labels_and_takes_any_runtime(predictor: Predictor) -> None:
    assert predictor.labels == ("red", "green", "blue")
    assert isinstance(predictor.runtime, Runtime)


def test_prediction__is_frozen_and_becomes_plain_values() -> None:
    prediction = Prediction(labels=("a",), scores={"a": 0.75, "b": 0.1}, source="x.jpg")
    with pytest.raises(AttributeError):
        prediction.labels = ()
    expected = {"image": "x.jpg", "labels": ["a"], "scores": {"a": 0.75, "b": 0.1}, "error": None}
    assert prediction.to_dict() == expected
    assert json.loads(prediction.to_json()) == expected
    assert repr(prediction) == "<Prediction 'x.jpg': a 0.75>"
    assert repr(Prediction(scores={"a": 0.1})) == "<Prediction no label>"


def test_choose_labels__equal_scores_keep_the_order_of_the_labels() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.9], dtype=np.float32)
    assert choose_labels(scores, None, ("a", "b", "c", "d"), top_k=3) == ("b", "d", "a")
    assert choose_labels(scores, np.array([True, False, True, False]), ("a", "b", "c", "d"), top_k=None) == (
        "a",
        "c",
    )
