"""A better start for few photos: what the backbone's ImageNet classifier knows of the labels' names."""

from __future__ import annotations

import torch

from query2label.config import ModelConfig
from query2label.data.samples import Dataset
from query2label.models.class_rows import read_class_rows, start_rows
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.query2label import Query2Label
from query2label.training.progress import named


@torch.no_grad()
def start_from_names(model: Query2Label, config: ModelConfig, train: Dataset) -> str:
    """Lets the output rows of a direct head start at the ImageNet classes that its labels' names cover.

    Args:
        model: As built, with its pretrained weights.
        config: What it was built from.
        train: The training images: the more show a label, the nearer to 0 it starts.

    Returns:
        What came of it, as a sentence for the log.
    """
    head = model.head
    if not isinstance(head, LabelQueryHead) or not head.direct:
        return (
            "Names of labels are not used: model.start_from_names is for the head query2label with "
            'model.attention = "direct".'
        )
    class_rows = read_class_rows(config, model.backbone)
    if class_rows is None or not head.weighs_channels:
        return (
            "Names of labels are not used: the backbone's weights have no classifier for ImageNet-1k on the "
            "channels that the labels look at."
        )
    labels = train.labels.names
    shown = torch.from_numpy((train.targets() == 1).sum(axis=0))
    rows = start_rows(class_rows, labels, shown)
    head.output_weight.copy_(rows)
    unknown = [label for label, row in zip(labels, rows, strict=True) if not row.any()]
    known = f"{len(labels) - len(unknown)} of {len(labels)} labels"
    rest = f"; not {named(unknown)}" if unknown else ""
    return f"{known} start at the ImageNet classes of their names{rest}."
