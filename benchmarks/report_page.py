"""Size and speed of a report's page for many images and labels.

    python -m benchmarks.report_page                    # 5,000 images, 80 labels
    python -m benchmarks.report_page --photos FOLDER    # pictures of real photos instead of drawn ones
    python -m benchmarks.report_page --quick

It writes labelled images and a small model with random weights, makes the report on them, opens it from disk
in Chromium, and prints what that took: until the numbers stood, until a threshold of one label and of all
had been moved and everything on the page followed, and until the mistakes of a label were shown.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.inference.inputs import images_in
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec, load_image
from query2label.report.write import ReportOptions, write_report

_FOLLOW = """
async ([selector, value]) => {
    const input = document.querySelector(selector), begin = performance.now();
    input.value = value;
    input.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    return performance.now() - begin;
}"""
_CHOOSE = """
async () => {
    const begin = performance.now();
    document.querySelector('table.labels tbody button.link').click();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    return performance.now() - begin;
}"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--photos", type=Path, help="folder of photos to use, again and again")
    parser.add_argument("--chromium", type=Path, default=Path("/usr/bin/chromium"))
    parser.add_argument("--quick", action="store_true", help="200 images, 10 labels")
    options = parser.parse_args()
    num_images, num_labels = (200, 10) if options.quick else (options.images, options.labels)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_data(root / "data", num_images, num_labels, options.photos)
        bundle = write_model(root / "model", num_labels)
        begin = time.perf_counter()
        page = write_report([str(bundle)], data, root / "report", options=ReportOptions(device="cpu"))
        made = time.perf_counter() - begin
        print(f"{num_images:,} images, {num_labels} labels: made in {made:.0f} s")
        print(f"page: {page.stat().st_size / 1e6:.1f} MB")
        for name, values in browse(page, options.chromium).items():
            print(f"{name}: {statistics.median(values):.0f} ms (of {len(values)}: {max(values):.0f} at most)")


def write_data(folder: Path, num_images: int, num_labels: int, photos: Path | None) -> Path:
    """A table of images with about three labels each, drawn as noise that compresses like photos."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    source = itertools.cycle(images_in(photos)) if photos else None
    shares = np.geomspace(0.3, 0.004, num_labels)
    lines = ["image,labels"]
    for number in range(num_images):
        image = _drawn(rng) if source is None else load_image(next(source))
        image.thumbnail((320, 320))
        image.save(folder / f"{number:05d}.jpg", quality=85)
        names = np.flatnonzero(rng.random(num_labels) < shares)
        lines.append(f"{number:05d}.jpg," + "|".join(f"label {k:02d}" for k in names))
    lines.append("")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def _drawn(rng: np.random.Generator) -> Image.Image:
    """Noise of several sizes, as photos have it."""
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).resize((320, 240), 3)
        )
        for size in (4, 16, 64)
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=(4, 2, 1)).astype(np.uint8))


def write_model(folder: Path, num_labels: int) -> Path:
    """A small model with attention and random weights."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=32)
    model = build_model(config, num_labels, image_size=(64, 64))
    model.bundle = Bundle(
        model=config,
        labels=tuple(f"label {k:02d}" for k in range(num_labels)),
        preprocess=PreprocessSpec(image_size=(64, 64)),
        thresholds=(0.5,) * num_labels,
    )
    model.save_pretrained(folder)
    return folder


def browse(page: Path, chromium: Path) -> dict[str, list[float]]:
    """Milliseconds of each of several rounds."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {
        "numbers stood after": [],
        "one threshold moved": [],
        "all thresholds moved": [],
        "mistakes of a label shown": [],
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(5):
            tab = browser.new_context(offline=True).new_page()
            begin = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready=yes]", state="attached")
            found["numbers stood after"].append(1000 * (time.perf_counter() - begin))
            for step in (9000, 15000, 22000):
                one = ["table.labels input[type=range]", step]
                found["one threshold moved"].append(tab.evaluate(_FOLLOW, one))
                found["all thresholds moved"].append(tab.evaluate(_FOLLOW, ["#all", step]))
            found["mistakes of a label shown"].append(tab.evaluate(_CHOOSE))
            tab.close()
        browser.close()
    return found


if __name__ == "__main__":
    main()
