import numpy as np
import pytest

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.errors import ConfigError
from query2label.inference.choice import LabelChoice, parse_thresholds
from query2label.preprocess import PreprocessSpec

BUNDLE = Bundle(
    model=ModelConfig(),
    labels=("cat", "dog", "cow"),
    preprocess=PreprocessSpec(image_size=(8, 8)),
    thresholds=(0.5, 0.9, 0.1),
)


def test_label_choice__takes_what_reaches_its_threshold_best_first() -> None:
    prediction = LabelChoice.of(BUNDLE).prediction(np.array([0.5, 0.8, 0.6], np.float32))
    assert prediction.labels == ("cow", "cat")
    assert prediction.thresholds == {"cat": 0.5, "dog": 0.9, "cow": 0.1}


def test_label_choice__among_keeps_thresholds_and_order() -> None:
    choice = LabelChoice.of(BUNDLE, threshold={"dog": 0.2}).among([2, 1])
    prediction = choice.prediction(np.array([0.05, 0.3], np.float32))
    assert prediction.labels == ("dog",)
    assert dict(prediction.thresholds) == {"cow": 0.1, "dog": 0.2}
    assert prediction.scores == pytest.approx({"cow": 0.05, "dog": 0.3})


def test_label_choice__says_that_scores_are_not_finite() -> None:
    prediction = LabelChoice.of(BUNDLE).prediction(np.array([0.5, np.nan, 0.6], np.float32))
    assert prediction.error == "The model gives scores that are not finite."
    assert prediction.scores == {}


def test_parse_thresholds__takes_one_number_or_one_per_label() -> None:
    assert parse_thresholds([]) is None
    assert parse_thresholds(["0.7"]) == 0.7
    assert parse_thresholds(["a=b=0.5", "dog=1"]) == {"a=b": 0.5, "dog": 1.0}


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["dog"], "dog is neither a number nor LABEL=NUMBER"), (["0.5", "dog=1"], "0.5 is for all labels")],
)
def test_parse_thresholds__says_what_is_wrong(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_thresholds(texts)
