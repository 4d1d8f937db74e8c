"""The HTTP service under load, against a plain FastAPI handler that runs the model per request.

    python -m benchmarks.serving                 # 15 seconds per number of clients, 60 of overload: 12 min
    python -m benchmarks.serving --quick         # does it run? one minute
    python -m benchmarks.serving --model m.onnx --photos photos/

Three tables. *Throughput*: so many clients, each asking again as soon as it is answered (a refused one
waits as `Retry-After` says). *Overload*: requests come at ten times the rate that was answered, whether
or not earlier ones are done; refused ones are not sent again. Meanwhile `/healthz` is asked every 50 ms.
*Memory*: of the server, over 20,000 requests. Servers are processes of their own; the clients are one
process of raw sockets on the same machine, so they take some of its time. Unset, the model is the one in
the box, and the photos are made up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from query2label.bundle import BUILTIN_PATH
from query2label.inference.inputs import images_in
from query2label.inference.predictor import Predictor

CLIENTS = (1, 8, 64, 512)
PATHS = {"q2l serve": "/v1/predict", "plain": "/predict"}


@dataclass
class Load:
    """What became of the requests of one measurement."""

    seconds: float = 0.0
    answered: list[float] = field(default_factory=list)
    """Seconds of each answer."""
    refused: list[float] = field(default_factory=list)
    """Seconds of each 503."""
    failed: int = 0
    """Other statuses, and connections that broke."""
    liveness: list[float] = field(default_factory=list)

    def rate(self) -> float:
        """Answers per second."""
        return len(self.answered) / self.seconds


def milliseconds(seconds: list[float], percent: float) -> str:
    """A percentile, for a table."""
    return f"{1000 * np.percentile(seconds, percent):,.0f}" if seconds else "-"


class Connection:
    """One client's connection, which stays open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, int]:
        """The status of the answer, and what `Retry-After` says, in seconds; 0 and 0 where it broke.

        A connection that the server has closed meanwhile, being idle, is opened anew, as every client does.
        """
        was_idle = self._streams is not None
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(number_in(head, b"content-length: "))
            return int(head[9:12]), number_in(head, b"retry-after: ")
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            if was_idle and not getattr(error, "partial", b""):
                return await self.ask(request)
            return 0, 0

    def close(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def number_in(head: bytes, name: bytes) -> int:
    """The number behind `name`, or 0."""
    start = head.find(name)
    return 0 if start < 0 else int(head[start + len(name) :].split(b"\r\n", 1)[0])


def post(path: str, photo: bytes) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\n\r\n"
    )
    return head.encode() + photo


async def count(load: Load, connection: Connection, request: bytes) -> int:
    """Asks once, counts what came of it, and gives the seconds to wait."""
    started = time.perf_counter()
    status, retry_after = await connection.ask(request)
    seconds = time.perf_counter() - started
    if status == 200:
        load.answered.append(seconds)
    elif status == 503:
        load.refused.append(seconds)
    else:
        load.failed += 1
    return retry_after


async def closed_loop(port: int, requests: list[bytes], clients: int, seconds: float) -> Load:
    """So many clients, each asking again when it is answered."""
    load = Load(seconds=seconds)
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(port)
        turn = number
        while time.perf_counter() < end:
            await asyncio.sleep(await count(load, connection, requests[turn % len(requests)]))
            turn += clients
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return load


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> Load:
    """So many requests per second, whatever becomes of them; `/healthz` beside them."""
    load = Load(seconds=seconds)
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()
    started = time.perf_counter()

    async def one(request: bytes) -> None:
        connection = idle.pop() if idle else Connection(port)
        await count(load, connection, request)
        idle.append(connection)

    async def watch() -> None:
        connection = Connection(port)
        while True:
            asked = time.perf_counter()
            await connection.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            load.liveness.append(time.perf_counter() - asked)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        task = asyncio.create_task(one(requests[number % len(requests)]))
        running.add(task)
        task.add_done_callback(running.discard)
    load.seconds = time.perf_counter() - started
    await asyncio.gather(*running)
    watching.cancel()
    for connection in idle:
        connection.close()
    return load


@contextlib.contextmanager
def server(kind: str, model: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A server process that is ready, by its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = {
        "q2l serve": ["query2label", "serve", "--model", str(model), "--port", str(port)],
        "plain": ["benchmarks.serving", "--plain", str(port), "--model", str(model)],
    }[kind]
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)
    try:
        request = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
        while asyncio.run(Connection(port).ask(request))[0] != 200:
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def serve_plainly(model: Path, port: int) -> None:
    """What one writes first: a handler that runs the model on the request's photo."""
    import uvicorn
    from fastapi import Body, FastAPI

    predictor = Predictor.load(model)
    app = FastAPI()

    @app.post("/predict")
    def predict(photo: bytes = Body(media_type="image/jpeg")) -> dict[str, float]:
        return dict(predictor(photo).scores)

    @app.get("/readyz")
    @app.get("/healthz")
    def ready() -> None:
        return None

    uvicorn.run(app, port=port, log_level="error")


