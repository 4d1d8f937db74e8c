"""Small valid files for `benchmarks.fuzz` to start from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

from query2label.config import RunConfig, dump_config

SEPARATOR: Final = b"\n--\n"
"""Between the files that one input stands for."""


def image_seeds() -> Iterator[bytes]:
    """Every format, and of each the modes that have code of their own."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    forms: list[tuple[str, str, dict[str, Any]]] = [
        *(("RGB", "JPEG", {"exif": turned}), ("L", "JPEG", {"progressive": True}), ("CMYK", "JPEG", {})),
        *((mode, "PNG", {}) for mode in ("1", "L", "LA", "RGB", "RGBA")),
        *(("P", "PNG", {"transparency": 3}), ("RGB", "WEBP", {"exif": turned}), ("RGB", "AVIF", {})),
        *(("RGBA", "WEBP", {"lossless": True}), ("RGBA", "WEBP", {"save_all": True})),
        *(("P", "GIF", {"transparency": 3}), ("P", "GIF", {"save_all": True})),
        *((mode, "BMP", {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("RGB", "TIFF", {"compression": name}) for name in (None, "tiff_lzw", "tiff_adobe_deflate")),
        *(("CMYK", "TIFF", {"compression": "packbits"}), ("RGB", "TIFF", {"compression": "jpeg"})),
        *(("1", "TIFF", {"compression": "group4"}), ("P", "TIFF", {"exif": turned})),
        *((mode, "PPM", {}) for mode in ("1", "L", "RGB")),
    ]
    images = [(colour.convert(mode), form, options) for mode, form, options in forms]
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    images += [(deep, form, {}) for form in ("PNG", "TIFF", "PPM")]
    for image, form, options in images:
        file = io.BytesIO()
        more = {"append_images": [image.rotate(180)]} if "save_all" in options else {}
        image.save(file, form, **options, **more)
        yield file.getvalue()


def coco_seeds() -> Iterator[bytes]:
    """With the members that are read, in two orders."""
    images = '"images": [{"id": 7, "file_name": "a.jpg", "width": 4}, {"id": 3, "file_name": "b.png"}]'
    objects = (
        '"annotations": [{"id": 1, "image_id": 7, "category_id": 20, "bbox": [1, 2.5, 3e0, 4], "area": 5.5, '
        '"iscrowd": 0, "segmentation": [[1, 2, 3, 4]]}, {"id": 2, "image_id": 3, "category_id": 4}]'
    )
    categories = '"categories": [{"id": 20, "name": "cat"}, {"id": 4, "name": "d\\u00f6g"}]'
    for parts in ((images, objects, categories), (categories, objects, images)):
        yield f"{{{', '.join(parts)}}}".encode()


def voc_seeds() -> Iterator[bytes]:
    """XML alone, lists of train, and lists of test with and without marks."""
    box = "<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    thing = f"<object><name>cat</name><difficult>1</difficult>{box}</object>"
    xml = f'<?xml version="1.0" encoding="utf-8"?><annotation>{thing}</annotation>'
    parts = [xml, "a\nb\n", "a  1\nb -1\n", "b\n", "b 0\n"]
    for end in (1, 3, 5):
        yield SEPARATOR.join(part.encode() for part in parts[:end])
    yield SEPARATOR.join(part.encode() for part in (xml, "a\n", "a 1\n", "b\n", "b\n"))


def table_seeds() -> Iterator[bytes]:
    """Each kind of file, with labels in one column and in one for each."""
    yield b'image,labels,split,unknown\na.jpg,cat|dog,train,\n"b.png",dog,valid,cat\n'
    yield b"image;cat;dog\na.jpg;1;0\nb.png;-1;1.0\n"
    yield b'path\ttags\na.jpg\t[\'cat\', "dog"]\nb.png\t["cat"]\n' + SEPARATOR + b"dog\ncat\n"
    yield b'{"image": "a.jpg", "labels": ["cat", 3], "split": "train"}\n{"image": "b.png", "labels": "dog"}\n'
    yield b'{"image": "a.jpg", "cat": 1, "dog": null}\n{"image": "b.png", "dog": true}\n'
    columns = {"image": ["a.jpg", "b.png"], "labels": [["cat"], ["dog", "cat"]], "when": [None, 1.5]}
    for compression in ("none", "snappy"):
        file = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), file, compression=compression)
        yield file.getvalue()


def config_seeds() -> Iterator[bytes]:
    """All settings, a small recipe, and overrides."""
    yield dump_config(RunConfig()).encode()
    yield b'[model]\nbackbone = "test_resnet"\nweights = "none"\n[data]\nimage_size = [32, 0x40]\n'
    yield b"optim.lr = 1_0e-4\n" + SEPARATOR + b"data.path=photos\ntrain.epochs=3\ndata.mean=[0, 0.5, 1]"
