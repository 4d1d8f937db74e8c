"""`q2l explain`: where the model looked for each label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from query2label.cli.builtin import tell_builtin
from query2label.cli.options import DeviceOption, ModelOrBuiltinOption
from query2label.cli.terminal import printable_name
from query2label.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from query2label.inference.explanation import HeadChoice, LayerChoice


def explain_command(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|GLOB|@LIST...", help="Images, as for `q2l predict`.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and maps of each image.")],
    model: ModelOrBuiltinOption = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Which labels to show; unset: the best predicted ones.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "attention", "gradcam"],
        typer.Option(help="attention: of the label's query; gradcam: what raises its score, for every head."),
    ] = "auto",
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="N|mean",
            help="Attention of which decoder layer, from 1 on; unset: their mean.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="N|mean|each",
            help="Attention of which head, from 1 on; each: the mean, and every one. Unset: mean.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Show where the model looked for the labels of each image.

    For photo.jpg, --out has photo.png: a sheet of the photo with a map for each label; and photo/ with a
    picture per label (01-dog.png) and the maps as numbers (maps.npz).

    The exit code is 0 if any image could be read, 1 if none could, 2 if nothing was started.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: give a folder for the pictures.")
    chosen_layer: LayerChoice | None = "mean" if layer == "mean" else _number("--layer", layer, "mean")
    chosen_head: HeadChoice | None = "mean" if head == "mean" else "each" if head == "each" else None
    if chosen_head is None:
        chosen_head = _number("--head", head, "mean or each")

    from query2label.inference.inputs import expand_inputs

    paths = expand_inputs(images)

    from query2label.inference.explanation_files import write_explanation
    from query2label.inference.predictor import Predictor

    predictor = Predictor.load(model, device=device)
    if model is None:
        tell_builtin(predictor.labels)
    wanted = None if labels is None else _names(labels, predictor.labels)
    taken: set[str] = set()
    for path in paths:
        try:
            explanation = predictor.explain(
                path, labels=wanted, method=method, layer=chosen_layer, head=chosen_head
            )
        except ImageError as error:
            typer.echo(printable_name(f"{path}: {error}"), err=True)
            continue
        sheet = write_explanation(explanation, out, _free_name(path, taken))
        typer.echo(printable_name(str(sheet)))
    if not taken:
        raise typer.Exit(1)


def _number(option: str, text: str | None, words: str) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} {text!r} is neither a number from 1 on nor {words}.")
    return int(text)


def _names(text: str, labels: tuple[str, ...]) -> list[str]:
    """The names in `text`, between commas; a label with a comma in it is known as a whole."""
    return [text] if text in labels else [name.strip() for name in text.split(",")]


def _free_name(image: Path, taken: set[str]) -> str:
    """A name for the files of `image` that no other image of this call has, whatever the letters' case."""
    stem = image.stem.strip(". ") or "image"
    names = (f"{stem}{f'-{number}' if number > 1 else ''}" for number in range(1, 10**9))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name
