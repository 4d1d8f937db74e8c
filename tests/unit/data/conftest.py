"""Small data sets in every layout, written where a test wants them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

MakeImage = Callable[..., Path]


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """Writes a small JPEG below tmp_path; another `grey` is another content."""

    def make(name: str, *, grey: int = 100, size: tuple[int, int] = (8, 6)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, grey).save(path, format="JPEG")
        return path

    return make


@pytest.fixture
def make_text(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes UTF-8 text below tmp_path."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return make


@pytest.fixture
def make_coco(tmp_path: Path, make_image: MakeImage) -> Callable[..., Path]:
    """Writes a COCO file with two images and three categories; arguments replace its parts."""

    def make(name: str = "annotations/instances_train2017.json", **parts: Any) -> Path:
        value: dict[str, Any] = {
            "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 20, "bbox": [1, 2, 3, 4], "area": 5.5, "iscrowd": 0},
                {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 2, 2], "iscrowd": 1},
            ],
            "categories": [
                {"id": 20, "name": "cat"},
                {"id": 4, "name": "dog"},
                {"id": 30, "name": "ant"},
            ],
        }
        value.update(parts)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return make
