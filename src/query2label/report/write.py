"""A report folder: the page, and beside it the numbers as files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from query2label.bundle import predicted
from query2label.errors import ConfigError, DataError
from query2label.evaluation.bootstrap import NUM_RESAMPLES
from query2label.evaluation.evaluate import report_on, score_labelled
from query2label.evaluation.scoring import Progress
from query2label.formats import DataFormatOrAuto, Difficult, RuntimeName
from query2label.inference.predictor import Predictor
from query2label.report.choice import chosen_pictures, worst_rows
from query2label.report.comparison import compared, disagreements
from query2label.report.confusion import set_confusion
from query2label.report.files import (
    CONFUSION_NAME,
    ERRORS_NAME,
    MISTAKES_NAME,
    shown_path,
    write_confusion,
    write_label_errors,
    write_mistakes,
)
from query2label.report.label_errors import SuspectedError, suspected_errors
from query2label.report.measured import Measured, ModelPlace, find_model, require_same_images
from query2label.report.page import MAX_SUSPECTS, page_content, page_html, page_template
from query2label.report.pictures import encoded_pictures, palette
from query2label.report.statistics import dataset_statistics
from query2label.report.tools import FIFTYONE_NAME, LABELSTUDIO_NAME, write_fiftyone, write_labelstudio
from query2label.storage import atomic_file

PAGE_NAME: Final = "index.html"
MAX_SCORES: Final = 8_000_000
"""More scores would make a page of more than 20 MB before its first picture."""
MAX_LABELS: Final = 2_000
"""More labels are no table that anybody reads; their confusion alone has as many cells as their square."""
MAX_MODELS: Final = 8

Stage = Callable[[str], AbstractContextManager[Progress]]
"""What shows that something goes on: gives what is told (done, all), for as long as it lasts."""


@dataclass(frozen=True)
class ReportOptions:
    """Which images, measured how, and how to compute; as in `evaluate` and `Predictor.load`."""

    split: str | None = None
    format: DataFormatOrAuto = "auto"
    image_root: Path | None = None
    difficult: Difficult | None = None
    protocol: str | None = None
    num_resamples: int = NUM_RESAMPLES
    batch_size: int = 32
    num_workers: int = 0
    runtime: RuntimeName = "auto"
    device: str = "auto"
    threads: int | None = None
    with_pictures: bool = True


def write_report(
    models: Sequence[str],
    data: Path | str,
    out: Path,
    *,
    title: str | None = None,
    options: ReportOptions | None = None,
    stage: Stage | None = None,
) -> Path:
    """Measures models on labelled images and writes the report on them; gives the page's path.

    Beside the page stand, for each model, what `Report.save` writes, and tables of its mistakes, suspected
    label errors and confusion, and of images that are files what FiftyOne and Label Studio read; with several
    models in folders `A`, `B` ... A missing package is a
    `MissingExtraError`, a refused write a `StorageError`; what `evaluate` refuses is refused.

    Args:
        models: Run folders, bundle folders, exported files or names on the hub; the others are compared
            with the first.
        data: Labelled images, as `load_dataset` reads them.
        out: The report's folder; files of these names in it are replaced.
        title: Of the page; unset: the models and the data.
        options: Which images, measured how.
        stage: Shows what goes on.

    Raises:
        ConfigError: If there are no models or too many, or `out` is a file.
    """
    options, stage = options or ReportOptions(), stage or _silent
    template = page_template()  # what is missing is said before hours are spent
    if not 1 <= len(models) <= MAX_MODELS:
        raise ConfigError(f"A report is about 1 to {MAX_MODELS} models, not {len(models)}.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: give a folder for the report.")
    measured = [_measured(place, Path(data), options, stage) for place in map(find_model, models)]
    require_same_images(measured)
    _require_room_in_page(measured)
    labelled = measured[0].labelled
    images = [shown_path(labelled.data, index) for index in labelled.indices.tolist()]
    suspects = [suspected_errors(m.labelled.scores, m.labelled.targets) for m in measured]
    folders = [out / chr(ord("A") + i) for i in range(len(measured))] if len(measured) > 1 else [out]
    content = page_content(measured, suspects, images) | {
        "statistics": dataset_statistics(labelled.data, labelled.indices, labelled.targets),
        "comparisons": [
            compared(measured[0], other, num_resamples=options.num_resamples) for other in measured[1:]
        ],
        "pictures": _pictures(measured, suspects, options, stage),
        "palette": palette(),
        "files": [{"label_errors": (folder / ERRORS_NAME).relative_to(out).as_posix()} for folder in folders],
    }
    html = page_html(template, title or _title(measured, labelled.data.source), content)
    for model, found, folder in zip(measured, suspects, folders, strict=True):
        _write_files(model, found, images, folder)
    with atomic_file(out / PAGE_NAME) as file:
        file.write(html)
    return out / PAGE_NAME


def _measured(place: ModelPlace, data: Path, options: ReportOptions, stage: Stage) -> Measured:
    predictor = Predictor.load(
        place.bundle, runtime=options.runtime, device=options.device, threads=options.threads
    )
    with stage(f"Measuring {place.name}") as progress:
        labelled = score_labelled(
            predictor,
            data,
            split=options.split,
            format=options.format,
            image_root=options.image_root,
            difficult=options.difficult,
            protocol=options.protocol,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            progress=progress,
        )
    report = report_on(labelled, num_resamples=options.num_resamples)
    return Measured(place.name, predictor, labelled, report, place.records, place.warnings)


def _require_room_in_page(models: Sequence[Measured]) -> None:
    num_images, num_labels = models[0].labelled.scores.shape
    if num_labels > MAX_LABELS:
        raise DataError(
            f"A page shows at most {MAX_LABELS:,} labels, and {models[0].name} knows {num_labels:,}: "
            "q2l evaluate has the numbers of any number of labels."
        )
    total = num_images * num_labels * len(models)
    if total > MAX_SCORES:
        raise DataError(
            f"The page would hold {total:,} scores ({num_images:,} images, {num_labels:,} labels, "
            f"{len(models)} models), more than {MAX_SCORES:,}: choose a smaller --split, or fewer models."
        )


def _pictures(
    models: Sequence[Measured],
    suspects: Sequence[Sequence[SuspectedError]],
    options: ReportOptions,
    stage: Stage,
) -> dict[int, dict[str, Any]]:
    if not options.with_pictures:
        return {}
    labelled = models[0].labelled
    wanted = chosen_pictures(
        [worst_rows(m.labelled.scores, m.labelled.targets) for m in models],
        [
            *([(error.row, error.label) for error in found[:MAX_SUSPECTS]] for found in suspects),
            *(disagreements(models[0], other)[:MAX_SUSPECTS] for other in models[1:]),
        ],
    )
    names = labelled.bundle.labels
    with stage("Drawing") as progress:
        return encoded_pictures(
            {row: labelled.data.samples[int(labelled.indices[row])] for row in wanted},
            {row: [names[label] for label in labels] for row, labels in wanted.items()},
            [model.predictor for model in models],
            progress=progress,
        )


def _write_files(
    model: Measured, suspects: Sequence[SuspectedError], images: Sequence[str], folder: Path
) -> None:
    labelled, labels = model.labelled, model.labelled.bundle.labels
    model.report.save(folder)
    write_mistakes(model, images, folder / MISTAKES_NAME)
    write_label_errors(suspects, images, labels, folder / ERRORS_NAME)
    chosen = predicted(labelled.scores, np.asarray(labelled.bundle.thresholds))
    write_confusion(set_confusion(chosen, labelled.targets), labels, folder / CONFUSION_NAME)
    if all(sample.content is None for sample in labelled.data.samples):  # the tools read no archives
        write_fiftyone(model, suspects, folder / FIFTYONE_NAME)
        write_labelstudio(model, suspects, images, folder / LABELSTUDIO_NAME)


def _title(models: Sequence[Measured], data: Path) -> str:
    return f"{' and '.join(model.name for model in models)} on {data.name}"


@contextlib.contextmanager
def _silent(_: str) -> Any:
    yield lambda done, total: None
