"""What a person sees of a run: bars on a terminal, plain lines elsewhere, and everything in the log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from query2label.storage import explained_os_errors

PLAIN_SECONDS = 60.0
"""Without a terminal, a phase that takes long says where it is this often."""
NUM_NAMED = 8
"""So many labels are named where there may be many."""


class Phase:
    """Progress of one part of the work: an epoch's steps, a validation, the building of a cache.

    Args:
        reporter: Where lines go.
        name: What is going on, for example `epoch 3/20`.
        total: How many parts there are.
        bar: The bar on a terminal, or None.
        done: How many of them were done before (a resumed epoch).
    """

    def __init__(
        self, reporter: Reporter, name: str, total: int, *, bar: Progress | None, done: int = 0
    ) -> None:
        self._reporter, self._name, self._total, self._done = reporter, name, total, done
        self._bar = bar
        self._task = TaskID(0)
        if bar is not None:
            self._task = bar.add_task(name, total=total, completed=done, speed="", note="")
        self._images = self._skipped = 0
        self._began = self._spoke = time.monotonic()

    @property
    def images_per_second(self) -> float:
        """Images since the phase began, per second."""
        return self._images / max(time.monotonic() - self._began, 1e-9)

    def advance(self, *, images: int, note: str = "") -> None:
        """Counts one part as done.

        Args:
            images: Number of images in it.
            note: Short text beside the bar, for example `loss 1.23`.
        """
        self._images += images
        self._done += 1
        self._show(note)

    def move_to(self, num_images: int, *, total: int) -> None:
        """For a phase that is counted in images: says how many of them are done by now.

        Args:
            num_images: Those done, also by others or before.
            total: All of them.
        """
        if self._total != total:
            self._total, self._skipped = total, num_images
        self._done, self._images = num_images, num_images - self._skipped
        self._show("")

    def _show(self, note: str) -> None:
        speed = f"{self.images_per_second:.1f} images/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, total=self._total, speed=speed, note=note)
        elif time.monotonic() - self._spoke > PLAIN_SECONDS:
            self._spoke = time.monotonic()
            self._reporter.say(f"{self._name}: {self._done} of {self._total}, {speed}, {note}".rstrip(", "))


class Reporter:
    """Says things to a person and to `log.txt`.

    Args:
        console: Where a person looks, or None for nobody (quiet, or not the first process).
        log_path: File to append to, or None.
    """

    def __init__(self, *, console: Console | None, log_path: Path | None) -> None:
        self._console = console
        self._log: IO[str] | None = None
        if log_path is not None:
            with explained_os_errors(log_path):
                log_path.parent.mkdir(parents=True, exist_ok=True)
                self._log = log_path.open("a", encoding="utf-8", buffering=1)
        self._log_path = log_path

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._log is not None:
            self._log.close()

    def say(self, text: str) -> None:
        """One line, to the person and to the log."""
        self.note(text)
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """One line to the log alone."""
        if self._log is not None and self._log_path is not None:
            with explained_os_errors(self._log_path):
                self._log.write(f"{datetime.now(UTC).astimezone():%Y-%m-%d %H:%M:%S} {text}\n")

    def warn(self, text: str) -> None:
        """One line that a person should not miss."""
        self.say(f"Warning: {text}")

    @contextlib.contextmanager
    def phase(self, name: str, *, total: int = 0, done: int = 0) -> Iterator[Phase]:
        """A part of the work, with a bar on a terminal."""
        if self._console is None or not self._console.is_terminal:
            yield Phase(self, name, total, bar=None, done=done)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            yield Phase(self, name, total, bar=bar, done=done)


def as_text(value: float | None) -> str:
    """A metric for people, which some data do not define."""
    return "undefined" if value is None else f"{value:.4f}"


def named(labels: Sequence[str]) -> str:
    """The first few of some labels, and how many more there are."""
    more = f" and {len(labels) - NUM_NAMED} more" if len(labels) > NUM_NAMED else ""
    return ", ".join(labels[:NUM_NAMED]) + more


def in_words(seconds: float) -> str:
    """A duration for people, for example `3 min` or `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
