"""What a sender cannot take from the others: memory, time, the queue, the event loop."""

import contextlib
import gc
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

import query2label.serve.model
from query2label.serve.server import open_socket

from .conftest import ColourRuntime, png, predictor_of

RED = png((255, 0, 0))
Serving = Callable[..., contextlib.AbstractContextManager[httpx.Client]]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to pass")


def images_in_work(client: httpx.Client) -> float:
    text = client.get("/metrics").text
    return float(
        next(line for line in text.splitlines() if line.startswith("q2l_images_in_work ")).split()[1]
    )


def fill(client: httpx.Client, pool: ThreadPoolExecutor, requests: int) -> list[Future[httpx.Response]]:
    """Requests that stay in work, for the model stands still."""
    futures = [pool.submit(client.post, "/v1/predict", content=RED) for _ in range(requests)]
    wait_until(lambda: images_in_work(client) == requests)
    return futures


def connection(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=60)


def test_overload__is_refused_at_once_while_what_was_taken_is_answered(
    serving: Serving, runtime: ColourRuntime, pool: ThreadPoolExecutor
) -> None:
    with serving(predictor_of(runtime), limits={"queue": 4, "max_batch": 2}) as client:
        runtime.gate.clear()
        taken = fill(client, pool, 4)
        for _ in range(20):
            answer = client.post("/v1/predict", content=RED)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"]["code"] == "overloaded"
            assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        runtime.gate.set()
        assert [future.result().status_code for future in taken] == [200] * 4
        assert max(runtime.batches) == 2
        assert "q2l_refused_total 20.0" in client.get("/metrics").text
        assert client.post("/v1/predict", content=RED).status_code == 200


def test_overload__counts_images_not_requests(
    serving: Serving, runtime: ColourRuntime, pool: ThreadPoolExecutor
) -> None:
    with serving(predictor_of(runtime), limits={"queue": 4}) as client:
        runtime.gate.clear()
        taken = fill(client, pool, 2)
        three = [("a", RED)] * 3
        assert client.post("/v1/predict", files=three).json()["error"]["code"] == "overloaded"
        runtime.gate.set()
        assert [future.result().status_code for future in taken] == [200] * 2
        assert client.post("/v1/predict", files=three).status_code == 200


def test_deadline__gives_up_and_gives_its_place_back(serving: Serving, runtime: ColourRuntime) -> None:
    with serving(predictor_of(runtime), limits={"queue": 1, "answer_seconds": 0.2}) as client:
        runtime.gate.clear()
        for _ in range(2):
            answer = client.post("/v1/predict", content=RED)
            assert answer.status_code == 503
            assert answer.json()["error"] == {
                "code": "timed_out",
                "message": "No answer within 0.2 seconds: try again.",
            }
        runtime.gate.set()


def test_sender_that_goes__gives_its_place_back(serving: Serving, runtime: ColourRuntime) -> None:
    with serving(predictor_of(runtime), limits={"queue": 2}) as client:
        runtime.gate.clear()
        sender = connection(client)
        sender.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(RED), RED)
        )
        wait_until(lambda: images_in_work(client) == 1)
        sender.close()
        wait_until(lambda: images_in_work(client) == 0)
        runtime.gate.set()


def test_body__longer_than_it_may_be_is_refused_by_its_header(client: httpx.Client) -> None:
    with contextlib.closing(connection(client)) as sender:
        sender.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 64000001\r\n\r\n")
        answer = http.client.HTTPResponse(sender)
        answer.begin()
        assert answer.status == 413
        assert b"A request may hold 64 MB" in answer.read()


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "multipart/form-data; boundary=b", "application/json"]
)
def test_body__of_a_gigabyte_in_chunks_is_refused_and_takes_no_memory(
    serving: Serving, runtime: ColourRuntime, content_type: str
) -> None:
    with serving(predictor_of(runtime), limits={"max_body_bytes": 8_000_000}) as client:
        head = (
            f"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        start = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        gc.collect()
        process = psutil.Process()
        before, most = process.memory_info().rss, 0
        with contextlib.closing(connection(client)) as sender:
            sender.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(start), start))
            for _ in range(1024 if content_type == "image/jpeg" else 16):
                sender.sendall(chunk)
                most = max(most, process.memory_info().rss)
            answer = http.client.HTTPResponse(sender)
            answer.begin()
            assert answer.status == 413
        assert most - before < 50_000_000
        assert client.post("/v1/predict", content=RED).status_code == 200


