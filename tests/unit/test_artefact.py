import json
from pathlib import Path

import pytest

from query2label.bundle import Bundle
from query2label.bundle.artefact import BUNDLE_KEY, EXPORT_KEY, Artefact, from_metadata, to_metadata
from query2label.config import ModelConfig
from query2label.errors import BundleError
from query2label.preprocess import PreprocessSpec

FILE = Path("model.onnx")


@pytest.fixture
def bundle() -> Bundle:
    return Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=("a <b>&", 'qu"ote \\ %', "é漢"),
        preprocess=PreprocessSpec(image_size=(8, 8)),
        thresholds=(0.1, 0.2, 0.3),
        temperature=1.25,
    )


@pytest.fixture
def artefact() -> Artefact:
    return Artefact(
        bundle_digest="0" * 64,
        precision="fp16",
        any_image_size=True,
        attention=False,
        versions={"torch": "2"},
    )


def test_metadata__is_ascii_and_comes_back(bundle: Bundle, artefact: Artefact) -> None:
    texts = to_metadata(bundle, artefact)

    assert all(text.isascii() and "\n" not in text for text in texts.values())
    assert from_metadata(texts, where=FILE) == (bundle, artefact)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({BUNDLE_KEY: None}, "model.onnx was not written by query2label: .* Export the bundle with"),
        ({EXPORT_KEY: None}, "model.onnx was not written by query2label"),
        ({BUNDLE_KEY: "{"}, "model.onnx is not JSON that can be used"),
        ({BUNDLE_KEY: "{}"}, "model.onnx does not describe a query2label model"),
        ({BUNDLE_KEY: "[" * 100 + "]" * 100}, "model.onnx is nested more than"),
        ({EXPORT_KEY: "[]"}, "model.onnx: "),
        ({EXPORT_KEY: '{"export_version": 1}'}, "model.onnx: the key 'bundle_digest' is missing"),
        (
            {EXPORT_KEY: '{"export_version": 99}'},
            "exported by a newer query2label .form 99, this one knows 1",
        ),
        ({BUNDLE_KEY: " " * 33_000_000}, "model.onnx describes its model in 33 MB of text: it is refused"),
    ],
)
def test_metadata__that_is_wrong_is_one_sentence(
    changes: dict[str, str | None], message: str, bundle: Bundle, artefact: Artefact
) -> None:
    texts = {**to_metadata(bundle, artefact), **changes}

    with pytest.raises(BundleError, match=message):
        from_metadata({key: text for key, text in texts.items() if text is not None}, where=FILE)


def test_metadata__refuses_unknown_keys(bundle: Bundle, artefact: Artefact) -> None:
    texts = to_metadata(bundle, artefact)
    texts[EXPORT_KEY] = json.dumps({**json.loads(texts[EXPORT_KEY]), "shell": "rm"})

    with pytest.raises(BundleError, match=r"model.onnx: unknown key 'shell'."):
        from_metadata(texts, where=FILE)
