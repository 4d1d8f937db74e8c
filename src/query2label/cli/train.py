"""`q2l train`: learn from labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from query2label.cli.terminal import printable
from query2label.errors import ConfigError


def train_command(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder or file with the labelled images.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the run; the model will be in OUT/best.", show_default=False),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a shipped recipe (`q2l config` lists them) or a TOML file.", show_default=False
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from a trained model (a bundle folder, its name on the Hugging Face hub, or a "
            "published checkpoint): labels of the same name keep what they have learned.",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Change a setting, for example train.epochs=10; may be repeated. `q2l config` lists all.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with this run, exactly where it was saved. With it, --set takes only settings that "
            "leave the result as it is (workers, threads, paths).",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a model on labelled images, and fit its thresholds.

    A signal (Ctrl-C, SIGTERM) saves the run and ends it within a step; `--resume` goes on. Several processes:
    torchrun --nproc-per-node N -m query2label train ...
    """
    if resume is not None and any(option is not None for option in (data, out, recipe, from_)):
        raise ConfigError(
            "--resume RUN goes on with the run's own data, folder, recipe and start: leave these away."
        )
    if resume is None and out is None:
        raise ConfigError("--out is missing: name a new folder for the run (or --resume one).")
    from query2label.allocator import keep_freed_memory
    from query2label.training import run
    from query2label.training.signals import RunInterruptedError

    keep_freed_memory()
    try:
        if resume is not None:
            run.resume(resume, overrides=set_ or (), device=device)
        elif out is not None:
            run.train(
                data=data, out=out, recipe=recipe, start_from=from_, overrides=set_ or (), device=device
            )
    except RunInterruptedError as error:
        typer.echo(printable(str(error)), err=True)
        raise typer.Exit(error.exit_code) from None
