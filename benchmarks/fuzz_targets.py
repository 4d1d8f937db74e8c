"""What `benchmarks.fuzz` calls with broken content, and what must come of it.

A target takes bytes and an empty folder of its own. It returns whether they were read, and passes over the
errors that are ours; whatever else it raises is a finding: another exception, a message that no terminal can
show, an image of another size than its header was said to give, a path outside of the data, a box that is
not finite, a configuration that is not read back equal.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.fuzz_seeds import (
    SEPARATOR,
    coco_seeds,
    config_seeds,
    image_seeds,
    table_seeds,
    voc_seeds,
)

from query2label.config import RunConfig, dump_config, load_config
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.decode import image_size, load_image, load_reduced
from query2label.errors import ImageError, Q2LError
from query2label.formats import DataFormat

Target = Callable[[bytes, Path], bool]

MAX_PIXELS: Final = 50_000_000
"""As the service has it: what the library reads by default may take a gigabyte by right."""
IMAGE_NAMES: Final = ("a.jpg", "b.png")
VOC_FILES: Final = (
    *("Annotations/a.xml", "ImageSets/Main/train.txt", "ImageSets/Main/cat_train.txt"),
    *("ImageSets/Main/test.txt", "ImageSets/Main/cat_test.txt"),
)


@contextmanager
def _own_errors(kind: type[Q2LError]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        str(error).encode()


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise AssertionError(what)


def read_image(content: bytes, _folder: Path) -> bool:
    """Header, whole image, and image at a part of its size."""
    with _own_errors(ImageError):
        image_size(content)
    with _own_errors(ImageError):
        load_reduced(content, enough=lambda _: (1, 1), max_pixels=MAX_PIXELS)
    with _own_errors(ImageError):
        image = load_image(content, max_pixels=MAX_PIXELS)
        _expect(image.mode == "RGB", f"mode {image.mode}")
        _expect(image.size == image_size(content)[::-1], "image_size says another size")
        return True
    return False


def read_coco(content: bytes, folder: Path) -> bool:
    """One instances file."""
    file = _data_folder(folder) / "instances_train.json"
    file.write_bytes(content)
    return _read_data(file, "coco")


def read_voc(content: bytes, folder: Path) -> bool:
    """An XML file and lists; those that the input leaves out are not there."""
    for name in IMAGE_NAMES:
        _place(folder / "JPEGImages" / name).touch()
    for name in VOC_FILES:
        _place(folder / name).unlink(missing_ok=True)
    for name, part in zip(VOC_FILES, content.split(SEPARATOR), strict=False):
        (folder / name).write_bytes(part)
    return _read_data(folder, "voc")


def read_table(content: bytes, folder: Path) -> bool:
    """A table, of the kind that its first bytes look like, and perhaps its file of labels."""
    table, *labels = [content] if content.startswith(b"PAR1") else content.split(SEPARATOR, 1)
    kinds = {b"PAR1": "parquet", b"{": "jsonl"}
    kind = next((kind for start, kind in kinds.items() if table.startswith(start)), "csv")
    file = _data_folder(folder) / f"table.{kind}"
    file.write_bytes(table)
    names = folder / "table.labels.txt"
    names.unlink(missing_ok=True)
    for part in labels:
        names.write_bytes(part)
    return _read_data(file, "table")


def read_config(content: bytes, folder: Path) -> bool:
    """A recipe, and perhaps overrides, one in each line."""
    text, *overrides = content.split(SEPARATOR, 1)
    recipe, again = folder / "recipe.toml", folder / "again.toml"
    recipe.write_bytes(text)
    words = [line.decode(errors="surrogateescape") for part in overrides for line in part.split(b"\n")]
    config: RunConfig | None = None
    with _own_errors(Q2LError):
        config = load_config(recipe, words)
    if config is not None:
        again.write_text(dump_config(config), encoding="utf-8")
        _expect(load_config(again) == config, "the dumped configuration is another")
    return config is not None


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _data_folder(folder: Path) -> Path:
    for name in IMAGE_NAMES:
        (folder / name).touch()
    return folder


def _read_data(path: Path, layout: DataFormat) -> bool:
    was_read = False
    for check_files in (True, False):
        with _own_errors(Q2LError):
            dataset = load_dataset(path, format=layout, check_files=check_files, on_problem="keep")
            _check(dataset, path if path.is_dir() else path.parent)
            was_read = bool(dataset.samples)
    return was_read


def _check(dataset: Dataset, folder: Path) -> None:
    _expect({*dataset.targets().flat} <= {1, 0, -1}, "targets")
    words: list[Any] = [*dataset.labels, *dataset.splits(), *dataset.notes]
    "\n".join(map(str, [*words, *dataset.problems, *dataset.warnings])).encode()
    for sample in dataset.samples:
        os.fsencode(sample.path)
        _expect(Path(os.path.normpath(sample.path)).is_relative_to(folder), f"{sample.path} is outside")
        for box in sample.boxes:
            _expect(all(map(math.isfinite, (box.left, box.top, box.width, box.height, box.area))), f"{box}")


PARSERS: dict[str, tuple[Target, Callable[[], Iterator[bytes]]]] = {
    "images": (read_image, image_seeds),
    "coco": (read_coco, coco_seeds),
    "voc": (read_voc, voc_seeds),
    "table": (read_table, table_seeds),
    "config": (read_config, config_seeds),
}
"""By name: what is called, and what makes its seeds."""
