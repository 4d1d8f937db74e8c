"""Before a run: validation images that look like training images, and so judge what was learned by heart."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Generator

import numpy as np

from query2label.data.look_alikes import Look, find_look_alikes, read_looks
from query2label.data.samples import Dataset
from query2label.spreadsheet import inert_cell
from query2label.storage import atomic_file
from query2label.training.plan import Indices
from query2label.training.run_context import Run
from query2label.training.signals import RunInterruptedError

MAX_IMAGES = 20_000
"""So many images are looked at, a minute or two of decoding; of more, some evenly spaced ones."""
NUM_SHOWN = 3
"""So many pairs are named in the log."""


def look_for_copies(run: Run) -> list[str]:
    """Says which validation images look like a training image, and lists them in `look_alikes.csv`.

    Returns:
        What the report should say of it; nothing where none does.
    """
    train, val = run.start.data.train, run.start.data.val
    val_rows = _evenly(len(val), MAX_IMAGES // 2)
    train_rows = _evenly(len(train), MAX_IMAGES - len(val_rows))
    num_seen = len(val_rows) + len(train_rows)
    with run.reporter.phase("looking for copies", total=num_seen) as phase:
        looks: list[list[Look | None]] = []
        for dataset, rows in ((val, val_rows), (train, train_rows)):
            looks.append([])
            for batch in _read(run, dataset, rows):
                looks[-1] += batch
                phase.move_to(sum(map(len, looks)), total=num_seen)
    pairs = [
        (val.samples[val_rows[found.index]].path, train.samples[train_rows[found.other]].path, found.distance)
        for found in find_look_alikes(*looks)
    ]
    if num_seen < len(val) + len(train):
        run.reporter.say(
            f"Looked for copies among {len(val_rows):,} of {len(val):,} validation and {len(train_rows):,} "
            f"of {len(train):,} training images; q2l data check looks at all."
        )
    if not pairs:
        return []
    with atomic_file(run.folder.look_alikes) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("validation", "training", "distance"))
        writer.writerows((inert_cell(str(one)), inert_cell(str(other)), bits) for one, other, bits in pairs)
    look = "looks" if len(pairs) == 1 else "look"
    caution = (
        f"{len(pairs):,} of {len(val_rows):,} validation images {look} like a training image (the same "
        "picture, perhaps saved anew or resized), so results on them are too good."
    )
    shown = "; ".join(f"{one} and {other}" for one, other, _ in pairs[:NUM_SHOWN])
    run.reporter.warn(f"{caution} {run.folder.look_alikes} lists them: {shown}{_more(len(pairs))}.")
    return [caution]


def _read(run: Run, dataset: Dataset, rows: Indices) -> Generator[list[Look | None], None, None]:
    config = run.config.data
    seen = read_looks(
        dataset, rows, num_workers=config.num_workers, timeout_seconds=config.worker_timeout_seconds
    )
    with contextlib.closing(seen):
        for batch in seen:
            if run.stop.signal_number:
                raise RunInterruptedError(
                    "Stopped by a signal while validation images were compared with training images: go on "
                    f"with `q2l train --resume {run.folder.path}`.",
                    signal_number=run.stop.signal_number,
                )
            yield batch


def _evenly(num_images: int, num_wanted: int) -> Indices:
    """All images, or so many at equal distances."""
    return np.linspace(0, num_images - 1, min(num_images, num_wanted)).round().astype(np.int64)


def _more(num_pairs: int) -> str:
    return f"; and {num_pairs - NUM_SHOWN} more" if num_pairs > NUM_SHOWN else ""
