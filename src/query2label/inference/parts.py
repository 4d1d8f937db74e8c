"""Predictions of many images in a folder: in parts that are there as a whole or not at all.

Part k has the rows of images k * part_size and so on, wherever and whenever it is written. So a killed
command that is started again writes the parts that are missing; several machines share the parts between
them; and the folder is the same in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from query2label.bundle.form import explain, parse_json
from query2label.data.samples import Sample
from query2label.errors import BundleError, ConfigError, DataError
from query2label.storage import TEMPORARY_PREFIX, remove_temporaries, write_json

MANIFEST_NAME: Final = "manifest.json"
MANIFEST_VERSION: Final = 1
_Count = Annotated[int, Field(ge=1)]
_CHANGES: Final = {
    "model": "another model",
    "images": "other images",
    "num_images": "other images",
    "choice": "other thresholds or another --top-k",
    "form": "another --format",
    "keep_logits": "another --keep-logits",
    "part_size": "another --part-size",
    "batch_size": "another --batch-size",
}


class Choice(BaseModel):
    """How labels were chosen by scores, as `LabelChoice` has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    labels: tuple[str, ...]
    """All labels of the model, in output order."""
    thresholds: dict[str, float]
    """By label."""
    top_k: int | None
    """At most so many labels per image."""
    ranked_only: bool
    """Whether thresholds did not matter."""


class Manifest(BaseModel):
    """`manifest.json`: what the parts of a folder are the answer to."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    manifest_version: int = MANIFEST_VERSION
    """Version of this file's form."""
    model: str
    """SHA-256 of the model's files."""
    images: str
    """SHA-256 over the names of all images in their order."""
    num_images: _Count
    """In all parts together."""
    part_size: _Count
    """Images in each part but the last."""
    form: str
    """Of the parts: `parquet`, `jsonl` or `csv`."""
    choice: Choice
    """How labels were chosen by scores."""
    keep_logits: bool = False
    """Whether the parts have logits."""
    batch_size: int | None = None
    """Images that were computed at once, which may change the last bits of scores."""

    @property
    def num_parts(self) -> int:
        """How many parts there are when all is done."""
        return -(-self.num_images // self.part_size)


@dataclass(frozen=True)
class Shard:
    """A machine's share: every `count`-th part, from part `index` - 1 on."""

    index: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The share that `i/n` stands for.

        Raises:
            ConfigError: If it is of another form, or i is not within 1 and n.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()) or not 1 <= int(index) <= int(count):
            raise ConfigError(f"--shard {text} is not of the form i/n with i from 1 to n, such as 1/4.")
        return cls(int(index), int(count))

    def has(self, part: int) -> bool:
        """Whether a part (from 0) is in it."""
        return part % self.count == self.index - 1


@dataclass(frozen=True)
class Part:
    """Some images in a row, to be predicted."""

    number: int
    """From 0."""
    samples: list[Sample]


class PartFolder:
    """A folder of parts, and what they are parts of.

    Args:
        path: The folder.
        manifest: What it is begun with, or was.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def begin(cls, path: Path, manifest: Manifest) -> PartFolder:
        """The folder, made if it is not there, or found as it was left.

        A manifest that cannot be read is a `DataError`, a refused write a `StorageError`.

        Raises:
            ConfigError: If it is a file, holds other files, or was begun with something else.
        """
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file: name a folder for the parts.")
        if (path / MANIFEST_NAME).exists():
            before = read_manifest(path)
            changes = dict.fromkeys(
                what for name, what in _CHANGES.items() if getattr(before, name) != getattr(manifest, name)
            )
            if changes:
                raise ConfigError(
                    f"{path} was begun with {' and '.join(changes)}: give what it was begun with, or name "
                    "another folder."
                )
            return cls(path, before)
        others = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
        others = [name for name in others if not name.startswith(TEMPORARY_PREFIX)]
        if others:
            raise ConfigError(f"{path} holds other files ({others[0]}): name a new folder for the parts.")
        write_json(path / MANIFEST_NAME, manifest.model_dump(mode="json"))
        return cls(path, manifest)

    @classmethod
    def finished(cls, path: Path) -> PartFolder:
        """The folder of a command that came to its end.

        A missing manifest, or one that cannot be read, is a `DataError`.

        Raises:
            DataError: If parts are missing.
        """
        folder = cls(path, read_manifest(path))
        missing = folder.missing()
        if missing:
            raise DataError(
                f"{path} is not finished: {len(missing)} of {folder.manifest.num_parts} parts are missing, "
                f"the first is {folder.part_path(missing[0]).name}."
            )
        return folder

    def part_path(self, number: int) -> Path:
        """The file of a part; names in alphabetical order are parts in order."""
        digits = max(5, len(str(self.manifest.num_parts - 1)))
        return self.path / f"part-{number:0{digits}d}.{self.manifest.form}"

    def missing(self, shard: Shard | None = None) -> list[int]:
        """Numbers of the parts that are not there yet, of all or of a share."""
        present = {file.name for file in self.path.iterdir()}
        return [
            number
            for number in range(self.manifest.num_parts)
            if (shard is None or shard.has(number)) and self.part_path(number).name not in present
        ]

    def remove_leftovers(self, shard: Shard | None = None) -> None:
        """Removes what killed writers left; only for the only writer of the folder, or of a share of it."""
        names = ["*"] if shard is None else [self.part_path(number).name for number in self.missing(shard)]
        for name in names:
            remove_temporaries(self.path, name=name)

    def rows_of(self, number: int) -> int:
        """How many images a part has."""
        return min(self.manifest.part_size, self.manifest.num_images - number * self.manifest.part_size)


def read_manifest(folder: Path) -> Manifest:
    """What a folder of parts was begun with.

    Raises:
        DataError: If there is none, or it is not of our form.
    """
    file = folder / MANIFEST_NAME
    if not file.is_file():
        raise DataError(f"{folder} has no {MANIFEST_NAME}: it is no folder that `q2l predict` wrote.")
    try:
        return Manifest.model_validate(_newest(parse_json(file), file))
    except BundleError as error:
        raise DataError(str(error)) from None
    except ValidationError as error:
        raise DataError(explain(error, file)) from None


def _newest(document: Any, file: Path) -> Any:
    version = document.get("manifest_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise DataError(
            f"{file} was written by a newer query2label (form {version}, this one knows {MANIFEST_VERSION}): "
            "pip install --upgrade query2label."
        )
    return document


def wanted_parts(samples: Iterable[Sample], wanted: Iterable[int], part_size: int) -> Iterator[Part]:
    """The wanted parts of all images, with only one in memory at a time; all images are gone through."""
    numbers = set(wanted)
    held: list[Sample] = []
    index = -1
    for index, sample in enumerate(samples):
        number, place = divmod(index, part_size)
        if number in numbers:
            held.append(sample)
            if place == part_size - 1:
                yield Part(number, held)
                held = []
    if held:
        yield Part(index // part_size, held)
