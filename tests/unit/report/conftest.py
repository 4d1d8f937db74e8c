"""A small model with attention, and photos of shapes with hostile names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.evaluation.evaluate import LabelledScores, score_labelled
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec
from query2label.report.write import ReportOptions, write_report

HOSTILE = "<img src=x onerror=alert(1)>"
LABELS = ("ant", HOSTILE, "cow", "=1+1", "bee & bird")


def save_model(folder: Path, *, seed: int = 0, head: str = "query2label", labels: tuple[str, ...] = LABELS):
    torch.manual_seed(seed)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16, head=head)
    model = build_model(config, len(labels), image_size=(96, 96))
    model.bundle = Bundle(
        model=config,
        labels=labels,
        preprocess=PreprocessSpec(image_size=(96, 96)),
        thresholds=tuple(0.35 + 0.05 * k for k in range(len(labels))),
        temperature=0.5,
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "first")


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second model, whose head has no attention."""
    return save_model(tmp_path_factory.mktemp("models") / "second", seed=1, head="linear")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty noisy images with random labels, one broken, one called like markup."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["image," + ",".join(f'"{label}"' for label in LABELS)]
    for number in range(60):
        name = f"{number:02d}.png" if number else "&lt;b&gt; <script>alert(2)<!-- script.png"
        noise = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((48, 32), Image.Resampling.NEAREST).save(folder / name)
        targets = [str(int(rng.random() < share)) for share in (0.7, 0.4, 0.3, 0.3, 0.1)]
        targets[number % 5] = "" if number % 7 == 0 else targets[number % 5]
        lines.append(f'"{name}",' + ",".join(targets))
    (folder / "cut.png").write_bytes((folder / "01.png").read_bytes()[:60])
    lines.append("cut.png,1,0,0,0,0")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def report_folder(bundle_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on one model."""
    out = tmp_path_factory.mktemp("report") / "one"
    write_report([str(bundle_folder)], photos, out, options=ReportOptions(num_resamples=50, device="cpu"))
    return out


@pytest.fixture(scope="session")
def compared_folder(
    bundle_folder: Path, other_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The report on two models."""
    out = tmp_path_factory.mktemp("report") / "two"
    models = [str(bundle_folder), str(other_folder)]
    write_report(models, photos, out, options=ReportOptions(num_resamples=50, device="cpu"))
    return out


@pytest.fixture(scope="session")
def measured(bundle_folder: Path, photos: Path) -> LabelledScores:
    """What evaluation makes its numbers of."""
    return score_labelled(Predictor.load(bundle_folder, device="cpu"), photos)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a report from disk with the network off; anything said on its console fails the test."""
    said: list[str] = []
    contexts = []

    def open_file(folder: Path, *, scheme: str = "light", width: int = 1280) -> Page:
        viewport = {"width": width, "height": 900}
        context = browser.new_context(offline=True, color_scheme=scheme, viewport=viewport)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                said.append(request.url)
                if "file:" not in request.url[:5] and "data:" not in request.url[:5]
                else None
            ),
        )
        page.goto((folder / "index.html").as_uri())
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert said == []
