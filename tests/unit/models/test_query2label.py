from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import query2label.models.query2label as module
from query2label import Query2Label
from query2label.bundle import Bundle, read_bundle, resolve_bundle_path
from query2label.config import ModelConfig
from query2label.errors import BundleError, ConfigError
from query2label.models.build import build_model, load_model
from query2label.preprocess import PreprocessSpec

CONFIG = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=32)
LABELS = ("cat", "dog", "tree")
BUNDLE = Bundle(
    model=CONFIG, labels=LABELS, preprocess=PreprocessSpec(image_size=(64, 96)), thresholds=(0.5, 0.4, 0.3)
)


@pytest.fixture
def model() -> Query2Label:
    torch.manual_seed(0)
    model = build_model(CONFIG, len(LABELS)).eval()
    model.bundle = BUNDLE
    for buffer in model.buffers():  # as training changes them
        if buffer.is_floating_point():
            buffer.add_(0.1 * torch.rand_like(buffer))
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_query2label__is_the_head_after_the_backbone(model: Query2Label, images: torch.Tensor) -> None:
    features = model.forward_features(images)

    assert features.shape == (2, model.backbone.num_channels, 2, 3)
    assert torch.equal(model(images), model.head(features))
    assert torch.equal(model.forward_head(features), model(images))
    assert model.num_labels == 3


def test_query2label__scores_some_labels_and_chunks(model: Query2Label, images: torch.Tensor) -> None:
    indices, logits = torch.tensor([2, 0]), model(images)

    torch.testing.assert_close(model(images, label_indices=indices), logits[:, indices], rtol=0, atol=1e-6)
    torch.testing.assert_close(model(images, label_chunk=2), logits, rtol=0, atol=1e-6)


def test_query2label__shows_where_it_looked(model: Query2Label, images: torch.Tensor) -> None:
    logits, attention = model.forward_with_attention(images)

    torch.testing.assert_close(logits, model(images), rtol=0, atol=1e-6)
    assert attention.shape == (2, 2, 4, 3, 2, 3)
    torch.testing.assert_close(attention.sum((-2, -1)), torch.ones(2, 2, 4, 3))


def test_query2label__other_heads_do_not_show_where_they_looked(images: torch.Tensor) -> None:
    model = build_model(CONFIG.model_copy(update={"head": "csra"}), 3)

    with pytest.raises(ConfigError, match="CsraHead has no attention maps"):
        model.forward_with_attention(images)


def test_save_pretrained__comes_back_the_same(
    model: Query2Label, images: torch.Tensor, tmp_path: Path
) -> None:
    expected = model(images)
    model.save_pretrained(tmp_path / "bundle")
    for parameter in model.parameters():
        parameter.data += 1
    torch.manual_seed(1)

    loaded = Query2Label.from_pretrained(str(tmp_path / "bundle"))

    assert torch.equal(loaded(images), expected)
    assert loaded.bundle == BUNDLE
    assert not loaded.training
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_save_pretrained__needs_a_bundle(tmp_path: Path) -> None:
    model = build_model(CONFIG, 3)

    with pytest.raises(BundleError, match=r"This model has no bundle.*set model\.bundle = Bundle"):
        model.save_pretrained(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_from_pretrained__looks_on_the_hub(
    model: Query2Label, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "bundle")
    asked: list[Any] = []

    def resolve(name: str, *, revision: str | None) -> Path:
        asked.append((name, revision))
        return resolve_bundle_path(tmp_path / "bundle")

    monkeypatch.setattr(module, "resolve_bundle_path", resolve)

    loaded = Query2Label.from_pretrained("someone/something", revision="v1")

    assert asked == [("someone/something", "v1")]
    assert torch.equal(loaded(images), model(images))


def test_push_to_hub__uploads_a_bundle(model: Query2Label, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Hub:
        def __init__(self, *, token: str | None) -> None:
            calls.append(token)

        def create_repo(self, repo_id: str, **options: bool) -> None:
            calls.append((repo_id, options))

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> SimpleNamespace:
            calls.append((repo_id, read_bundle(folder_path), load_model(folder_path).num_labels))
            return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(module, "HfApi", Hub)

    assert model.push_to_hub("someone/something", private=True, token="secret") == "https://hub/commit"
    assert calls == [
        "secret",
        ("someone/something", {"private": True, "exist_ok": True}),
        ("someone/something", BUNDLE, 3),
    ]


@pytest.mark.parametrize("error", [kind("Name not known") for kind in module.HUB_ERRORS])
def test_push_to_hub__a_hub_that_fails_is_one_sentence(
    model: Query2Label, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module.HfApi, "create_repo", fail)
    with pytest.raises(BundleError, match=r"not saved to .* as a/b \(Name not known\): check the name, the "):
        model.push_to_hub("a/b")
