"""`q2l serve` as a process: what it starts from, how it is asked, how it ends."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from query2label.bundle import Bundle, bundle_digest
from query2label.config import ModelConfig
from query2label.export.run import export_bundle
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec

Start = Callable[..., contextlib.AbstractContextManager[tuple[httpx.Client, subprocess.Popen]]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16)
    model = build_model(config, 3, image_size=(64, 64)).eval()
    model.bundle = Bundle(
        model=config,
        labels=("cat", "dog", "cow"),
        preprocess=PreprocessSpec(image_size=(64, 64)),
        thresholds=(0.5, 0.5, 0.5),
    )
    folder = tmp_path_factory.mktemp("served") / "bundle"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(bundle: Path) -> Path:
    path = bundle.parent / "model.onnx"
    export_bundle(bundle, path, to="onnx", attention=True)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    Image.effect_mandelbrot((320, 240), (-2, -1.5, 1, 1.5), 80).convert("RGB").save(path)
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "query2label", "serve", *map(str, arguments)]


@contextlib.contextmanager
def _start(*arguments: object, **environment: str) -> Iterator[tuple[httpx.Client, subprocess.Popen]]:
    process = subprocess.Popen(
        command("--port", 0, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        address = re.search(r"http://\S+\d", process.stderr.readline()).group()
        with httpx.Client(base_url=address, timeout=60) as client:
            wait_until(lambda: is_ready(client))
            yield client, process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], Any]) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def test_serve__answers_from_an_exported_file_without_torch(
    exported: Path, bundle: Path, photo: Path
) -> None:
    with _start("--model", exported) as (client, process):
        answer = client.post(
            "/v1/predict", content=photo.read_bytes(), params={"attention": True, "top_k": 1}
        )
        model = client.get("/v1/model").json()
        libraries = Path(f"/proc/{process.pid}/maps").read_text()
    expected = Predictor.load(bundle)(photo)
    (prediction,) = answer.json()["predictions"]
    assert prediction["scores"] == pytest.approx(expected.scores, abs=1e-4)
    assert list(prediction["attention"]) == prediction["labels"]
    assert (model["runtime"], model["digest"]) == ("onnx", bundle_digest(bundle))
    assert "onnxruntime" in libraries
    assert "torch" not in libraries


def test_serve__finishes_what_it_took_when_told_to_end(exported: Path, photo: Path) -> None:
    body = photo.read_bytes()
    with _start("--model", exported, "--drain-seconds", 2) as (client, process):
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=60) as sender:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            sender.sendall(head.encode() + body[:100])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_ready(client))
            assert client.get("/readyz").json()["error"]["code"] == "draining"
            assert client.post("/v1/predict", content=body).status_code == 200
            wait_until(lambda: not accepts(address))
            sender.sendall(body[100:])
            received = b"".join(iter(lambda: sender.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert b'"scores"' in received
        assert process.wait(60) == 0
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert [line["status"] for line in lines if line["route"] == "/v1/predict"] == [200, 200]


def accepts(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5):
        return True
    return False


@pytest.mark.slow
def test_serve__several_workers_replace_one_that_dies_and_end_together(exported: Path, photo: Path) -> None:
    import psutil

    with _start("--model", exported, "--workers", 2, "--no-log") as (client, process):
        parent = psutil.Process(process.pid)

        def workers() -> set[psutil.Process]:
            found = set()
            for child in parent.children():
                with contextlib.suppress(psutil.NoSuchProcess):  # a zombie has no command line
                    found |= {child} if "spawn_main" in " ".join(child.cmdline()) else set()
            return found

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):  # a connection may be reset as the worker dies
                return client.post("/v1/predict", content=photo.read_bytes()).status_code == 200
            return False

        first = workers()
        assert len(first) == 2
        killed = next(iter(first))
        killed.kill()
        wait_until(lambda: len(workers()) == 2 and killed not in workers())
        wait_until(answers)
        last = workers()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not any(worker.is_running() for worker in last)


def test_serve__takes_its_token_from_the_environment(exported: Path) -> None:
    with _start("--model", exported, Q2L_SERVE_TOKEN="from-the-environment") as (client, process):
        assert client.get("/v1/model").status_code == 401
        headers = {"Authorization": "Bearer from-the-environment"}
        assert client.get("/v1/model", headers=headers).status_code == 200
        assert "from-the-environment" not in Path(f"/proc/{process.pid}/cmdline").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "There is no bundle at nowhere"),
        (["--model", "nowhere.onnx"], "There is no file nowhere.onnx"),
        (["--model", "nowhere.onnx", "--workers", "2"], "There is no file nowhere.onnx"),
        (["--model", "x.onnx", "--host", "192.0.2.1"], "Cannot serve at 192.0.2.1, port 8000"),
    ],
)
def test_serve__says_what_is_wrong_and_ends_with_2(arguments: list[str], message: str) -> None:
    port = ["--port", "0"] if "--host" not in arguments else []
    done = subprocess.run(
        command(*arguments, *port), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert f"Error: {message}" in done.stderr
    assert "Traceback" not in done.stderr
