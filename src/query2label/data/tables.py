"""A table, or one in each folder of a split, as the `imagefolder` of Hugging Face `datasets` has them.

There, `train/metadata.jsonl` (or `.csv`, `.parquet`) names images beside it (`file_name`) and their labels,
and so do `validation` and `test`. The splits share their labels: those that any of them has.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from query2label.data import table
from query2label.data.annotation_files import STANDARD_SPLITS, split_name
from query2label.data.image_root import refuse_outside
from query2label.data.samples import Dataset, Sample
from query2label.labels import LabelSet

_METADATA_FILES: Final = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def read(
    path: Path, *, labels: LabelSet | None = None, image_root: Path | None = None, check_files: bool = True
) -> Dataset:
    """Reads a table, a folder with exactly one table in it, or one with a table in each split.

    Args:
        path: The file or folder.
        labels: As in `table.read`; where the splits have different labels, all of them in alphabetical order.
        image_root: Folder that image names are relative to; each table's folder where it is left out.
        check_files: Whether a missing image file is a problem.

    Returns:
        The images in the order of splits and rows. It is refused with a `ProblemError` as by `table.read`.
    """
    files = _split_tables(path)
    if not files:
        return table.read(path, labels=labels, image_root=image_root, check_files=check_files)
    for file in files:
        refuse_outside(file, path)

    def parts(label_set: LabelSet | None) -> list[Dataset]:
        return [
            table.read(file, labels=label_set, image_root=image_root, check_files=check_files)
            for file in files
        ]

    found = parts(labels)
    if any(part.labels.names != found[0].labels.names for part in found):
        found = parts(LabelSet(sorted({name for part in found for name in part.labels})))
    return Dataset(
        found[0].labels,
        [_placed(sample, file) for part, file in zip(found, files, strict=True) for sample in part.samples],
        path,
        "table",
        [problem for part in found for problem in part.problems],
        list(dict.fromkeys(note for part in found for note in part.notes)),
        [warning for part in found for warning in part.warnings],
    )


def looks_like(path: Path) -> bool:
    """Whether `path` is a table, by its name, or has one in it or in its folders of splits."""
    return table.looks_like(path) or bool(_split_tables(path))


def _split_tables(path: Path) -> list[Path]:
    """The tables in folders of splits; none where a table lies above them."""
    if not path.is_dir() or table.tables_in(path):
        return []
    folders = [part for part in sorted(path.iterdir()) if split_name(part.name) in STANDARD_SPLITS]
    found = (
        next((f for name in _METADATA_FILES if (f := folder / name).is_file()), None) for folder in folders
    )
    return [file for file in found if file is not None]


def _placed(sample: Sample, file: Path) -> Sample:
    return sample if sample.split is not None else replace(sample, split=split_name(file.parent.name))
