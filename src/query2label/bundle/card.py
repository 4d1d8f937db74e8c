"""The model card of a bundle: `README.md` as the Hugging Face hub shows it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from query2label.bundle.schema import Bundle
from query2label.config import dump_config, parse_config
from query2label.errors import ConfigError

BEGIN: Final = "<!-- query2label: begin -->"
END: Final = "<!-- query2label: end -->"
PER_LABEL: Final = "per_label"
"""Key of the metrics that each label has of its own."""
_MEASURED: Final = {
    "measured on": "positives",
    "AP (%)": "AP",
    "precision (%)": "precision",
    "recall (%)": "recall",
}
_FEW: Final = (
    "Trained and measured on so many images that show the label. AP, precision and recall follow the "
    "protocol above, the latter two at the threshold; measured on fewer than 10 images they say little."
)
_MAX_LABELS: Final = 1000


def model_card(bundle: Bundle, *, picture: str | None = None) -> str:
    """A model card: what it knows, how well, how to use it, where it came from.

    Args:
        bundle: The model.
        picture: Name of a picture beside the card, of images with where the model looked.

    Text between the two query2label comments is renewed when thresholds change; write your own outside.
    """
    front = "\n".join(_front_matter(bundle))
    return f"{front}\n\n# {_title(bundle)}\n\n{_generated(bundle, picture)}\n"


def renewed_card(card: str, bundle: Bundle, *, picture: str | None = None) -> str:
    """`card` with its generated part made anew; a card without that part stays as it is."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + _generated(bundle, picture) + after if begin and end else card


def _front_matter(bundle: Bundle) -> Iterator[str]:
    yield "---"
    yield "library_name: query2label"
    yield "pipeline_tag: image-classification"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("query2label", "multi-label-image-classification"))
    yield f"- {_yaml(bundle.model.backbone)}"
    yield "---"


def _title(bundle: Bundle) -> str:
    head, backbone = markdown_text(bundle.model.head), markdown_text(bundle.model.backbone)
    return f"{head} on {backbone}, {len(bundle.labels)} labels"


def _generated(bundle: Bundle, picture: str | None) -> str:
    sections = [
        BEGIN,
        _purpose(bundle),
        _use(),
        _metrics(bundle),
        _labels(bundle),
        _examples(picture),
        _data(bundle),
        _limits(bundle),
        _origin(bundle),
        END,
    ]
    return "\n\n".join(section for section in sections if section)


def _purpose(bundle: Bundle) -> str:
    height, width = bundle.preprocess.image_size
    return (
        f"Tells which of {len(bundle.labels)} labels an image shows; any number may be right at once. "
        f"Images are seen at {height} x {width} pixels (height x width, resize: {bundle.preprocess.resize})."
    )


def _use() -> str:
    return """## Use

```python
from query2label import Predictor

predictor = Predictor.load("path/to/this/folder")  # or its name on the Hugging Face hub
print(predictor("photo.jpg").labels)
```

```
q2l predict photo.jpg --model path/to/this/folder
```"""


def _metrics(bundle: Bundle) -> str:
    headline = {name: value for name, value in bundle.metrics.items() if name != PER_LABEL}
    rows = [f"| {markdown_text(name)} | {value} |" for name, value in _flat(headline)]
    return (
        "\n".join(["## Results on validation data", "", "| measure | value |", "|---|---|", *rows])
        if rows
        else ""
    )


def _labels(bundle: Bundle) -> str:
    rule = (
        f"Threshold rule: {markdown_text(bundle.threshold_rule)}; "
        f"scores are sigmoid(logits / {bundle.temperature:.4g})."
    )
    columns = _columns(bundle)
    shown = list(zip(bundle.labels, bundle.thresholds, strict=True))[:_MAX_LABELS]
    rows = []
    for label, threshold in shown:
        more_cells = (cells.get(label, "-") for cells in columns.values())
        rows.append(_table_row([markdown_text(label), f"{threshold:.3f}", *more_cells]))
    left = len(bundle.labels) - len(shown)
    more = [f"\n... and {left} more in `config.json`."] if left else []
    head = ["label", "threshold", *columns]
    note = [_FEW, ""] if bundle.metrics.get(PER_LABEL) else []
    return "\n".join(
        [
            "## Labels and thresholds",
            "",
            rule,
            "",
            *note,
            _table_row(head),
            "|---" * len(head) + "|",
            *rows,
            *more,
        ]
    )


def _columns(bundle: Bundle) -> dict[str, dict[str, str]]:
    """What else is known of each label, by the heading of its column."""
    columns = {}
    trained, measured = bundle.data.get("training_images_per_label"), bundle.metrics.get(PER_LABEL)
    if isinstance(trained, Mapping):
        columns["trained on"] = {label: _number(value) for label, value in trained.items()}
    if isinstance(measured, Mapping):
        known = {label: row for label, row in measured.items() if isinstance(row, Mapping)}
        for name, key in _MEASURED.items():
            columns[name] = {label: _number(row[key]) for label, row in known.items() if key in row}
    return {name: cells for name, cells in columns.items() if cells}


def _table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{100 * value:.1f}"
    return str(value) if isinstance(value, int) else "-"


def _examples(picture: str | None) -> str:
    if picture is None:
        return ""
    return (
        "## Where it looks\n\n"
        f"![Validation images with where the model looked for a label]({picture})\n\n"
        "For each of the labels that most validation images show: of the images that show it the one with "
        "the median score, so neither the best nor the worst."
    )


def _data(bundle: Bundle) -> str:
    training, validation = (bundle.data.get(f"{split}_images") for split in ("training", "validation"))
    if not isinstance(training, int) or not isinstance(validation, int):
        return ""
    name = bundle.data.get("name")
    origin = f" of {markdown_text(name)}" if isinstance(name, str) else ""
    return f"## Data\n\nTrained on {training} images{origin}; {validation} others chose the best epoch."


def _limits(bundle: Bundle) -> str:
    return (
        "## Limits\n\n"
        f"It knows these {len(bundle.labels)} labels and nothing else, and says nothing about images unlike "
        "those it learned from. Results above are of one data set: measure on your own images before relying "
        "on them, and fit the thresholds to them with `q2l thresholds`."
    )


def _origin(bundle: Bundle) -> str:
    versions = ", ".join(
        f"{markdown_text(name)} {markdown_text(text)}" for name, text in bundle.versions.items()
    )
    parts = [markdown_text(bundle.origin), f"Made with {versions}." if versions else "", _recipe(bundle)]
    return "\n\n".join(["## Where it came from", *filter(None, parts)]) if any(parts) else ""


def _recipe(bundle: Bundle) -> str:
    try:
        toml = dump_config(parse_config(bundle.run, where="the run")) if bundle.run else ""
    except ConfigError:  # of another version: config.json has it as it was
        toml = ""
    return f"The recipe, for `q2l train --recipe`:\n\n```toml\n{toml}```" if toml else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Scalars of nested values as (dotted name, Markdown text); longer lists are left to `config.json`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"{prefix}{name}", f"{value:.6g}"
        elif isinstance(value, str | int) or (isinstance(value, list | tuple) and len(value) <= 4):
            yield f"{prefix}{name}", markdown_text(str(value))


def markdown_text(text: str) -> str:
    """`text` so that Markdown and HTML show it as it is, on one line."""
    visible = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", html.escape(visible, quote=False))


def _yaml(text: str) -> str:
    """`text` as a double-quoted YAML scalar."""
    visible = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return '"' + visible.replace("\\", "\\\\").replace('"', '\\"') + '"'
