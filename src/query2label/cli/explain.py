"""`q2l explain`: where the model looked for each label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from query2label.cli.builtin import tell_builtin
from query2label.cli.options import DeviceOption, ModelOrBuiltinOption
from query2label.cli.terminal import printable_name
from query2label.errors import ConfigError, ImageError


def explain_command(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|GLOB|@LIST...", help="Images, as for `q2l predict`.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures, one PNG per image.")],
    model: ModelOrBuiltinOption = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Which labels to show; unset: the best predicted ones.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write a picture for each image that shows where the model looked for its labels.

    The exit code is 0 if any image could be read, 1 if none could, 2 if nothing was started.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: give a folder for the pictures.")

    from query2label.inference.inputs import expand_inputs

    paths = expand_inputs(images)

    from query2label.explain.attention import explain_image
    from query2label.explain.overlay import explanation_sheet
    from query2label.inference.predictor import Predictor
    from query2label.storage import atomic_file

    predictor = Predictor.load(model, device=device)
    if model is None:
        tell_builtin(predictor.labels)
    wanted = None if labels is None else _names(labels, predictor.labels)
    written: set[Path] = set()
    for path in paths:
        try:
            explanation = explain_image(predictor, path, labels=wanted)
        except ImageError as error:
            typer.echo(printable_name(f"{path}: {error}"), err=True)
            continue
        picture = _free_name(out, path, written)
        with atomic_file(picture, mode="wb") as file:
            explanation_sheet(explanation).save(file, format="PNG")
        written.add(picture)
        typer.echo(printable_name(str(picture)))
    if not written:
        raise typer.Exit(1)


def _names(text: str, labels: tuple[str, ...]) -> list[str]:
    """The names in `text`, between commas; a label with a comma in it is known as a whole."""
    return [text] if text in labels else [name.strip() for name in text.split(",")]


def _free_name(folder: Path, image: Path, written: set[Path]) -> Path:
    """A name for the picture of `image` that no other image of this call has."""
    names = (folder / f"{image.stem}{f'-{number}' if number > 1 else ''}.png" for number in range(1, 10**9))
    return next(name for name in names if name not in written)
