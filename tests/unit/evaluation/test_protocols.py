"""Protocols by name: what each measures, and that it measures nothing else."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Sample
from query2label.errors import ConfigError, DataError
from query2label.evaluation.evaluate import evaluate
from query2label.evaluation.protocols import (
    PROTOCOLS,
    ImageSet,
    Protocol,
    protocol_images,
    resolve_protocol,
)
from query2label.labels import LabelSet

COUNTS = {  # names of the split, images, labels, average precision, labelled images only
    "coco14-all": (("val2014", "val"), 40504, 80, "voc", False),
    "coco14-labelled": (("val2014", "val"), 40137, 80, "plain", True),
    "coco17": (("val2017", "val"), 5000, 80, "voc", False),
    "voc07-11pt": (("test",), 4952, 20, "voc11", False),
    "voc07-allpoint": (("test",), 4952, 20, "voc", False),
    "voc12": (("val",), 5823, 20, "voc", False),
    "nuswide": (("test", "val"), 83898, 81, "voc", True),
    "vg500": (("test",), 10000, 500, "voc", False),
}


def colour_logits(images):
    return 10 * images.mean(axis=(2, 3))


def make_dataset(num_images, num_labels, *, num_unlabelled=0, split="val", num_unknown=0):
    unknown = tuple(range(num_labels, num_labels + num_unknown))
    samples = [
        Sample(Path(f"{n}.jpg"), () if n < num_unlabelled else (n % num_labels,), unknown, split=split)
        for n in range(num_images)
    ]
    labels = LabelSet(f"label {k}" for k in range(num_labels + num_unknown))
    return Dataset(labels, samples, Path("data"), "coco")


def test_protocols__are_those_of_the_papers():
    assert list(PROTOCOLS) == ["plain", "voc-allpoint", "voc-11pt", *COUNTS]
    assert all(protocol.difficult == "ignore" for protocol in PROTOCOLS.values())
    for name, expected in COUNTS.items():
        images = PROTOCOLS[name].image_set
        found = (images.splits, images.num_images, images.num_labels)
        assert (*found, PROTOCOLS[name].ap, images.labelled_only) == expected


def test_protocol_text__has_the_name_the_average_precision_and_the_images():
    assert PROTOCOLS["coco14-labelled"].text("split val of coco (coco)") == (
        "coco14-labelled (average precision as scikit-learn's; the labelled 40,137 images of MS-COCO "
        "val2014, 80 labels): split val of coco (coco); unknown targets left out; labels without a "
        "positive left out of means"
    )
    assert "; all 5,823 images of PASCAL VOC 2012 val, 20 labels): " in PROTOCOLS["voc12"].text("x")


def test_resolve_protocol__takes_a_split_that_agrees_and_refuses_others():
    for split in ("val", "val2014", "validation", None):
        assert resolve_protocol("coco14-all", difficult=None, split=split) is PROTOCOLS["coco14-all"]
    for split in ("test", "val", None):  # a common table of NUS-WIDE calls its test images val
        assert resolve_protocol("nuswide", difficult=None, split=split) is PROTOCOLS["nuswide"]
    with pytest.raises(ConfigError, match="nuswide is measured on the split test or val, not 'train': leave"):
        resolve_protocol("nuswide", difficult=None, split="train")
    assert resolve_protocol("plain", difficult=None, split="train") is PROTOCOLS["plain"]
    with pytest.raises(
        ConfigError, match="voc07-11pt is measured on the split test, not 'val': leave one of"
    ):
        resolve_protocol("voc07-11pt", difficult="ignore", split="val")
    with pytest.raises(ConfigError, match="voc12, what becomes of difficult objects is 'ignore', not 'negat"):
        resolve_protocol("voc12", difficult="negative")


@pytest.mark.parametrize(
    ("name", "num_images", "num_unlabelled"),
    [
        ("coco14-all", 40504, 367),
        ("coco14-labelled", 40504, 367),
        ("nuswide", 107859, 23961),  # the official list
        ("nuswide", 83898, 0),  # the list that papers share
    ],
)
def test_protocol_images__takes_the_whole_set_and_leaves_out_what_the_protocol_does(
    name, num_images, num_unlabelled
):
    whole = make_dataset(num_images, COUNTS[name][2], num_unlabelled=num_unlabelled)
    part = protocol_images(PROTOCOLS[name], whole)
    assert len(part) == COUNTS[name][1]
    dropped = len(whole) - len(part)
    assert list(part.samples) == whole.samples[dropped:]


def test_protocol_images__plain_protocols_take_anything():
    whole = make_dataset(3, 2, num_unlabelled=1)
    assert protocol_images(PROTOCOLS["voc-11pt"], whole) is whole


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        (
            "coco14-all",
            make_dataset(204, 80),
            "coco14-all is 40,504 images with 80 labels; data has 204 images with 80 labels in split val",
        ),
        (
            "coco14-labelled",
            make_dataset(40136, 80, num_unlabelled=5, split=None),
            "is 40,137 labelled images with 80 labels; data has 40,131 labelled images with 80 labels",
        ),
        (
            "voc07-allpoint",
            make_dataset(4952, 15, num_unknown=5, split="test"),
            "is 4,952 images with 20 labels; data has 4,952 images with 15 labels in split test",
        ),
        (
            "nuswide",
            make_dataset(2, 81, num_unlabelled=2),
            "is 83,898 labelled images with 81 labels; data has 0 labelled images with 0 labels in split val",
        ),
    ],
)
def test_protocol_images__refuses_a_mismatch_with_the_counts(name, data, found):
    with pytest.raises(DataError, match=f"{found}: evaluate without a protocol, or with plain.$"):
        protocol_images(PROTOCOLS[name], data)


def test_protocol_images__takes_the_official_lists_of_voc_2007(shared_dir):
    lists = shared_dir / "data" / "lists" / "voc2007" / "VOC2007"
    data = load_dataset(lists, check_files=False, split="test")
    part = protocol_images(PROTOCOLS["voc07-11pt"], data)
    assert (len(part), int((part.targets() == -1).sum())) == (4952, 619)
    train = load_dataset(lists, check_files=False, split="trainval")
    with pytest.raises(DataError, match=r"VOC2007 has 5,011 images with 20 labels in split train: evaluate"):
        protocol_images(PROTOCOLS["voc07-11pt"], train)


@pytest.fixture
def tiny(monkeypatch):
    """A protocol of two labelled photos in split test or, where there is none, exam."""
    images = ImageSet("Colours", ("exam", "test"), 2, 3, labelled_only=True)
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "voc", "ignore", "all-point AP", images))


@pytest.fixture
def exam(photos):
    """The photos with a test split of two that show a label and one that shows none."""
    table = ["image,red,green,blue,split", "red.png,1,0,0,test", "green.png,0,1,0,test"]
    table += ["yellow.png,0,0,0,test", "blue.png,0,0,1,val"]
    (photos / "labels.csv").write_text("\n".join(table) + "\n")
    return photos


@pytest.mark.usefixtures("tiny")
def test_evaluate__a_protocol_chooses_the_images_and_stands_beside_the_numbers(bundle, exam, tmp_path):
    report = evaluate(colour_logits, exam, bundle=bundle, protocol="tiny", num_resamples=0)
    assert (report.num_images, report.headline_ap) == (2, "voc")
    assert report.protocol.startswith(
        "tiny (all-point AP; the labelled 2 images of Colours exam, 3 labels): split test of photos (table); "
    )
    assert evaluate(colour_logits, exam, bundle=bundle, num_resamples=0, split="test").num_images == 3
    assert evaluate(colour_logits, exam, bundle=bundle, split="test", protocol="tiny").num_images == 2
    report.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["protocol"] == report.protocol
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        assert [row["protocol"] for row in csv.DictReader(file)] == [report.protocol] * 3


@pytest.mark.usefixtures("tiny")
def test_evaluate__a_protocol_takes_the_first_of_its_splits_that_is_there(bundle, exam):
    text = (exam / "labels.csv").read_text()
    (exam / "labels.csv").write_text(text.replace("blue.png,0,0,1,val", "blue.png,0,0,1,exam"))
    with pytest.raises(DataError, match="has 1 labelled images with 3 labels in split exam: evaluate"):
        evaluate(colour_logits, exam, bundle=bundle, protocol="tiny")
    (exam / "labels.csv").write_text(text.replace(",test", ",train"))
    with pytest.raises(
        DataError, match="has no split exam or test: it has train, val; the protocol tiny is me"
    ):
        evaluate(colour_logits, exam, bundle=bundle, protocol="tiny")


@pytest.mark.usefixtures("tiny")
def test_evaluate__a_protocol_needs_every_image(bundle, exam):
    seen = []

    def watched(images):
        seen.append(len(images))
        return np.zeros((len(images), 3))

    (exam / "green.png").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"The protocol tiny needs every image, and .*green\.png cannot be read: It is not"
    ):
        evaluate(watched, exam, bundle=bundle, protocol="tiny", batch_size=1)
    assert seen == [1]
    (exam / "red.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="The protocol tiny needs every image"):
        evaluate(watched, exam, bundle=bundle, protocol="tiny")
