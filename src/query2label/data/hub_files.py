"""The files of a data set of the `datasets` library, and their splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from query2label.data.annotation_files import read_json, split_name
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.samples import Problem, ProblemError
from query2label.data.shards import files_called, split_of_shard
from query2label.errors import DataError

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_PARQUET_FOLDERS: Final = ("data", "default")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file with images."""

    path: Path
    split: str | None


def looks_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    if (folder / _SPLITS).is_file():
        return True
    return (folder / _STATE).is_file() and any(file.suffix == ".arrow" for file in folder.iterdir())


def parquet_files(folder: Path) -> Iterator[Path]:
    """The Parquet files in a folder, in `data` or `default`, and in folders named like splits."""
    return files_called(folder, (".parquet",), also_in=_PARQUET_FOLDERS, depth=2)


def hub_files(folder: Path, problems: list[Problem]) -> list[HubFile]:
    """The files in a folder, in order of splits and names; what is not as it should be is a problem."""
    try:
        if (folder / _SPLITS).is_file():
            return list(_saved_splits(folder, problems))
        if (folder / _STATE).is_file():
            return _saved(folder, None, problems)
    except ProblemError as error:
        problems.append(error.problem)
        return []
    found = []
    for path in parquet_files(folder):
        try:
            refuse_outside(path, folder)
            found.append(HubFile(path, split_of_shard(path.relative_to(folder))))
        except ProblemError as error:
            problems.append(error.problem)
    return found


def _saved_splits(folder: Path, problems: list[Problem]) -> Iterator[HubFile]:
    value = _read(folder, _SPLITS)
    names = value.get("splits")
    if not isinstance(names, list):
        raise ProblemError(folder / _SPLITS, "has no list 'splits'")
    for name in names:
        try:
            if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_dir():
                raise ProblemError(folder / _SPLITS, f"names the split {name!r}, but there is no such folder")
            refuse_outside(folder / name, folder)
            yield from _saved(folder / name, split_name(name), problems)
        except ProblemError as error:
            problems.append(error.problem)


def _saved(folder: Path, split: str | None, problems: list[Problem]) -> list[HubFile]:
    state = _read(folder, _STATE)
    entries = state.get("_data_files")
    if not isinstance(entries, list):
        raise ProblemError(folder / _STATE, "has no list '_data_files'")
    if state.get("_indices_data_files"):
        raise ProblemError(
            folder / _STATE,
            "has its rows in another order than its files: flatten_indices(), and save it again",
        )
    own = state.get("_split")
    name = split or (split_name(own) if isinstance(own, str) else None)
    root = ImageRoot(folder)
    found = []
    for entry in entries:
        try:
            file = entry.get("filename") if isinstance(entry, dict) else None
            if not isinstance(file, str) or not file.endswith(".arrow"):
                raise DataError(f"'_data_files' has {str(entry)[:60]} in it, not an Arrow file")
            found.append(HubFile(root.locate(file), name))
        except DataError as error:
            problems.append(Problem(folder / _STATE, str(error)))
    return found


def _read(folder: Path, name: str) -> dict[str, Any]:
    refuse_outside(folder / name, folder)
    value = read_json(folder / name)
    if not isinstance(value, dict):
        raise ProblemError(folder / name, "is no JSON object")
    return value
