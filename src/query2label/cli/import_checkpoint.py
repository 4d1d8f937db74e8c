"""`q2l import`: a checkpoint of the authors' code becomes a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from query2label.cli.terminal import printable_name

if TYPE_CHECKING:
    from query2label.bundle import Bundle

_NUM_LABELS_SHOWN = 5


def import_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="File as the authors published it, or as their trainer writes it."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to write; a bundle that is there is replaced.")],
    heads: Annotated[
        int, typer.Option(min=1, help="Attention heads, which no shape tells; 4 in all published models.")
    ] = 4,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Text file with one label name per line, in output order; unset: MS-COCO's for 80 labels, "
            "else numbered.",
            show_default=False,
        ),
    ] = None,
    ema: Annotated[
        bool,
        typer.Option(
            "--ema/--raw", help="Which weights, where the file holds averaged (EMA) and plain (raw) ones."
        ),
    ] = True,
) -> None:
    """Make a bundle of a published checkpoint; nothing in the file is executed.

    Backbone, widths, layers, number of labels and input size are told from names and shapes of the weights.
    """
    from query2label.data.annotation_files import read_label_names
    from query2label.models.published import load_published

    names = None if labels is None else read_label_names(labels).names
    model = load_published(checkpoint, num_heads=heads, use_ema=ema, label_names=names)
    model.save_pretrained(out)
    if model.bundle is not None:
        for line in _summary(model.bundle):
            typer.echo(line)
    typer.echo(f"Written: {printable_name(str(out))}")


def _summary(bundle: Bundle) -> Iterator[str]:
    model, image = bundle.model, bundle.preprocess
    yield printable_name(bundle.origin)
    yield f"Backbone: {model.backbone}"
    yield (
        f"Head: width {model.hidden_dim}, feed-forward {model.feedforward_dim}, {model.num_heads} heads, "
        f"{model.num_encoder_layers} encoder and {model.num_decoder_layers} decoder layers"
    )
    shown = ", ".join(map(printable_name, bundle.labels[:_NUM_LABELS_SHOWN]))
    more = ", ..." if len(bundle.labels) > _NUM_LABELS_SHOWN else ""
    yield f"Labels: {len(bundle.labels)} ({shown}{more})"
    height, width = image.image_size
    yield (
        f"Input: {height} x {width} (height x width), {image.resize}, {image.interpolation}, "
        f"mean {image.mean}, std {image.std}"
    )
    if reported := bundle.metrics.get("published"):
        yield f"Published mAP: {100 * reported['mAP']:.1f}, {reported['protocol']}; {reported['measured']}"
