"""Words for the classes of ImageNet-1k, and for what these are kinds of."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).with_name("imagenet_words.tsv")
"""Made by benchmarks/imagenet_words.py."""


def classes_named(label: str) -> tuple[int, ...]:
    """The ImageNet-1k classes that an English label covers; empty where there are none.

    Upper case, underscores and the plural do not matter. Of several words the last counts where the table
    does not have them together: a "wine glass" is a glass.

    Args:
        label: For example `dog`, which covers 118 breeds.
    """
    words = plain(label)
    forms = (words, words.replace(" ", ""), *_singulars(words))
    known = next((_table()[form] for form in forms if form in _table()), ())
    _, _, last = words.rpartition(" ")
    return known or (classes_named(last) if last != words else ())


def plain(words: str) -> str:
    """Words as the table has them: in lower case, with a space for everything that is no letter or digit."""
    return re.sub(r"[\W_]+", " ", words).strip().lower()


def _singulars(word: str) -> tuple[str, ...]:
    ends = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("s", ""), ("es", ""))
    return tuple(word.removesuffix(end) + other for end, other in ends if word.endswith(end))


@functools.cache
def _table() -> dict[str, tuple[int, ...]]:
    lines = TABLE.read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if not line.startswith("#"))
    return {word: _indices(ranges) for word, ranges in pairs}


def _indices(ranges: str) -> tuple[int, ...]:
    bounds = [
        (int(first), int(last or first)) for first, _, last in (r.partition("-") for r in ranges.split())
    ]
    return tuple(index for first, last in bounds for index in range(first, last + 1))
