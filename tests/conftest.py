"""What all tests share: one thread, no network, and the folder of real photos where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Two OpenMP programs on a small machine slow each other down many times over; and a run is equal to
    # the bit only to one with as many threads, in whichever process.
    import os

    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _offline() -> None:
    # No test may depend on a model hub.
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the real photos and golden values that lie beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data beside the checkout ({SHARED.name}/ is absent)")
    return SHARED


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, with a camera that shows a moving picture.

    One for each module and no longer: while it is open its event loop runs in this thread, where a second
    one, another module's, could not start.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser: apt install chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def voc_sample(shared_dir: Path) -> Path:
    """Native PASCAL VOC folder: 651 train and 277 val photos, 15 labels."""
    return shared_dir / "data" / "voc-sample" / "VOC2012"


@pytest.fixture(scope="session")
def ccp(shared_dir: Path) -> Path:
    """Table data set: 1,479 train and 619 test photos, 56 labels."""
    return shared_dir / "data" / "ccp"


@pytest.fixture(scope="session")
def coco_sample(shared_dir: Path) -> Path:
    """Native COCO folder: 208 train and 204 val photos, 80 labels."""
    return shared_dir / "data" / "coco-sample"


LABELS = ("circle", "square", "triangle")
COLOURS = {"circle": (220, 40, 40), "square": (40, 200, 60), "triangle": (60, 80, 230)}


def draw_shapes(path: Path, labels: tuple[str, ...], *, seed: int, size: int = 40) -> None:
    """An image with one coloured shape per label, at random places on a grey ground."""
    import random

    from PIL import Image, ImageDraw

    draw_random = random.Random(seed)
    image = Image.new("RGB", (size, size), (draw_random.randrange(90, 160),) * 3)
    draw = ImageDraw.Draw(image)
    for label in labels:
        side = draw_random.randrange(size // 3, size // 2)
        x, y = (draw_random.randrange(0, size - side) for _ in range(2))
        box = (x, y, x + side, y + side)
        if label == "circle":
            draw.ellipse(box, COLOURS[label])
        elif label == "square":
            draw.rectangle(box, COLOURS[label])
        else:
            draw.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], COLOURS[label])
    image.save(path)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table data set of 40 training and 21 validation images with coloured shapes, 3 labels."""
    import random

    folder = tmp_path_factory.mktemp("shapes")
    rows = ["image,labels,split"]
    for number in range(61):
        draw_random = random.Random(number)
        labels = tuple(label for label in LABELS if draw_random.random() < 0.5) or (LABELS[number % 3],)
        draw_shapes(folder / f"{number:02d}.png", labels, seed=number)
        rows.append(f"{number:02d}.png,{'|'.join(labels)},{'train' if number < 40 else 'val'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
