"""`q2l rethreshold`: other labels for images that were predicted already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from query2label.cli.options import ThresholdOption
from query2label.errors import ConfigError


def rethreshold_command(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="What `q2l predict` wrote: a folder of parts, or a .jsonl, .csv or .parquet file.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Where to write: a folder or a file, as IN is.", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model with new thresholds or a new temperature (q2l thresholds); IN needs the logits "
            "of q2l predict --keep-logits.",
            show_default=False,
        ),
    ] = None,
    threshold: ThresholdOption = None,
) -> None:
    """Choose labels anew by other thresholds, without looking at an image again.

    With --threshold alone, the scores stay as they are; with --model they are computed from the logits, with
    that model's temperature.
    """
    from query2label.inference.choice import parse_thresholds
    from query2label.inference.rethreshold import rethreshold
    from query2label.inference.runtimes import model_digest, read_model

    limits = parse_thresholds(threshold or [])
    if model is None and limits is None:
        raise ConfigError("Which thresholds? Give --model with new ones, or --threshold.")
    num_images = rethreshold(
        predictions,
        out,
        bundle=None if model is None else read_model(model),
        digest=None if model is None else model_digest(model),
        threshold=limits,
    )
    typer.echo(f"Written: {out} with {num_images:,} images.")
