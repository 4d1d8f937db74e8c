"""Post-training quantization behind a gate: as much in 8 bits as the mAP on labelled images allows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
from jaxtyping import Float

from query2label.bundle import Bundle
from query2label.data.samples import Dataset
from query2label.errors import ExportError
from query2label.evaluation.inputs import torch_scorer
from query2label.evaluation.scoring import ScoredImages, Scorer, score_images
from query2label.export.quantization import Quantizable
from query2label.inference.runtime import ExportedRuntime
from query2label.metrics import mean_average_precision
from query2label.models.query2label import Query2Label

MAX_DROP: Final = 0.3
"""Points of mAP that int8 may cost, unless another bound is asked for."""
LEAST_AGREEMENT: Final = 0.95
"""Share of the decisions on labelled images, label by label, that must be those of float32."""
_MAX_GROUPS: Final = 32
_NUM_RANKED_ON: Final = 8
_NUM_TIMINGS: Final = 5

Write = Callable[[bytes, Path], ExportedRuntime]
"""Writes the content of an ONNX file for the runtime that is exported for, and loads that."""
Say = Callable[[str], object]
"""Told what is being done, a sentence at a time."""


@dataclass(frozen=True)
class TradeOff:
    """What int8 costs and brings, on labelled images."""

    num_images: int
    map_float: float
    """Mean average precision of the model in float32, in [0, 1]."""
    map_int8: float
    agreement: float
    """Share of the decisions, label by label, that are those of float32."""
    max_drop: float
    """Points (hundredths) of mAP that were accepted."""
    num_operations: int
    """Operations that can be in 8 bits."""
    kept: tuple[str, ...]
    """Those of them that were kept in float32, as the graph names them."""
    bytes_float: int
    bytes_int8: int
    speed_up: float
    """How many times sooner than float32 the same runtime answers to one image; a short look."""

    @property
    def drop(self) -> float:
        """Points of mAP that int8 costs; negative where it is better by chance."""
        return 100 * (self.map_float - self.map_int8)

    @property
    def passed(self) -> bool:
        """Whether it costs no more than is accepted."""
        return self.drop <= self.max_drop and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        return (
            f"mAP on {self.num_images} images is {100 * self.map_int8:.2f} in int8 and "
            f"{100 * self.map_float:.2f} in float32, a drop of {self.drop:.2f} points ({self.max_drop:g} is "
            f"accepted); {100 * self.agreement:.1f} % of the decisions are the same (at least "
            f"{100 * LEAST_AGREEMENT:g} % must be); {len(self.kept)} of {self.num_operations} operations "
            f"kept in float32; {self.bytes_int8 / 1e6:.1f} MB instead of {self.bytes_float / 1e6:.1f}, "
            f"{self.speed_up:.1f} times as fast"
        )


@dataclass(frozen=True)
class _Trial:
    kept: tuple[str, ...]
    content: bytes
    map: float
    agreement: float


class Gate:
    """Quantizes a model until it is good enough.

    Args:
        content: The model as an ONNX file in float32.
        calibration: Normalized images to see the ranges of activations on.
        labelled: Images to measure on.
        model: The model itself, with its `bundle`: what int8 is compared with.
        name: Of the file to be written.
        write: How a file becomes a runtime.
        max_drop: Points of mAP that may be lost.
        threads: Of the processor, for calibration.
        say: Told what is being done.
    """

    def __init__(
        self,
        content: bytes,
        calibration: Sequence[Float[np.ndarray, "3 H W"]],
        labelled: Dataset,
        model: Query2Label,
        name: str,
        *,
        write: Write,
        max_drop: float,
        threads: int | None,
        say: Say,
    ) -> None:
        self._content, self._labelled, self._name = content, labelled, name
        self._write, self._say, self._max_drop = write, say, max_drop
        self._bundle = cast(Bundle, model.bundle)
        self._examples = np.stack(calibration[:_NUM_RANKED_ON])
        say(f"Observing activations on {len(calibration)} images.")
        self._model = Quantizable.of(content, calibration, threads=threads)
        say(f"Scoring {len(labelled)} labelled images in float32.")
        self._expected = self._score(torch_scorer(model.optimize_for_inference()))
        self._map_float = self._map(self._expected)

    def search(self) -> tuple[bytes, TradeOff]:
        """The content of the quantized ONNX file, and what it costs and brings.

        First all operations are in 8 bits. If that costs too much, operations are ranked: in groups of
        neighbours, each group alone in 8 bits, by how far the logits of a few images move. Then the worst
        group is kept in float32, then the worst 2, 4 .. up to half of the groups, until the gate is passed.
        Of trials that all fail, the one with the least drop is given.
        """
        best = self._trial(())
        if not self._passes(best):
            groups = self._ranked_groups()
            number = 1
            while not self._passes(best) and number <= len(groups) // 2:
                kept = {name for group in groups[:number] for name in group}
                trial = self._trial(tuple(name for name in self._model.operations if name in kept))
                best = max(best, trial, key=lambda each: (self._passes(each), each.map))
                number *= 2
        return best.content, self._trade_off(best)

    def _passes(self, trial: _Trial) -> bool:
        drop = 100 * (self._map_float - trial.map)
        return drop <= self._max_drop and trial.agreement >= LEAST_AGREEMENT

    def _trial(self, kept: tuple[str, ...]) -> _Trial:
        names = [name for name in self._model.operations if name not in kept]
        content = self._model.quantized(names)
        with tempfile.TemporaryDirectory() as folder:
            scored = self._score(self._write(content, Path(folder) / self._name))
        decided = [
            self._bundle.predicted(self._bundle.scores(each.logits)) for each in (scored, self._expected)
        ]
        trial = _Trial(kept, content, self._map(scored), float((decided[0] == decided[1]).mean()))
        self._say(
            f"{len(kept)} of {len(self._model.operations)} operations in float32: mAP {100 * trial.map:.2f}, "
            f"a drop of {100 * (self._map_float - trial.map):.2f} points."
        )
        return trial

    def _ranked_groups(self) -> list[list[str]]:
        """Groups of neighbouring operations, the most sensitive first."""
        names = self._model.operations
        groups = [list(part) for part in np.array_split(np.array(names), min(_MAX_GROUPS, len(names)))]
        self._say(f"Ranking {len(groups)} groups of operations by what 8 bits do to the logits.")
        expected = self._logits(self._content)
        moved = [
            float(np.square(self._logits(self._model.quantized(group)) - expected).mean()) for group in groups
        ]
        return [groups[index] for index in np.argsort(moved)[::-1]]

    def _logits(self, content: bytes) -> Float[np.ndarray, "n K"]:
        with tempfile.TemporaryDirectory() as folder:
            return np.asarray(self._write(content, Path(folder) / self._name)(self._examples))

    def _score(self, scorer: Scorer) -> ScoredImages:
        return score_images(scorer, self._labelled, self._bundle.preprocess, batch_size=8)

    def _map(self, scored: ScoredImages) -> float:
        """Mean average precision.

        Raises:
            ExportError: If the labels of the images do not define one.
        """
        value = mean_average_precision(self._bundle.scores(scored.logits), scored.targets)
        if value is None:
            raise ExportError(
                f"No label is known to be in any image of {self._labelled.source}, so there is no mAP to "
                "hold int8 to: give --data with labelled images."
            )
        return value

    def _trade_off(self, trial: _Trial) -> TradeOff:
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            speed_up = _speed_up(
                self._write(self._content, Path(first) / self._name),
                self._write(trial.content, Path(second) / self._name),
                self._examples[:1],
            )
        return TradeOff(
            num_images=len(self._expected.logits),
            map_float=self._map_float,
            map_int8=trial.map,
            agreement=trial.agreement,
            max_drop=self._max_drop,
            num_operations=len(self._model.operations),
            kept=trial.kept,
            bytes_float=len(self._content),
            bytes_int8=len(trial.content),
            speed_up=speed_up,
        )


def _speed_up(slow: Scorer, fast: Scorer, images: Float[np.ndarray, "B 3 H W"]) -> float:
    """Median over a few rounds, in which both take turns, of the ratio of their times."""
    ratios = []
    for _ in range(_NUM_TIMINGS + 1):
        start = time.perf_counter()
        slow(images)
        middle = time.perf_counter()
        fast(images)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return float(np.median(ratios[1:]))  # the first warms up
