"""The page: one HTML file with its style, its program, its numbers and its pictures inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from query2label.extras import import_extra
from query2label.report.curves import label_curves
from query2label.report.embedded import STEPS, encoded_scores, encoded_targets, threshold_steps
from query2label.report.label_errors import SuspectedError
from query2label.report.measured import Measured

_FOLDER: Final = Path(__file__).parent / "page"
_SCRIPTS: Final = (
    "elements.js",
    "decisions.js",
    "charts.js",
    "pictures.js",
    "labels.js",
    "mistakes.js",
    "sections.js",
    "comparison.js",
    "main.js",
)
MAX_SUSPECTS: Final = 200
"""Suspected label errors in a page; the table beside it has all."""
_EPOCH_KEYS: Final = ("epoch", "train_loss", "val_loss", "map", "map_raw", "map_ema", "lr", "best")


def page_template() -> Any:
    """What makes the page of numbers; without jinja2 it is a `MissingExtraError`."""
    jinja2 = import_extra("jinja2", extra="report", purpose="The report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")


def page_html(template: Any, title: str, content: dict[str, Any]) -> str:
    """The page as text.

    A policy inside it lets the browser run and show what is in the file, and fetch nothing. Names of labels
    and files are data to it, never markup.

    Args:
        template: `page_template`.
        title: Shown above, and as the name of the tab.
        content: What `page_content` gives, with what belongs to it; anything that JSON holds.
    """
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    program = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    program = f'"use strict";\n(() => {{\n{program}\n}})();\n'
    html: str = template.render(title=title, content=content, style=style, program=program, digest=_digest)
    return html


def model_content(model: Measured, suspects: Sequence[SuspectedError]) -> dict[str, Any]:
    """What a page knows of one model."""
    labelled, report = model.labelled, model.report
    bundle = labelled.bundle
    thresholds = np.asarray(bundle.thresholds)
    height, width = bundle.preprocess.image_size
    return {
        "name": model.name,
        "about": f"{bundle.model.head} on {bundle.model.backbone}, {height} x {width} pixels",
        "threshold_rule": bundle.threshold_rule,
        "temperature": bundle.temperature,
        "scores": encoded_scores(labelled.scores, thresholds),
        "thresholds": thresholds.tolist(),
        "steps": threshold_steps(thresholds).tolist(),
        "map": report.headline_map,
        "interval": None if report.map_interval is None else vars(report.map_interval),
        "maps": {"plain": report.map, "all-point": report.map_voc, "11-point": report.map_voc11},
        "headline_ap": {"plain": "plain", "voc": "all-point", "voc11": "11-point"}[report.headline_ap],
        "auc": report.auc,
        "calibration_error": report.calibration_error,
        "uncalibrated_error": report.uncalibrated_error,
        "labels": [
            {"ap": row.ap_of(report.headline_ap), "auc": row.auc, "best_threshold": row.best_threshold}
            for row in report.per_label
        ],
        "by_size": [
            {"size": row.size, "pairs": row.num_positives, "labels": row.num_labels, "map": row.map}
            for row in report.by_size
        ],
        "by_count": {row.num_labels: row.map for row in report.by_num_labels},
        "curves": label_curves(labelled.scores, labelled.targets),
        "epochs": [{key: record.get(key) for key in _EPOCH_KEYS} for record in model.records],
        "warnings": list(model.warnings),
        "suspects": [
            [error.row, error.label, int(error.is_present), error.score, error.self_confidence]
            for error in suspects[:MAX_SUSPECTS]
        ],
        "num_suspects": len(suspects),
    }


def page_content(
    models: Sequence[Measured], suspects: Sequence[Sequence[SuspectedError]], images: Sequence[str]
) -> dict[str, Any]:
    """What a page knows of the images and the models; pictures, comparisons and statistics are added to it.

    Args:
        models: Measured on the same images.
        suspects: The suspected label errors by each model.
        images: What to call each row.
    """
    labelled = models[0].labelled
    return {
        "scale": STEPS,
        "labels": list(labelled.bundle.labels),
        "images": list(images),
        "targets": encoded_targets(labelled.targets),
        "protocol": models[0].report.protocol,
        "notes": list(models[0].report.notes),
        "broken": [[Path(path).name, reason] for path, reason in labelled.broken.items()],
        "models": [model_content(model, found) for model, found in zip(models, suspects, strict=True)],
    }


def _digest(text: str) -> str:
    """What the page's policy calls a text that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
