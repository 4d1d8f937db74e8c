"""What the parts of a run share, and how it is saved."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NoReturn

from query2label.bundle import save_bundle
from query2label.config import RunConfig
from query2label.data.broken import BrokenImages
from query2label.training.checkpoint import save_checkpoint
from query2label.training.distributed import Ranks
from query2label.training.engine import Learner
from query2label.training.feeds import Feed
from query2label.training.metrics_log import MetricsLog
from query2label.training.plan import num_batches
from query2label.training.progress import Reporter
from query2label.training.run_folder import RunFolder
from query2label.training.signals import RunInterruptedError, StopRequest
from query2label.training.start import Start
from query2label.training.state import RunState, capture


@dataclass
class Run:
    """Everything that the parts of a run work with."""

    config: RunConfig
    folder: RunFolder
    start: Start
    feed: Feed
    learner: Learner
    state: RunState
    ranks: Ranks
    reporter: Reporter
    stop: StopRequest
    broken: BrokenImages
    metrics_log: MetricsLog | None
    """In the first process only."""
    saved_at: float = field(default_factory=time.monotonic)
    saved_step: int = 0
    """The last good checkpoint."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return num_batches(len(self.start.data.train), batch_size=self.config.train.batch_size)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run, if it does not stop early."""
        return self.config.train.epochs * self.steps_per_epoch

    def is_save_due(self) -> bool:
        """Whether the last checkpoint is old."""
        return time.monotonic() - self.saved_at >= 60 * self.config.train.checkpoint_minutes

    def save(self) -> None:
        """Writes a checkpoint; the first process does, the others have nothing of their own to save."""
        self.state.broken_images = self.broken.to_dict()
        if self.ranks.is_first:
            tensors, values = capture(self.start.model, self.learner, self.state)
            save_checkpoint(self.folder.last, step=self.state.step, tensors=tensors, state=values)
        self.saved_at, self.saved_step = time.monotonic(), self.state.step

    def interrupt(self, signal_number: int) -> NoReturn:
        """Saves, and ends the run.

        Raises:
            RunInterruptedError: Always, with a sentence that says how to go on.
        """
        self.save()
        self.ranks.wait()
        raise RunInterruptedError(
            f"Stopped by a signal after step {self.state.step} of {self.num_steps}, and saved: "
            f"go on with `q2l train --resume {self.folder.path}`.",
            signal_number=signal_number,
        )

    def share_broken(self) -> None:
        """Tells all processes of the broken images that each has met."""
        for entries in self.ranks.gather(self.broken.to_dict()):
            self.broken.update(entries)

    def save_best(self) -> None:
        """Writes the present weights, averaged ones if there are any, as `best/`; in one process."""
        weights = dict(self.start.model.state_dict())
        if self.learner.average is not None:
            averaged = self.learner.average.tensors()
            weights |= {f"{self.feed.network_prefix}{name}": value for name, value in averaged.items()}
        save_bundle(self.start.bundle, weights, self.folder.best)
