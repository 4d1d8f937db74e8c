"""The model in the box."""

from pathlib import Path

import numpy as np
import pytest

from query2label.bundle import BUILTIN_DIGEST, BUILTIN_PATH, bundle_digest, read_bundle
from query2label.data.load import load_dataset
from query2label.errors import BundleError, ConfigError
from query2label.inference.predictor import Predictor
from query2label.metrics import mean_average_precision


def test_builtin__is_the_one_that_the_benchmark_made() -> None:
    assert bundle_digest(BUILTIN_PATH) == BUILTIN_DIGEST


def test_builtin__is_small() -> None:
    assert sum(file.stat().st_size for file in BUILTIN_PATH.iterdir()) <= 12_000_000


def test_builtin_card__says_what_it_was_trained_on_and_how_good_it_is() -> None:
    card = (BUILTIN_PATH / "README.md").read_text(encoding="utf-8")
    bundle = read_bundle(BUILTIN_PATH)
    assert "651 photos" in card
    assert "277 photos" in card
    assert f"mAP {100 * bundle.metrics['mAP']:.1f}" in card
    own = card.partition("<!-- query2label: begin -->")[0]
    assert all(f"\n| {label} | " in own for label in bundle.labels)
    assert "**Limits.**" in own
    assert "**Terms.**" in own


def test_load__without_a_model_takes_the_one_in_the_box() -> None:
    assert Predictor.load().bundle == read_bundle(BUILTIN_PATH)


def test_load__without_a_model_runs_on_torch_only() -> None:
    with pytest.raises(ConfigError, match="A bundle runs on torch, not on onnx"):
        Predictor.load(runtime="onnx")


def test_builtin__knows_photos(voc_sample: Path) -> None:
    val = load_dataset(voc_sample).select("val")
    chosen = list(range(0, len(val), 9))
    scores = Predictor.load(threads=1)([val.samples[index].path for index in chosen])
    found = np.array([[prediction.scores[label] for label in val.labels] for prediction in scores])
    assert (mean_average_precision(found.astype(np.float32), val.targets()[chosen]) or 0) > 0.85


def test_load__an_empty_name_is_not_the_model_in_the_box() -> None:
    with pytest.raises(BundleError):
        Predictor.load("")
