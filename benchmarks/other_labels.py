"""Other labels for photos that have boxes: groups of things, and traits of the photo as a whole.

They are asked of the same photos, but no setting of a recipe was chosen by them, other than
`model.start_from_photos`; and names say little about them: they cover many ImageNet classes, or none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.training_runs import DATA_SETS

from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Sample
from query2label.labels import LabelSet

ANIMALS = {"bird", "cat", "cow", "dog", "horse", "sheep"}
VEHICLES = {"aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"}
INDOORS = {"bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"}
HALF_A_PHOTO = 500 * 375 / 2
"""Square pixels; PASCAL VOC's photos are of about this size."""
TRAITS = (
    *("animal", "vehicle", "indoors", "one person", "several people"),
    *("many things", "close-up", "far away"),
)


def coco_groups(data: Path) -> Dataset:
    """The COCO sample with the 12 groups that MS-COCO sorts its 80 labels into ("kitchen", "sports")."""
    folder = data / DATA_SETS["coco"]
    dataset = load_dataset(folder)
    (annotations, *_) = sorted((folder / "annotations").glob("instances_*.json"))
    categories = json.loads(annotations.read_text(encoding="utf-8"))["categories"]
    group_of = {category["name"]: category["supercategory"] for category in categories}
    return relabelled(
        dataset,
        sorted(set(group_of.values())),
        lambda sample: {group_of[dataset.labels[label]] for label in sample.positive},
    )


def voc_traits(data: Path) -> Dataset:
    """The VOC sample with 8 traits: kinds of things, how many there are, and how large."""
    dataset = load_dataset(data / DATA_SETS["voc"])
    return relabelled(dataset, TRAITS, lambda sample: set(_traits(dataset, sample)))


def _traits(dataset: Dataset, sample: Sample) -> Iterator[str]:
    names = [dataset.labels[box.label] for box in sample.boxes]
    for trait, things in (("animal", ANIMALS), ("vehicle", VEHICLES), ("indoors", INDOORS)):
        if things & set(names):
            yield trait
    num_people = names.count("person")
    if num_people:
        yield "one person" if num_people == 1 else "several people"
    if len(names) > 3:
        yield "many things"
    largest = max((box.width * box.height for box in sample.boxes), default=HALF_A_PHOTO)
    if largest > HALF_A_PHOTO:
        yield "close-up"
    if largest < 0.3 * HALF_A_PHOTO:
        yield "far away"


def relabelled(
    dataset: Dataset, labels: Collection[str], labels_of: Callable[[Sample], Collection[str]]
) -> Dataset:
    """The same photos with other labels."""
    index_of = {label: index for index, label in enumerate(labels)}
    samples = [
        replace(sample, positive=tuple(sorted(index_of[label] for label in labels_of(sample))), boxes=())
        for sample in dataset.samples
    ]
    return replace(dataset, labels=LabelSet(labels), samples=samples)


OTHER_LABELS: dict[str, Callable[[Path], Dataset]] = {"coco-groups": coco_groups, "voc-traits": voc_traits}
