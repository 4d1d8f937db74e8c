"""Requests that schemathesis makes up from the OpenAPI schema, right ones and wrong ones.

pytest tests/integration/test_service_fuzzing.py -m slow     # 2,000 and more
"""

import threading
import time
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.inference.predictor import Predictor
from query2label.preprocess import PreprocessSpec
from query2label.serve.app import create_app
from query2label.serve.server import Server, open_socket

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]


def brightness(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    bundle = Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=("red", "green", "blue"),
        preprocess=PreprocessSpec(image_size=(8, 8)),
        thresholds=(0.5, 0.5, 0.5),
    )
    bound = open_socket("127.0.0.1", 0)
    app = create_app(Predictor(bundle, brightness))
    server = Server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    host, port = bound.getsockname()
    while not app.state.service.is_warm:
        time.sleep(0.02)
    yield f"http://{host}:{port}"
    server.end()
    thread.join()


def _fuzz(address: str, *, cases: int) -> dict[int, int]:
    """Asks for so many predictions, and a bit of everything else; gives the number of answers by status."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    statuses: dict[int, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/v1/predict":
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _ask(operation.as_strategy(generation_mode=mode), cases // 2, statuses)
        else:
            _ask(operation.as_strategy(), 5, statuses)
    return statuses


def _ask(strategy: hypothesis.strategies.SearchStrategy, cases: int, statuses: dict[int, int]) -> None:
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(strategy)
    def ask(case: schemathesis.Case) -> None:
        response = case.call(timeout=60)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        case.validate_response(response, checks=CHECKS)

    ask()


def test_service__answers_made_up_requests_as_its_schema_says(address: str) -> None:
    statuses = _fuzz(address, cases=40)
    assert max(statuses) < 500
    assert {200, 422} <= set(statuses)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_service__withstands_two_thousand_requests(address: str) -> None:
    statuses = _fuzz(address, cases=2400)
    assert max(statuses) < 500
    assert sum(statuses.values()) >= 2000