def test_bodies__together_are_bounded(serving: Serving, runtime: ColourRuntime) -> None:
    with serving(predictor_of(runtime), limits={"max_buffered_bytes": 1_000_000}) as client:
        first = connection(client)
        first.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n" + b"x" * 900_000
        )
        wait_until(lambda: "q2l_buffered_bytes 900000.0" in client.get("/metrics").text)
        answer = client.post("/v1/predict", content=b"x" * 200_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
        first.close()
        wait_until(lambda: "q2l_buffered_bytes 0.0" in client.get("/metrics").text)
        assert client.post("/v1/predict", content=b"x" * 200_000).status_code == 422


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 408"),
        (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-", b""),
        (b"", b""),
    ],
)
def test_slow_sender__is_cut(serving: Serving, runtime: ColourRuntime, sent: bytes, answer: bytes) -> None:
    received = bytearray()
    with (
        serving(predictor_of(runtime), limits={"body_seconds": 0.5}) as client,
        contextlib.closing(connection(client)) as sender,
        contextlib.suppress(OSError),
    ):
        sender.sendall(sent)
        sender.settimeout(0.1)
        for _ in range(100):  # drips, so that no wait for silence would end it
            with contextlib.suppress(TimeoutError):
                data = sender.recv(10_000)
                if not data:
                    break
                received += data
            sender.sendall(b"x" if sent else b"")
        else:
            raise AssertionError("the connection was not cut")
    assert received.startswith(answer)
    assert bool(received) == bool(answer)


def test_readyz__says_no_until_the_model_is_warm(runtime: ColourRuntime) -> None:
    from query2label.serve.app import create_app
    from query2label.serve.server import Server

    runtime.gate.clear()
    bound = open_socket("127.0.0.1", 0)
    server = Server(create_app(predictor_of(runtime)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    try:
        with httpx.Client(base_url=address, transport=httpx.HTTPTransport(retries=20), timeout=60) as client:
            assert client.get("/healthz").json() == {"status": "alive"}
            for answer in (client.get("/readyz"), client.post("/v1/predict", content=RED)):
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
            runtime.gate.set()
            wait_until(lambda: client.get("/readyz").status_code == 200)
    finally:
        server.end()
        thread.join()


def test_event_loop__is_never_held_by_images_or_the_model(
    serving: Serving, runtime: ColourRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[str]] = {"model": set(), "image": set()}
    compute, decode = ColourRuntime.__call__, query2label.serve.model.preprocess

    def noted_compute(self: ColourRuntime, images: np.ndarray) -> np.ndarray:
        threads["model"].add(threading.current_thread().name)
        return compute(self, images)

    def noted_decode(*arguments: Any, **options: Any) -> Any:
        threads["image"].add(threading.current_thread().name)
        return decode(*arguments, **options)

    with serving(predictor_of(runtime)) as client:
        monkeypatch.setattr(ColourRuntime, "__call__", noted_compute)
        monkeypatch.setattr(query2label.serve.model, "preprocess", noted_decode)
        assert client.post("/v1/predict", files=[("a", RED)] * 8).status_code == 200
    assert threads["model"] == {"q2l-batcher"}
    assert threads["image"]
    assert all(name.startswith("q2l-images") for name in threads["image"])


def test_requests__leave_no_memory_and_no_descriptors(serving: Serving, runtime: ColourRuntime) -> None:
    process = psutil.Process()
    with serving(predictor_of(runtime)) as client:

        def ask(times: int) -> None:
            for _ in range(times):
                assert client.post("/v1/predict", files=[("a", RED), ("b", b"broken")]).status_code == 200
                assert client.post("/v1/predict", content=b"x").status_code == 422

        ask(20)
        gc.collect()
        descriptors, memory = process.num_fds(), process.memory_info().rss
        ask(60)
        gc.collect()
        assert process.num_fds() <= descriptors
        assert process.memory_info().rss - memory < 5_000_000


def test_open_socket__makes_connections_that_send_small_answers_at_once() -> None:
    # asyncio turns Nagle's algorithm off only where the socket names TCP; it costs 40 ms per answer.
    with contextlib.closing(open_socket("127.0.0.1", 0)) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_open_socket__says_that_a_port_is_taken() -> None:
    from query2label.errors import ConfigError

    with contextlib.closing(open_socket("127.0.0.1", 0)) as bound:
        bound.listen()
        with pytest.raises(ConfigError, match=r"port \d+: address already in use; give another"):
            open_socket("127.0.0.1", bound.getsockname()[1])
    with pytest.raises(ConfigError, match=r"Cannot serve at nowhere\.invalid, port 80"):
        open_socket("nowhere.invalid", 80)
