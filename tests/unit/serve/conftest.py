"""A service that really listens, in a thread, in front of a model whose answers are easily foreseen."""

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.inference.predictor import Predictor
from query2label.preprocess import PreprocessSpec
from query2label.serve.app import create_app
from query2label.serve.limits import Limits
from query2label.serve.server import Server, open_socket

LABELS = ("red", "green", "blue, dark")


class ColourRuntime:
    """Logits that are the mean red, green and blue; computes only while `gate` is open."""

    has_attention = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert self.gate.wait(60)
        self.batches.append(len(images))
        return images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)


class LookingRuntime(ColourRuntime):
    """Looks at the left upper cell for the first label, at the right lower one for the others."""

    has_attention = True

    def with_attention(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps = np.zeros((len(images), 1, 1, len(LABELS), 4, 4), np.float32)
        maps[:, :, :, 0, 0, 0] = 1
        maps[:, :, :, 1:, 3, 3] = 1
        return self(images), maps


def predictor_of(runtime: ColourRuntime, labels: tuple[str, ...] = LABELS) -> Predictor:
    bundle = Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=labels,
        preprocess=PreprocessSpec(image_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.05, 0.05, 0.05)),
        thresholds=(0.5, 0.5, 0.5),
        metrics={"map": 0.75},
    )
    return Predictor(bundle, runtime)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (12, 10)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def runtime() -> Iterator[ColourRuntime]:
    runtime = ColourRuntime()
    yield runtime
    runtime.gate.set()


@contextlib.contextmanager
def _serving(predictor: Predictor, **options: object) -> Iterator[httpx.Client]:
    limits = Limits(**{"drain_seconds": 0.0, **options.pop("limits", {})})
    bound = open_socket("127.0.0.1", 0)
    server = Server(create_app(predictor, limits=limits, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=60, transport=httpx.HTTPTransport(retries=20)) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.02)
            yield client
    finally:
        predictor.runtime.gate.set()
        server.end()
        thread.join()


@pytest.fixture
def serving() -> Callable[..., contextlib.AbstractContextManager[httpx.Client]]:
    """`with serving(predictor, limits={...}, token=...) as client`."""
    return _serving


@pytest.fixture
def client(runtime: ColourRuntime) -> Iterator[httpx.Client]:
    """Of a service with the limits that it has when nobody says otherwise."""
    with _serving(predictor_of(runtime)) as client:
        yield client
