"""Predicting parts on a Ray cluster: each worker holds the model and answers part after part.

Workers read the images and the model by their paths, so both must lie where every machine sees them; the
parts are written by the process that was started.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from query2label.data.samples import Sample
from query2label.errors import ConfigError, Q2LError
from query2label.extras import import_extra
from query2label.inference.choice import LabelChoice
from query2label.inference.parts import Part
from query2label.inference.prediction import Prediction
from query2label.inference.predictor import Predictor, batched
from query2label.inference.tagging import Engine
from query2label.inference.threads import choose_threads

_RESTARTS = 3
"""How often a worker that died, for example with its machine, is started again."""


class _Worker:
    """A predictor in a process of its own."""

    def __init__(self, load: Callable[[], Predictor]) -> None:
        self._predictor = load()

    def predict(
        self, part: Part, choice: LabelChoice, batch_size: int, keep_logits: bool
    ) -> tuple[int, list[Prediction]]:
        """The part's number and its predictions."""
        batches: Iterator[tuple[None, list[Sample]]] = (
            (None, batch) for batch in batched(part.samples, batch_size)
        )
        results = self._predictor.predict_batches(batches, choice, keep_logits=keep_logits)
        return part.number, [prediction for _, predictions in results for prediction in predictions]


def ray_engine(
    load: Callable[[], Predictor],
    choice: LabelChoice,
    *,
    threads: int | None = None,
    on_gpu: bool = False,
    batch_size: int = 16,
    keep_logits: bool = False,
) -> Engine:
    """Predicts on the Ray cluster that this machine is part of (`RAY_ADDRESS`), or on this machine alone.

    There are as many workers as fit. A missing package is a `MissingExtraError`.

    Args:
        load: Gives a worker its predictor; a path in it is seen as the worker sees it.
        choice: From scores to labels.
        threads: Processors of each worker; unset: as many as this process may use.
        on_gpu: Whether each worker has a GPU.
        batch_size: Images that are computed at once.
        keep_logits: Whether predictions have the logits, too.
    """
    ray = import_extra("ray", extra="ray", purpose="--engine ray")
    pools = import_extra("ray.util", extra="ray", purpose="--engine ray")
    threads = choose_threads(threads)
    num_gpus = 1 if on_gpu else 0

    def run(parts: Iterator[Part]) -> Iterator[tuple[int, list[Prediction]]]:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # what they do is all that there is to do
        ray.init(
            ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, logging_level="error"
        )
        try:
            actor = ray.remote(
                num_cpus=threads, num_gpus=num_gpus, max_restarts=_RESTARTS, max_task_retries=_RESTARTS
            )(_Worker)
            count = num_workers(ray.cluster_resources(), threads, num_gpus)
            pool = pools.ActorPool([actor.remote(load) for _ in range(count)])
            for part in parts:
                if not pool.has_free():
                    yield pool.get_next_unordered()
                pool.submit(
                    lambda worker, part: worker.predict.remote(part, choice, batch_size, keep_logits), part
                )
            while pool.has_next():
                yield pool.get_next_unordered()
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Q2LError):
                raise error.cause from None
            raise
        finally:
            ray.shutdown()

    return run


def num_workers(resources: dict[str, Any], threads: int, num_gpus: int) -> int:
    """How many workers fit.

    Raises:
        ConfigError: If not even one does.
    """
    count = int(resources.get("CPU", 0) // threads)
    if num_gpus:
        count = min(count, int(resources.get("GPU", 0)))
    if count < 1:
        wanted = f"{threads} processors" + (" and a GPU" if num_gpus else "")
        raise ConfigError(f"No worker with {wanted} fits into the Ray cluster: give fewer --threads.")
    return count
