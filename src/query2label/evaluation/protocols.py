"""Protocols: how results are measured, by name, so that only like is compared with like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from query2label.errors import ConfigError
from query2label.formats import Difficult
from query2label.metrics import AveragePrecisionKind

_ALWAYS: Final = "unknown targets left out; labels without a positive left out of means"


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

    def text(self, images: str) -> str:
        """What belongs beside results on `images`; begins with the protocol's name."""
        return f"{self.name} ({self.description}): {images}; {_ALWAYS}"


PLAIN: Final = Protocol("plain", "plain", "ignore", "average precision as scikit-learn's")

PROTOCOLS: Final = {
    protocol.name: protocol
    for protocol in (
        PLAIN,
        Protocol("voc-allpoint", "voc", "ignore", "all-point interpolated average precision"),
        Protocol("voc-11pt", "voc11", "ignore", "11-point interpolated average precision of PASCAL VOC 2007"),
    )
}


def resolve_protocol(name: str | None, difficult: Difficult | None) -> Protocol:
    """The protocol that was asked for.

    Args:
        name: One of `PROTOCOLS`; unset: `plain`, which is then no more than a default.
        difficult: What was asked for; unset: the protocol's.

    Raises:
        ConfigError: If there is no such protocol, or it was asked for by name and contradicts `difficult`.
    """
    if name is not None and name not in PROTOCOLS:
        raise ConfigError(f"Unknown protocol {name!r}: choose {', '.join(PROTOCOLS)}.")
    protocol = PLAIN if name is None else PROTOCOLS[name]
    if difficult in {None, protocol.difficult}:
        return protocol
    if name is not None:
        raise ConfigError(
            f"In the protocol {name}, what becomes of difficult objects is {protocol.difficult!r}, not "
            f"{difficult!r}: leave one of the two out."
        )
    return replace(protocol, name="plain but for difficult objects", difficult=difficult)
