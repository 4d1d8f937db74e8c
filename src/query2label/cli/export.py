"""`q2l export`: a trained model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from query2label.cli.options import DataFormatOption, ModelOption, ThreadsOption
from query2label.formats import ExportPrecision, ExportTarget


def export_command(
    model: ModelOption,
    to: Annotated[ExportTarget, typer.Option(help="The runtime: onnx, openvino or torch (torch.export).")],
    out: Annotated[
        Path, typer.Option(help="The file: .onnx, .xml (OpenVINO; a .bin comes with it) or .pt2 (torch).")
    ],
    precision: Annotated[
        ExportPrecision,
        typer.Option(
            help="Numbers that it computes in; fp16 for openvino: half the weights, float32 arithmetic; int8 "
            "needs --data."
        ),
    ] = "fp32",
    attention: Annotated[
        bool, typer.Option("--attention", help="Also give the attention maps, as a second output.")
    ] = False,
    image_size: Annotated[
        Literal["fixed", "dynamic"],
        typer.Option(
            help="Whether it takes the bundle's image size only, or others too; the batch is always dynamic."
        ),
    ] = "fixed",
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE|FOLDER|GLOB|@LIST",
            help="Photos to compare the export on with the bundle, and to calibrate int8 on; may be "
            "repeated. Unset: generated ones; for int8 those of split train of --data.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="For int8: folder or file with labelled images, on which its mAP is measured.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of --data to measure on; unset: val, else test, else all images.", show_default=False
        ),
    ] = None,
    data_format: DataFormatOption = "auto",
    max_drop: Annotated[
        float,
        typer.Option(
            min=0, help="Points of mAP that int8 may cost; the parts that cost most stay in float32."
        ),
    ] = 0.3,
    threads: ThreadsOption = None,
) -> None:
    """Write a model for ONNX Runtime, OpenVINO or torch, and compare its scores with the bundle's.

    Labels, preprocessing and thresholds go into the file, so that `q2l predict --model FILE` needs
    nothing else. Where scores differ by more than is tolerated, the file stays and the exit code is 2.
    """
    from query2label.export.run import export_bundle
    from query2label.inference.inputs import expand_inputs

    verification = export_bundle(
        model,
        out,
        to=to,
        precision=precision,
        attention=attention,
        any_image_size=image_size == "dynamic",
        images=expand_inputs(images) if images else (),
        data=data,
        split=split,
        data_format=data_format,
        max_drop=max_drop,
        threads=threads,
        say=lambda text: typer.echo(text, err=True),
    )
    typer.echo(f"Written: {out}\nVerified: {verification}.")
