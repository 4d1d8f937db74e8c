"""The curve of a run: one JSON line per epoch, and TensorBoard where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from query2label.extras import import_extra
from query2label.storage import atomic_file, explained_os_errors

Record = dict[str, Any]


class MetricsLog:
    """Writes each epoch's record. Lines that are ahead of the checkpoint resumed from are taken back.

    Args:
        path: `metrics.jsonl`.
        records: Those of the checkpoint; the file is made to hold exactly these.
        tensorboard_dir: Where TensorBoard files go, or None.
        warn: Told once when TensorBoard fails; a tracker never stops a run.
    """

    def __init__(
        self,
        path: Path,
        records: Sequence[Record],
        *,
        tensorboard_dir: Path | None,
        warn: Callable[[str], None],
    ) -> None:
        self.records = list(records)
        self._path = path
        self._warn = warn
        with atomic_file(path) as file:
            file.writelines(map(_line, self.records))
        self._tensorboard = _open_tensorboard(tensorboard_dir, self.records)

    def add(self, record: Record) -> None:
        """Adds one epoch."""
        self.records.append(record)
        with explained_os_errors(self._path), self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line(record))
        if self._tensorboard is not None:
            try:
                for name, value in _numbers(record).items():
                    self._tensorboard.add_scalar(name, value, record["step"])
                self._tensorboard.flush()
            except OSError as error:
                self._warn(f"TensorBoard files are not written any more: {error}.")
                self._tensorboard = None

    def close(self) -> None:
        """Closes the TensorBoard files."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _open_tensorboard(folder: Path | None, records: Sequence[Record]) -> Any:
    if folder is None:
        return None
    import_extra("tensorboard", extra="tensorboard", purpose="train.tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=records[-1]["step"] + 1 if records else 0)


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
