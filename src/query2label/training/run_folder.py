"""The folder of a run, which is an interface: where everything is, and how it begins.

config.toml          the resolved configuration, written before the first step
environment.json     versions, machine, device
log.txt              everything that was said, with times
metrics.jsonl        one line per epoch
split.csv            which image is in which split, where the run made the split
broken_images.csv    images that could not be read, with the reason
look_alikes.csv      validation images that look like a training image, where there are any
last/                the checkpoint to resume from
best/                the bundle with the best weights
evaluation/          the report of best/ on the validation images
tensorboard/         where it was asked for
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from query2label.config import RunConfig, dump_config, load_config
from query2label.errors import ConfigError, TrainingError
from query2label.storage import atomic_file


@dataclass(frozen=True)
class RunFolder:
    """Names in a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration (TOML)."""
        return self.path / "config.toml"

    @property
    def environment(self) -> Path:
        """Versions, machine, device (JSON)."""
        return self.path / "environment.json"

    @property
    def log(self) -> Path:
        """Everything that was said."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        """One JSON line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def split(self) -> Path:
        """The split, where the run made one."""
        return self.path / "split.csv"

    @property
    def broken_images(self) -> Path:
        """Images that could not be read."""
        return self.path / "broken_images.csv"

    @property
    def look_alikes(self) -> Path:
        """Validation images that look like a training image."""
        return self.path / "look_alikes.csv"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "last"

    @property
    def best(self) -> Path:
        """The bundle with the best weights."""
        return self.path / "best"

    @property
    def evaluation(self) -> Path:
        """The report on the validation images."""
        return self.path / "evaluation"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard files."""
        return self.path / "tensorboard"

    def holds_a_run(self) -> bool:
        """Whether a run was begun here."""
        return self.config.is_file()

    def check_free(self) -> None:
        """Makes sure that a new run may be written here.

        Raises:
            ConfigError: If something is there already.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file: name another folder for the run.")
        if self.holds_a_run():
            raise ConfigError(
                f"{self.path} already holds a run: go on with it by --resume {self.path}, "
                "or name another --out."
            )
        if self.path.exists() and any(self.path.iterdir()):
            raise ConfigError(f"{self.path} is not empty: name another folder for the run.")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from running here; it ends with this process, however that ends.

        Where the file system knows no locks, nothing is kept away.

        Raises:
            TrainingError: If another process is at it.
        """
        folder = os.open(self.path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise TrainingError(
                        f"Another process is training in {self.path}: wait until it ends, or stop it."
                    ) from None
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_UN)  # closing is not enough: a forked loader may have it, too
            os.close(folder)

    def write_config(self, config: RunConfig) -> None:
        """Writes the resolved configuration; from then on the folder holds a run."""
        with atomic_file(self.config) as file:
            file.write("# The resolved configuration of this run; `q2l train --resume` reads it.\n\n")
            file.write(dump_config(config))

    def read_config(self) -> RunConfig:
        """The configuration that the run was begun with.

        Raises:
            ConfigError: If no run was begun here.
        """
        if not self.holds_a_run():
            raise ConfigError(f"{self.path} holds no run to resume: there is no {self.config.name} in it.")
        return load_config(self.config)
