"""`q2l thresholds`: choose from which score on a bundle predicts each label."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from query2label.cli.options import (
    BatchSizeOption,
    DataFormatOption,
    DeviceOption,
    DifficultOption,
    ImagesOption,
    WorkersOption,
)
from query2label.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from query2label.bundle import Bundle


def thresholds_command(
    model: Annotated[Path, typer.Option(help="Bundle folder, such as runs/birds/best; it is changed.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder or file with labelled images to fit on.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Only this split; unset: val, else test, else all images.", show_default=False),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="f1 (highest F1 per label), precision=P or recall=R, for example recall=0.9.")
    ] = "f1",
    set_all: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="This one threshold for all labels; without --data.", show_default=False
        ),
    ] = None,
    data_format: DataFormatOption = "auto",
    images: ImagesOption = None,
    difficult: DifficultOption = "ignore",
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = 2,
    device: DeviceOption = "auto",
) -> None:
    """Fit thresholds and temperature of a bundle on labelled images, and write them into it.

    Take images that the model was not trained on. The weights stay as they are.
    """
    from query2label.bundle import edit_bundle, read_bundle
    from query2label.evaluation.fit import fit_bundle, fixed_threshold
    from query2label.evaluation.thresholds import parse_rule

    wanted = parse_rule(rule)
    before = read_bundle(_folder(model))
    if set_all is not None and data is None:
        _show(before, edit_bundle(model, **fixed_threshold(before, set_all)))
        return
    if data is None or set_all is not None:
        raise ConfigError("Give either --data to fit thresholds on, or --set-all with one threshold.")

    from query2label.cli.image_progress import image_progress
    from query2label.inference.predictor import Predictor

    predictor = Predictor.load(model, device=device)
    with image_progress("Scoring", shown=sys.stderr.isatty()) as progress:
        changes = fit_bundle(
            predictor,
            data,
            split=split,
            rule=wanted,
            format=data_format,
            image_root=images,
            difficult=difficult,
            batch_size=batch_size,
            num_workers=workers,
            progress=progress,
        )
    _show(before, edit_bundle(model, **changes))


def _folder(model: Path) -> Path:
    if not model.exists():
        raise BundleError(f"There is no bundle at {model}: only a bundle on this machine can be changed.")
    return model


def _show(before: Bundle, after: Bundle) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from query2label.cli.terminal import printable

    table = Table("label", "threshold", "before", box=box.SIMPLE_HEAD, pad_edge=False)
    for label, new, old in zip(after.labels, after.thresholds, before.thresholds, strict=True):
        table.add_row(Text(printable(label)), f"{new:.3f}", f"{old:.3f}")
    Console().print(table)
    typer.echo(f"Rule: {after.threshold_rule}. Temperature {after.temperature:.3f}.")
