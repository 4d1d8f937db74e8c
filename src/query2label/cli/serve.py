"""`q2l serve`: a model as an HTTP service with a web page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from query2label.cli.options import DeviceOption, ModelOrBuiltinOption, RuntimeOption, ThreadsOption

if TYPE_CHECKING:
    import socket


def serve_command(
    model: ModelOrBuiltinOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with the model; one uses all processors as well.")
    ] = 1,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="Q2L_SERVE_TOKEN",
            help="What requests must bear as `Authorization: Bearer TOKEN`. Better given by the environment, "
            "since everybody on the machine can see arguments.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images that are computed at once, at most; unset: 8, or 1 where single ones are faster.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images that are in work or waiting, at most, and in one request; beyond, 503 is answered.",
        ),
    ] = 12,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Megabytes of one request, at most.")] = 64,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, help="On SIGTERM, /readyz says no for so long before the service ends."),
    ] = 1.0,
    log: Annotated[bool, typer.Option(help="Print one JSON line per request.")] = True,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Serve a model over HTTP, with a web page at /.

    SIGTERM and Ctrl-C end it once everything that was taken is answered.
    """
    from query2label.serve.launch import Launch
    from query2label.serve.limits import Limits
    from query2label.serve.server import open_socket
    from query2label.serve.workers import run_workers

    if workers > 1 and threads is None:
        from query2label.inference.threads import choose_threads

        threads = max(1, choose_threads() // workers)
    launch = Launch(
        model=model,
        runtime=runtime,
        device=device,
        threads=threads,
        limits=Limits(
            max_batch=max_batch,
            queue=queue,
            max_body_bytes=max_body_mb * 1_000_000,
            max_buffered_bytes=max(512, 2 * max_body_mb) * 1_000_000,
            drain_seconds=drain_seconds,
        ),
        token=token,
        is_logged=log,
    )
    bound = open_socket(host, port)
    _tell(bound, host, workers, has_token=token is not None)
    if workers == 1:
        launch(bound)
    elif code := run_workers(launch, bound, num_workers=workers):
        raise typer.Exit(code)


def _tell(bound: socket.socket, host: str, workers: int, *, has_token: bool) -> None:
    name = f"[{host}]" if ":" in host else host
    kind = f"{workers} processes" if workers > 1 else "one process"
    typer.echo(f"Serving at http://{name}:{bound.getsockname()[1]} in {kind}; Ctrl-C ends.", err=True)
