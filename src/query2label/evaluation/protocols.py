"""Protocols: how results are measured, by name, so that only like is compared with like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from query2label.data.annotation_files import split_name
from query2label.data.samples import Dataset
from query2label.errors import ConfigError, DataError
from query2label.formats import Difficult
from query2label.labels import UNKNOWN
from query2label.metrics import AveragePrecisionKind

_ALWAYS: Final = "unknown targets left out; labels without a positive left out of means"


@dataclass(frozen=True)
class ImageSet:
    """The images and labels that a protocol is measured on."""

    data: str
    """Name of the data set."""
    splits: tuple[str, ...]
    """Names that its split goes by, the most usual first; the first that the data have is taken."""
    num_images: int
    num_labels: int
    labelled_only: bool = False
    """Whether images without a positive label are left out."""

    def __str__(self) -> str:
        which = "the labelled" if self.labelled_only else "all"
        return f"{which} {self.num_images:,} images of {self.data} {self.splits[0]}, {self.num_labels} labels"


@dataclass(frozen=True)
class Protocol:
    """One way of measuring."""

    name: str
    ap: AveragePrecisionKind
    """The average precision whose mean is the headline."""
    difficult: Difficult
    """What objects marked difficult (PASCAL VOC) say about their label; `ignore` makes it unknown."""
    description: str
    """The average precision in words."""
    image_set: ImageSet | None = None
    """What it is measured on; None: on whatever images there are."""

    def text(self, images: str) -> str:
        """What belongs beside results on `images`; begins with the protocol's name."""
        how = self.description if self.image_set is None else f"{self.description}; {self.image_set}"
        return f"{self.name} ({how}): {images}; {_ALWAYS}"


_PLAIN_AP: Final = "average precision as scikit-learn's"
_ALLPOINT_AP: Final = "all-point interpolated average precision"
_ELEVEN_POINT_AP: Final = "11-point interpolated average precision of PASCAL VOC 2007"
_COCO14: Final = ("val2014", "val")
_VOC07: Final = ImageSet("PASCAL VOC 2007", ("test",), 4_952, 20)

PLAIN: Final = Protocol("plain", "plain", "ignore", _PLAIN_AP)

PROTOCOLS: Final = {
    protocol.name: protocol
    for protocol in (
        PLAIN,
        Protocol("voc-allpoint", "voc", "ignore", _ALLPOINT_AP),
        Protocol("voc-11pt", "voc11", "ignore", _ELEVEN_POINT_AP),
        Protocol(
            "coco14-all",
            "voc",
            "ignore",
            _ALLPOINT_AP,
            ImageSet("MS-COCO", _COCO14, 40_504, 80),
        ),
        Protocol(
            "coco14-labelled",
            "plain",
            "ignore",
            _PLAIN_AP,
            ImageSet("MS-COCO", _COCO14, 40_137, 80, labelled_only=True),
        ),
        Protocol(
            "coco17",
            "voc",
            "ignore",
            _ALLPOINT_AP,
            ImageSet("MS-COCO", ("val2017", "val"), 5_000, 80),
        ),
        Protocol("voc07-11pt", "voc11", "ignore", _ELEVEN_POINT_AP, _VOC07),
        Protocol("voc07-allpoint", "voc", "ignore", _ALLPOINT_AP, _VOC07),
        Protocol("voc12", "voc", "ignore", _ALLPOINT_AP, ImageSet("PASCAL VOC 2012", ("val",), 5_823, 20)),
        Protocol(
            "nuswide",
            "voc",
            "ignore",
            _ALLPOINT_AP,
            ImageSet("NUS-WIDE", ("test", "val"), 83_898, 81, labelled_only=True),
        ),
        Protocol(
            "vg500",
            "voc",
            "ignore",
            _ALLPOINT_AP,
            ImageSet("Visual Genome 500", ("test",), 10_000, 500),
        ),
    )
}
"""By name. NUS-WIDE's official lists hold 161,789 and 107,859 images; without those that show none of the 81
concepts, as most papers have it, they are 125,449 and 83,898; a common table calls the latter val."""


def resolve_protocol(name: str | None, *, difficult: Difficult | None, split: str | None = None) -> Protocol:
    """The protocol that was asked for.

    Args:
        name: One of `PROTOCOLS`; unset: `plain`, which is then no more than a default.
        difficult: What was asked for; unset: the protocol's.
        split: The split that was asked for; unset: the protocol's.

    Raises:
        ConfigError: If there is no such protocol, or it was asked for by name and contradicts `difficult` or
            `split`.
    """
    if name is not None and name not in PROTOCOLS:
        raise ConfigError(f"Unknown protocol {name!r}: choose {', '.join(PROTOCOLS)}.")
    protocol = PLAIN if name is None else PROTOCOLS[name]
    allowed = protocol.image_set.splits if protocol.image_set else ()
    if allowed and split is not None and split_name(split) not in allowed:
        raise ConfigError(
            f"The protocol {name} is measured on the split {' or '.join(allowed)}, not {split!r}: leave "
            "one of the two out."
        )
    if difficult in {None, protocol.difficult}:
        return protocol
    if name is not None:
        raise ConfigError(
            f"In the protocol {name}, what becomes of difficult objects is {protocol.difficult!r}, not "
            f"{difficult!r}: leave one of the two out."
        )
    return replace(protocol, name="plain but for difficult objects", difficult=difficult)


def protocol_images(protocol: Protocol, part: Dataset) -> Dataset:
    """The images of one split that a protocol counts.

    Args:
        protocol: One without an image set takes all.
        part: The images of the protocol's split.

    Raises:
        DataError: If these are not as many images and annotated labels as the protocol says.
    """
    wanted = protocol.image_set
    if wanted is None:
        return part
    where = f" in split {part.splits()[0]}" if part.splits() else ""
    if wanted.labelled_only:
        part = replace(part, samples=[sample for sample in part.samples if sample.positive])
    num_labels = int((part.targets() != UNKNOWN).any(axis=0).sum())
    if (len(part), num_labels) != (wanted.num_images, wanted.num_labels):
        labelled = "labelled " if wanted.labelled_only else ""
        raise DataError(
            f"Protocol {protocol.name} is {wanted.num_images:,} {labelled}images with {wanted.num_labels} "
            f"labels; {part.source} has {len(part):,} {labelled}images with {num_labels} labels{where}: "
            "evaluate without a protocol, or with plain."
        )
    return part
