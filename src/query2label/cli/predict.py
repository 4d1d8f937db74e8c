"""`q2l predict`: the labels of images."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from query2label.cli.builtin import tell_builtin
from query2label.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ModelOrBuiltinOption,
    RuntimeOption,
    ThreadsOption,
    ThresholdOption,
)
from query2label.cli.predict_output import (
    Competition,
    Counted,
    print_table,
    write_parts,
    write_rows,
    write_voc,
)
from query2label.cli.predict_tools import write_for_tool
from query2label.errors import ConfigError

if TYPE_CHECKING:
    from query2label.inference.choice import LabelChoice
    from query2label.inference.parts import Manifest, Shard
    from query2label.inference.predictor import Predictor
    from query2label.inference.tagging import Engine


class Format(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    VOC = "voc"
    FIFTYONE = "fiftyone"
    LABELSTUDIO = "labelstudio"


_FOLDERS = (Format.VOC, Format.FIFTYONE, Format.LABELSTUDIO)
"""Forms that are a folder of their own making, not rows."""


class EngineName(StrEnum):
    """Where parts are computed."""

    LOCAL = "local"
    RAY = "ray"


def predict_command(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|GLOB|@LIST...",
            help="Image files, folders (with their subfolders), patterns, @list.txt (a text file with one "
            "path per line, relative to that file), and archives of images: .tar (WebDataset), .parquet, "
            ".arrow. With --split: data sets.",
            show_default=False,
        ),
    ],
    model: ModelOrBuiltinOption = None,
    format: Annotated[
        Format | None,
        typer.Option(
            help="table; jsonl (an object per line: image, labels, scores, error); csv or parquet (columns "
            "image, labels, error, and score:LABEL for each label); voc, fiftyone, labelstudio "
            "(a folder for that server or tool). Unset: as --out ends, parquet for a folder of parts, else "
            "table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write to this file instead of the terminal. A name without an ending, such as tags, is a "
            "folder of parts for many images: the same command goes on there after it was stopped (voc: a "
            "folder of files).",
            show_default=False,
        ),
    ] = None,
    part_size: Annotated[int, typer.Option(min=1, help="Images in each part of a folder.")] = 1000,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Compute only the I-th share of N of the parts, so that N machines share the work; their "
            "folders may be one, or be copied together.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Compute parts here, or (ray) on the workers of a Ray cluster.")
    ] = EngineName.LOCAL,
    keep_logits: Annotated[
        bool,
        typer.Option("--keep-logits", help="Write logits, too: q2l rethreshold then needs no images."),
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            help="The images of this split of a data set, whose path is given in place of images.",
            show_default=False,
        ),
    ] = None,
    competition: Annotated[
        Competition | None,
        typer.Option(
            help="For --format voc: comp2 (the default) for a model that has seen other images than VOC's, "
            "such as ImageNet's; comp1 for one that has not.",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The N best labels, whatever their thresholds; with --threshold at most N that reach it.",
            show_default=False,
        ),
    ] = None,
    threshold: ThresholdOption = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchSizeOption = 16,
) -> None:
    """Print the labels of images, best first, with their scores.

    An image that cannot be read gives a row with the error (--format voc: it ends the command, since the
    server wants every image). The exit code is 0 if any image could be read, 1 if none could, 2 if nothing
    was started.
    """
    from query2label.inference.choice import LabelChoice, parse_thresholds
    from query2label.inference.samples import samples_of, survey_of

    form, has_parts = _form(format, out)
    limits = parse_thresholds(threshold or [])
    if form == Format.VOC and (top_k is not None or limits is not None):
        raise ConfigError("The format voc has the scores of all labels: leave --top-k and --threshold out.")
    if form != Format.VOC and competition is not None:
        raise ConfigError(f"--competition {competition} is for --format voc.")
    if form in {Format.TABLE, *_FOLDERS} and keep_logits:
        raise ConfigError(f"The format {form} has no logits: leave --keep-logits out.")
    share = _share(shard, engine, has_parts=has_parts)
    samples = samples_of(images, split=split)
    survey = survey_of(samples)

    from query2label.inference.predictor import Predictor

    load = functools.partial(Predictor.load, model, runtime=runtime, device=device, threads=threads)
    predictor = load()
    if model is None:
        tell_builtin(predictor.labels)
    choice = LabelChoice.of(predictor.bundle, top_k=top_k, threshold=limits)
    is_shown = sys.stderr.isatty() and (form == Format.TABLE or not sys.stdout.isatty() or out is not None)
    counted = Counted(survey.num_images, show_progress=is_shown)
    if has_parts and out is not None:
        from query2label.inference.parts import Manifest, PartFolder
        from query2label.inference.runtimes import model_digest

        manifest = Manifest(
            model=model_digest(model),
            images=survey.digest,
            num_images=survey.num_images,
            part_size=part_size,
            form=form.value,
            choice=choice.to_dict(),
            keep_logits=keep_logits,
            batch_size=batch_size,
        )
        folder = PartFolder.begin(out, manifest)
        on_gpu = device.startswith("cuda")
        run = _engine(engine, load, predictor, choice, manifest, threads=threads, on_gpu=on_gpu)
        write_parts(folder, samples, run, share, counted)
    else:
        predictions = counted(
            predictor.stream(
                samples, top_k=top_k, threshold=limits, batch_size=batch_size, keep_logits=keep_logits
            )
        )
        if form == Format.TABLE:
            print_table(predictions)
        elif form == Format.VOC and out is not None:
            write_voc(predictions, out, predictor.labels, competition, split or "test")
        elif form in _FOLDERS and out is not None:
            write_for_tool(predictions, out, predictor.labels, form=form)
        else:
            write_rows(predictions, out, predictor.labels, form=form, keep_logits=keep_logits)
    if counted.num_broken:
        typer.echo(f"{counted.num_broken} of {counted.num_images} images could not be read.", err=True)
    if counted.num_broken and counted.num_broken == counted.num_images:
        raise typer.Exit(1)


def _engine(
    name: EngineName,
    load: Callable[[], Predictor],
    predictor: Predictor,
    choice: LabelChoice,
    manifest: Manifest,
    *,
    threads: int | None,
    on_gpu: bool,
) -> Engine:
    options: dict[str, Any] = {"batch_size": manifest.batch_size, "keep_logits": manifest.keep_logits}
    if name == EngineName.RAY:
        from query2label.inference.ray_engine import ray_engine

        return ray_engine(load, choice, threads=threads, on_gpu=on_gpu, **options)
    from query2label.inference.tagging import local_engine

    return local_engine(predictor, choice, **options)


def _share(shard: str | None, engine: EngineName, *, has_parts: bool) -> Shard | None:
    from query2label.inference.parts import Shard

    if not has_parts and (shard is not None or engine != EngineName.LOCAL):
        option = "--shard" if shard is not None else f"--engine {engine}"
        raise ConfigError(f"{option} is for a folder of parts: name one, such as --out tags.")
    return None if shard is None else Shard.parse(shard)


def _form(form: Format | None, out: Path | None) -> tuple[Format, bool]:
    """The form of output, and whether it is a folder of parts."""
    files = {f".{known}": known for known in Format if known not in {Format.TABLE, *_FOLDERS}}
    if out is None:
        if form in {Format.PARQUET, *_FOLDERS}:
            kind = "file" if form == Format.PARQUET else "folder"
            raise ConfigError(f"The format {form} needs a {kind} to write to: give --out.")
        return form or Format.TABLE, False
    if form in _FOLDERS:
        return form, False
    is_folder = out.is_dir() or not out.suffix
    chosen = form or (Format.PARQUET if is_folder else files.get(out.suffix.lower()))
    if chosen is None or chosen == Format.TABLE:
        raise ConfigError(
            f"What to write to {out}? Give --format jsonl, csv or parquet; a table is for reading."
        )
    return chosen, is_folder
