"""Fine-tuning: a run that starts from a trained model, with the same labels or with others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from query2label.bundle import Bundle, read_bundle, read_weights, resolve_bundle_path
from query2label.config import ModelConfig, RunConfig, parse_config
from query2label.errors import BundleError, ConfigError
from query2label.inference.runtimes import is_exported
from query2label.models.backbone import build_backbone
from query2label.models.build import build_head, feedforward_dim, hidden_dim
from query2label.models.head_ml_decoder import MLDecoderHead
from query2label.models.published import load_published
from query2label.models.query2label import Query2Label
from query2label.models.weights import check_fit, load_strictly
from query2label.training.progress import named

LABEL_ROWS = ("head.label_queries", "head.output_weight", "head.output_bias")
"""Weights with one row per label, in the heads that have them."""
MAY_DIFFER = {
    *("weights", "start_from", "start_from_names", "start_from_photos", "output_stride", "freeze"),
    *("freeze_norm", "dropout", "csra_lambda", "ml_decoder_num_groups"),
}
"""Model settings that weights do not depend on; a new one counts as such once it is named here."""
_NOT_TAKEN = {"weights", "start_from"}  # they say where the source itself came from
_WIDTHS = {"hidden_dim": hidden_dim, "feedforward_dim": feedforward_dim}


@dataclass(frozen=True)
class Source:
    """A trained model to start from."""

    name: str
    """What it is called: an absolute path, or `owner/name` on the Hugging Face hub."""
    bundle: Bundle
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Transfer:
    """What was taken over from a source."""

    source: str
    kept: tuple[str, ...]
    """Labels that go on with the source's weights."""
    new: tuple[str, ...]
    """Labels that the source does not know."""
    dropped: tuple[str, ...]
    """Labels of the source that the data do not have."""
    regrouped: tuple[str, ...] = ()
    """Labels that both know but that start anew: their group of an ml_decoder head answers for others now."""

    def __str__(self) -> str:
        parts = [
            f"Starts from {self.source}: {_count(self.kept)} kept",
            f"{_count(self.new)} new",
            *([f"{_count(self.regrouped)} in another group and new"] if self.regrouped else []),
            f"{_count(self.dropped)} not in the data and dropped",
        ]
        return "; ".join(parts) + "."


def configure(
    values: Mapping[str, Any], *, where: str, start_from: Path | str | None = None
) -> tuple[RunConfig, Source | None]:
    """The configuration of a new run, and the model that it starts from where `model.start_from` names one.

    The source's model settings and preprocessing stand between the defaults and `values`.

    Args:
        values: Nested settings of recipe and overrides.
        where: What they came from, for the error message.
        start_from: The source; unset: `model.start_from` of the settings.

    A source that cannot be read is a `BundleError`; settings that its weights do not fit, a `ConfigError`.
    """
    settings = values.get("model")
    if start_from is None and isinstance(settings, Mapping):
        start_from = settings.get("start_from")
    if not isinstance(start_from, str | Path):
        return parse_config(values, where=where), None
    source = read_source(str(start_from))
    beneath = {
        "model": source.bundle.model.model_dump(exclude=_NOT_TAKEN),
        "data": source.bundle.preprocess.model_dump(),
    }
    above = {"model": {"start_from": source.name}}
    config = parse_config(_layered(_layered(beneath, values), above), where=where)
    check_same_form(config, source)
    return config, source


def read_source(start_from: str) -> Source:
    """The trained model of a bundle folder, a bundle on the hub, or a checkpoint file of the authors' code.

    One that is not there or cannot be read is a `BundleError`.

    Raises:
        BundleError: If it is an exported file.
    """
    path = Path(start_from)
    if is_exported(path):
        raise BundleError(
            f"{path} is an exported file, which learns nothing: give the bundle it was made from."
        )
    name = str(path.absolute()) if path.exists() else start_from
    if path.is_file():
        model = load_published(path)
        return Source(name, cast(Bundle, model.bundle), model.state_dict())
    folder = resolve_bundle_path(start_from)
    return Source(name, read_bundle(folder), read_weights(folder))


def check_same_form(config: RunConfig, source: Source) -> None:
    """Refuses a model that differs from its source in a setting that the weights depend on.

    Raises:
        ConfigError: If it does; the message names the first such setting and both values.
    """
    ours, theirs = _form(config.model), _form(source.bundle.model)
    if {name for name in ours if ours[name] != theirs[name]} & {*_WIDTHS}:
        _resolve_widths(config, (ours, config.model), (theirs, source.bundle.model))
    for name, value in ours.items():
        if value != theirs[name]:
            raise ConfigError(
                f"model.{name} is {_shown(value)}, but {_shown(theirs[name])} in {source.name}, and its "
                "weights fit no other: leave this setting to the source, or train without it."
            )