def made_up_photos(number: int = 16) -> list[bytes]:
    """JPEG files of the size of a web photo."""
    photos = []
    for seed in range(number):
        small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(
            file, format="JPEG", quality=85
        )
        photos.append(file.getvalue())
    return photos


def throughput(model: Path, photos: list[bytes], seconds: float) -> tuple[Table, float]:
    """The table over numbers of clients, and the most answers per second of `q2l serve`."""
    columns = ("clients", "server", "images/s", "p50 ms", "p95 ms", "p99 ms", "refused", "failed")
    table = Table(*columns, title="Throughput")
    best = 0.0
    requests = {kind: [post(path, photo) for photo in photos] for kind, path in PATHS.items()}
    with server("q2l serve", model) as (ours, _), server("plain", model) as (plain, _):
        ports = {"q2l serve": ours, "plain": plain}
        for clients, kind in itertools.product(CLIENTS, PATHS):
            asyncio.run(closed_loop(ports[kind], requests[kind], min(clients, 8), 1.0))  # warms up
            load = asyncio.run(closed_loop(ports[kind], requests[kind], clients, seconds))
            if kind == "q2l serve":
                best = max(best, load.rate())
            percentiles = (milliseconds(load.answered, percent) for percent in (50, 95, 99))
            counts = (str(len(load.refused)), str(load.failed))
            table.add_row(str(clients), kind, f"{load.rate():.1f}", *percentiles, *counts)
    return table, best


def overload(model: Path, photos: list[bytes], rate: float, seconds: float) -> Table:
    """What becomes of ten times as many requests as can be answered."""
    table = Table(
        "", "within capacity (8 clients)", "overload", title=f"Overload: {10 * rate:.0f} requests/s"
    )
    with server("q2l serve", model) as (port, process):
        requests = [post("/v1/predict", photo) for photo in photos]
        asyncio.run(closed_loop(port, requests, 8, 1.0))
        before = process.memory_info().rss
        calm = asyncio.run(closed_loop(port, requests, 8, max(3.0, seconds / 6)))
        storm = asyncio.run(open_loop(port, requests, 10 * rate, seconds))
        grown = process.memory_info().rss / before - 1
    rows = {
        "answered images/s": [f"{load.rate():.1f}" for load in (calm, storm)],
        "answered p99 ms": [milliseconds(load.answered, 99) for load in (calm, storm)],
        "refused": [str(len(load.refused)) for load in (calm, storm)],
        "refused p99 ms": [milliseconds(load.refused, 99) for load in (calm, storm)],
        "failed (no 200, no 503)": [str(load.failed) for load in (calm, storm)],
        "liveness p99 ms": ["-", milliseconds(storm.liveness, 99)],
        "memory": ["-", f"{100 * grown:+.1f} %"],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def memory(model: Path, photos: list[bytes], num_requests: int) -> Table:
    """Memory and open files of the server, before, within and after many requests."""
    table = Table("requests", "memory MB", "open files", title="Memory")
    with server("q2l serve", model) as (port, process):
        requests = [post("/v1/predict", photo) for photo in photos]

        async def ask(number: int) -> None:
            async def client(first: int) -> None:
                connection = Connection(port)
                for turn in range(first, number, 8):
                    await connection.ask(requests[turn % len(requests)])
                connection.close()

            await asyncio.gather(*(client(first) for first in range(8)))

        asyncio.run(ask(200))
        for done in range(0, num_requests + 1, num_requests // 4):
            if done:
                asyncio.run(ask(num_requests // 4))
            time.sleep(0.5)
            table.add_row(f"{done:,}", f"{process.memory_info().rss / 1e6:.0f}", str(process.num_fds()))
    return table


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="an exported file")
    parser.add_argument("--photos", type=Path, help="a folder; 64 of its photos are sent")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plain", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain is not None:
        serve_plainly(options.model, options.plain)
        return
    photos = made_up_photos()
    if options.photos is not None:
        photos = [path.read_bytes() for path in images_in(options.photos)[:64]]
    console = Console(width=max(110, Console().width))
    model = options.model or BUILTIN_PATH
    predictor = Predictor.load(model)
    predictor(photos[:8])
    started = time.perf_counter()
    predictor(photos * 2, batch_size=8)
    alone = 2 * len(photos) / (time.perf_counter() - started)
    console.print(
        f"{os.cpu_count()} processors; one thread of Python, no HTTP, batches of 8: {alone:.1f} images/s"
    )
    table, best = throughput(model, photos, 3.0 if options.quick else 15.0)
    console.print(table)
    console.print(overload(model, photos, best, 5.0 if options.quick else 60.0))
    console.print(memory(model, photos, 400 if options.quick else 20_000))


if __name__ == "__main__":
    main()
