"""What happens, in numbers, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from query2label.serve.batching import Compute

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "q2l_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "q2l_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Counter("q2l_images", "Images, by what came of them.", ["outcome"], registry=registry)
        self.refused = Counter(
            "q2l_refused", "Requests that were refused because the queue was full.", registry=registry
        )
        self.decode_seconds = Histogram(
            "q2l_decode_seconds", "Decoding and resizing an image.", buckets=_SECONDS, registry=registry
        )
        self._compute_seconds = Histogram(
            "q2l_compute_seconds", "Computing a batch.", buckets=_SECONDS, registry=registry
        )
        self._batch_images = Histogram(
            "q2l_batch_images", "Images in a batch.", buckets=_SIZES, registry=registry
        )
        ProcessCollector(registry=registry)

    def describe(self, **texts: str) -> None:
        """Says which model this is."""
        Info("q2l_model", "What is served.", registry=self._registry).info(texts)

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge that is read whenever somebody asks."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_images(self, *, scored: int, broken: int) -> None:
        """The images of a request were scored, or could not be read."""
        self._images.labels("scored").inc(scored)
        self._images.labels("broken").inc(broken)

    def timed_compute(self, compute: Compute) -> Compute:
        """The same function, measured."""

        def timed(images, attention):  # type: ignore[no-untyped-def]  # as `compute`
            self._batch_images.observe(len(images))
            with self._compute_seconds.time():
                return compute(images, attention)

        return timed

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self._registry)
