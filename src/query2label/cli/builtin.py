"""What a person is told whose command names no model."""

from __future__ import annotations

import typer


def tell_builtin(labels: tuple[str, ...]) -> None:
    """Says, beside the output, that the model in the box answers, and what it knows."""
    typer.echo(
        f"The model in the box answers; it knows {', '.join(labels)}. Name another with --model.", err=True
    )