@torch.no_grad()
def transfer(
    model: Query2Label, labels: Sequence[str], source: Source, *, image_size: tuple[int, int]
) -> Transfer:
    """Puts a source's weights into a model: all that labels share, and the rows of labels that both know.

    Rows of the other labels stay as they are in `model`.

    Args:
        model: With a backbone and head of the source's form, and labels of its own.
        labels: Its labels.
        source: Where the weights come from.
        image_size: (height, width) that `model` was built for.

    Weights that do not fit their own bundle are a `BundleError`; a size that the backbone's weights do not
    fit is a `ConfigError`.

    Returns:
        What became of each label.
    """
    where = f"The weights file of {source.name}"
    _check_backbone(model, source, where, image_size=image_size)
    _check_head(model, source, where)
    places = {label: place for place, label in enumerate(source.bundle.labels)}
    pairs = {row: places[label] for row, label in enumerate(labels) if label in places}
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    weights = dict(source.weights)
    known = {*pairs}
    if isinstance(model.head, MLDecoderHead):
        pairs = _take_groups(fresh, source.weights, pairs)
    else:
        _take_rows(fresh, source.weights, pairs)
    changed = ("head.group_queries", *LABEL_ROWS)
    weights = {**source.weights, **{name: fresh[name] for name in changed if name in fresh}}
    load_strictly(model, weights, source=where)
    return Transfer(
        source=source.name,
        kept=tuple(labels[row] for row in pairs),
        new=tuple(label for label in labels if label not in places),
        dropped=tuple(label for label in source.bundle.labels if label not in {*labels}),
        regrouped=tuple(labels[row] for row in sorted(known - {*pairs})),
    )


def _take_rows(fresh: Mapping[str, Tensor], theirs: Mapping[str, Tensor], pairs: Mapping[int, int]) -> None:
    """Copies rows `pairs` (ours -> theirs) of all weights that have one row per label."""
    for name in fresh.keys() & {*LABEL_ROWS}:
        fresh[name][list(pairs)] = theirs[name][list(pairs.values())].to(fresh[name])


def _take_groups(
    fresh: Mapping[str, Tensor], theirs: Mapping[str, Tensor], pairs: Mapping[int, int]
) -> dict[int, int]:
    """Gives each of our groups the query of the group that most of its labels come from, and their rows.

    Returns:
        The pairs (ours -> theirs) that could be kept: an output row means nothing beside another query.
    """
    query, weight, bias = "head.group_queries", *LABEL_ROWS[1:]
    our_size, their_size = fresh[weight].shape[1], theirs[weight].shape[1]
    kept = {}
    for group in range(len(fresh[query])):
        members = {ours: pairs[ours] for ours in pairs if ours // our_size == group}
        if not members:
            continue
        origin, _ = Counter(row // their_size for row in members.values()).most_common(1)[0]
        fresh[query][group] = theirs[query][origin]
        for ours, row in members.items():
            if row // their_size == origin:
                fresh[weight][group, ours % our_size] = theirs[weight][origin, row % their_size]
                fresh[bias][ours] = theirs[bias][row]
                kept[ours] = row
    return kept


def _check_head(model: Query2Label, source: Source, where: str) -> None:
    """Refuses head weights that do not fit the source's own labels and settings."""
    settings, num_channels = source.bundle.model, model.backbone.num_channels
    with torch.device("meta"):
        head = build_head(settings, num_channels, len(source.bundle.labels))
        if settings.feature_norm:
            head.standardize_features(num_channels)
    weights = {name[5:]: value for name, value in source.weights.items() if name.startswith("head.")}
    check_fit(head, weights, source=where)


def _check_backbone(model: Query2Label, source: Source, where: str, *, image_size: tuple[int, int]) -> None:
    """Refuses backbone weights that do not fit, which for some backbones is a matter of the image size.

    Raises:
        ConfigError: If it is.
        BundleError: If they do not fit anyway.
    """
    weights = {name[9:]: value for name, value in source.weights.items() if name.startswith("backbone.")}
    ours, theirs = image_size, source.bundle.preprocess.image_size
    try:
        check_fit(model.backbone, weights, source=where)
    except BundleError:
        if ours == theirs:
            raise
        raise ConfigError(
            f"data.image_size is {list(ours)}, but {list(theirs)} in {source.name}, and the weights of its "
            "backbone fit no other size: leave this setting to the source."
        ) from None


def _form(config: ModelConfig) -> dict[str, object]:
    """The settings that weights depend on; a backbone without the tag of its pretrained weights."""
    return {**config.model_dump(exclude=MAY_DIFFER), "backbone": config.backbone.partition(".")[0]}


def _resolve_widths(config: RunConfig, *forms: tuple[dict[str, object], ModelConfig]) -> None:
    """Puts the widths that unset ones stand for into forms; it takes a backbone to know them."""
    num_channels = build_backbone(
        config.model.backbone, weights="none", image_size=config.data.image_size
    ).num_channels
    for form, settings in forms:
        form |= {name: width(settings, num_channels) for name, width in _WIDTHS.items()}


def _layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings; where both have one, that of `above` counts."""
    merged = {**below, **above}
    for name, value in above.items():
        lower = below.get(name)
        if isinstance(value, Mapping) and isinstance(lower, Mapping):
            merged[name] = _layered(lower, value)
    return merged


def _shown(value: object) -> str:
    return "unset" if value is None else json.dumps(value)


def _count(labels: Sequence[str]) -> str:
    names = f" ({named(labels)})" if labels else ""
    return f"{len(labels)} {'label' if len(labels) == 1 else 'labels'}{names}"
