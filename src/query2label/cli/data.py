"""`q2l data`: look at labelled images before training on them, and split them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from query2label.cli.options import (
    DifficultOption,
    FormatOption,
    ImagesOption,
)
from query2label.cli.terminal import printable
from query2label.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType
    from rich.table import Table

    from query2label.data.check import CheckReport
    from query2label.data.samples import Dataset

data_app = typer.Typer(help="Check labelled images, and split them.", no_args_is_help=True)

_NUM_LABELS_SHOWN = 100
_NUM_PAIRS_SHOWN = 10
_NUM_DUPLICATES_SHOWN = 10
_NUM_LOOK_ALIKES_SHOWN = 10
_NUM_ERRORS_SHOWN = 1000


DataPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="Folder or file with labelled images.", show_default=False)
]


@data_app.command("check")
def check_command(
    path: DataPath,
    format: FormatOption = "auto",
    difficult: DifficultOption = "ignore",
    images: ImagesOption = None,
    decode: Annotated[
        bool,
        typer.Option(help="Read every image, which finds corrupt, duplicate and similar ones."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Print what is in labelled images and what is wrong with them.

    The exit code is 0 if all can be used (there may be warnings), 1 if anything has to be repaired (rows that
    cannot be read, missing or corrupt images), 2 if there is nothing to read.
    """
    from rich.console import Console
    from rich.progress import Progress

    from query2label.data.check import check_dataset

    def check(on_image: Callable[[int, int], None] | None) -> CheckReport:
        return check_dataset(
            path,
            format=format,
            difficult=difficult,
            image_root=images,
            decode=decode,
            on_image=on_image,
        )

    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("Reading images", total=None)
        report = check(lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        console = Console(highlight=False)
        for part in _parts(report):
            console.print(part)
        _print_findings(console, report)
    if report.errors:
        raise typer.Exit(1)


@data_app.command("split")
def split_command(
    path: DataPath,
    out: Annotated[Path, typer.Option(help="CSV table to write.")] = Path("splits.csv"),
    fractions: Annotated[
        str, typer.Option(metavar="SPLIT=SHARE,...", help="Share of the images in each split; together 1.")
    ] = "train=0.8,val=0.1,test=0.1",
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split.")] = 0,
    format: FormatOption = "auto",
    difficult: DifficultOption = "ignore",
    images: ImagesOption = None,
) -> None:
    """Deal images out to splits so that every label has its share in each, and write a table.

    For example: q2l data split photos --out photos/splits.csv --fractions train=0.8,val=0.2
    """
    from query2label.data.load import load_dataset
    from query2label.data.split import stratified_split
    from query2label.data.table import label_file_of
    from query2label.data.table_writer import write_table

    shares = _shares(fractions)
    dataset = load_dataset(path, format=format, difficult=difficult, image_root=images)
    _refuse_to_lose_columns(dataset, out)
    divided = stratified_split(dataset, shares, seed=seed)
    root = write_table(divided, out)
    counts = ", ".join(f"{len(divided.select(split))} {split}" for split in shares)
    typer.echo(printable(f"Wrote {out}: {counts}. The labels and their order: {label_file_of(out)}."))
    if root.resolve() != out.parent.resolve():
        typer.echo(printable(f"The images are not beside it: train with --set data.image_root={root}"))


def _refuse_to_lose_columns(dataset: Dataset, out: Path) -> None:
    """Splitting a table in place is fine, unless there is more in it than is written."""
    source = dataset.source
    same = out.exists() and (source.samefile(out) or (source.is_dir() and source.samefile(out.parent)))
    if same and dataset.notes and dataset.format == "table":
        raise ConfigError(f"--out {out} is the table itself: name another. {' '.join(dataset.notes)}")


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            number = float(share)
        except ValueError:
            raise ConfigError(
                f"--fractions {text!r}: {part!r} is not SPLIT=SHARE, as in train=0.8,val=0.2."
            ) from None
        if name.strip() in shares:
            raise ConfigError(f"--fractions {text!r}: {name.strip()!r} occurs twice.")
        shares[name.strip()] = number
    return shares


def _parts(report: CheckReport) -> Iterator[RenderableType]:
    from rich.text import Text

    counts = ", ".join(f"{count} {split}" for split, count in report.num_images.items())
    histogram = ", ".join(f"{number}: {count}" for number, count in report.labels_per_image.items())
    yield Text(printable(f"{report.path} ({report.format})"), style="bold")
    yield Text(printable(f"Images: {sum(report.num_images.values())} ({counts})"))
    yield Text(f"Labels: {len(report.labels)}; {report.mean_labels:.2f} per image")
    yield Text(f"Images by number of labels: {histogram}")
    if report.sizes is not None:
        sizes = (report.sizes.smallest, report.sizes.median, report.sizes.largest)
        smallest, median, largest = (f"{height} x {width}" for height, width in sizes)
        yield Text(f"Height x width in pixels: from {smallest} to {largest}, median {median}")
    yield _label_table(report)
    if report.pairs:
        yield _pair_table(report)


def _label_table(report: CheckReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    splits = list(report.num_images)
    with_unknown = any(any(entry.unknown.values()) for entry in report.labels)
    table = Table(title="Images with each label")
    table.add_column("label")
    for name in [*splits, *["unknown"] * with_unknown]:
        table.add_column(Text(printable(name)), justify="right")
    shown = sorted(report.labels, key=lambda entry: -sum(entry.positive.values()))
    for entry in shown[:_NUM_LABELS_SHOWN]:
        numbers = [entry.positive[split] for split in splits] + [sum(entry.unknown.values())] * with_unknown
        table.add_row(Text(printable(entry.label)), *map(str, numbers))
    if len(shown) > _NUM_LABELS_SHOWN:
        table.caption = f"and {len(shown) - _NUM_LABELS_SHOWN} rarer labels (--json has all)"
    return table


def _pair_table(report: CheckReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("labels", title="Most often together")
    table.add_column("images", justify="right")
    for pair in report.pairs[:_NUM_PAIRS_SHOWN]:
        table.add_row(Text(printable(" + ".join(pair.labels))), str(pair.num_images))
    return table


def _print_findings(console: Console, report: CheckReport) -> None:
    """One finding per line, unwrapped, so that they can be searched and cut."""
    for note in report.notes:
        _print_line(console, "Note", note, "")
    if report.duplicates:
        count = _number_of("group", len(report.duplicates))
        _print_line(console, "Note", f"{count} of files with the same content (--json lists all).", "")
    for group in report.duplicates[:_NUM_DUPLICATES_SHOWN]:
        _print_line(console, "Note", f"same content: {', '.join(map(str, group.paths))}", "")
    for pair in report.look_alikes[:_NUM_LOOK_ALIKES_SHOWN]:
        places = (f"{path} ({split})" for path, split in zip(pair.paths, pair.splits, strict=True))
        _print_line(console, "Note", f"look alike: {', '.join(places)}", "")
    for warning in report.warnings:
        _print_line(console, "Warning", warning, "yellow")
    for problem in report.errors[:_NUM_ERRORS_SHOWN]:
        _print_line(console, "Error", str(problem), "red")
    if len(report.errors) > _NUM_ERRORS_SHOWN:
        console.print(f"and {len(report.errors) - _NUM_ERRORS_SHOWN} more errors (--json has all)")
    errors, warnings = _number_of("error", len(report.errors)), _number_of("warning", len(report.warnings))
    console.print(f"{errors}, {warnings}.", style="bold red" if report.errors else "bold")


def _number_of(noun: str, count: int) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _print_line(console: Console, kind: str, text: str, style: str) -> None:
    from rich.text import Text

    line = Text.assemble((f"{kind}: ", style), printable(text))
    console.print(line, soft_wrap=True)
