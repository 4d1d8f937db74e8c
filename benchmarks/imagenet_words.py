"""Rebuilds the table of words that `model.start_from_names` looks labels up in, from WordNet 3.0.

    python -m benchmarks.imagenet_words --wordnet /usr/share/wordnet        # Debian's package wordnet-base

The classes of ImageNet-1k are nouns of WordNet. The table has, for each word for such a noun or for a kind
above it ("dog", "vehicle"), the classes below. Of a word's two most frequent senses it takes the one that
has classes; where both have some, the one that is called by this word first of all (a dress, not attire),
then one that is a class itself, then the one with more classes (a bike is a bicycle, not a moped). Of later
senses it takes one that is a class itself. Words for more than 400 classes say nothing about an image and
are left out.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from timm.data import ImageNetInfo

from query2label.models.imagenet_words import TABLE, plain

MOST_CLASSES = 400
HEADER = """\
# Words and the classes of ImageNet-1k that they cover, as ranges of class indices; made by
# benchmarks/imagenet_words.py from WordNet.
#
# This software and database is being provided to you, the LICENSEE, by Princeton University under the
# following license. By obtaining, using and/or copying this software and database, you agree that you have
# read, understood, and will comply with these terms and conditions.:
#
# Permission to use, copy, modify and distribute this software and database and its documentation for any
# purpose and without fee or royalty is hereby granted, provided that you agree to comply with the following
# copyright notice and statements, including the disclaimer, and that the same appear on ALL copies of the
# software, database and documentation, including modifications that you make for internal use or for
# distribution.
#
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
#
# THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR
# WARRANTIES, EXPRESS OR IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO
# REPRESENTATIONS OR WARRANTIES OF MERCHANTABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF
# THE LICENSED SOFTWARE, DATABASE OR DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS,
# TRADEMARKS OR OTHER RIGHTS.
#
# The name of Princeton University or Princeton may not be used in advertising or publicity pertaining to
# distribution of the software and/or database. Title to copyright in this software, database and any
# associated documentation shall at all times remain with Princeton University and LICENSEE agrees to preserve
# same.
"""


def entries(path: Path) -> Iterator[list[str]]:
    """The fields of each line of a file of WordNet, without its licence and the explanations of words."""
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("  "):
            yield line.partition("|")[0].split()


def kinds_above(path: Path) -> dict[str, list[str]]:
    """Of each meaning of a noun (by its offset in the file), what it is a kind or an instance of."""
    above = {}
    for fields in entries(path):
        start = 4 + 2 * int(fields[3], 16)  # after the words, each with a number
        pointers = zip(*[iter(fields[start + 1 :])] * 4, strict=False)
        above[fields[0]] = [target for symbol, target, *_ in pointers if symbol in {"@", "@i"}]
    return above


def first_words(path: Path) -> dict[str, str]:
    """The word that each meaning of a noun is called by first of all."""
    return {fields[0]: fields[4].lower() for fields in entries(path)}


def classes_below(meanings: Iterable[str], above: Mapping[str, list[str]]) -> dict[str, set[int]]:
    """Of each meaning, the classes (by their index in `meanings`) that are of its kind."""
    below: dict[str, set[int]] = defaultdict(set)
    for index, meaning in enumerate(meanings):
        to_visit = [meaning]
        while to_visit:
            visited = to_visit.pop()
            below[visited].add(index)
            to_visit += above[visited]
    return below


def ranges(indices: Iterable[int]) -> str:
    """For example `3 7-9`."""
    runs = [
        [index for _, index in run]
        for _, run in groupby(enumerate(sorted(indices)), lambda pair: pair[1] - pair[0])
    ]
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def main() -> None:
    """Writes the table into the package."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    wordnet = parser.parse_args().wordnet

    info = ImageNetInfo("imagenet-1k")
    classes = [info.index_to_label_name(index).removeprefix("n") for index in range(info.num_classes())]
    below = classes_below(classes, kinds_above(wordnet / "data.noun"))
    first = first_words(wordnet / "data.noun")
    table: dict[str, str] = {}
    for word, _, count, *rest in entries(wordnet / "index.noun"):
        meanings = rest[-int(count) :]
        usual = [meaning for meaning in meanings[:2] if meaning in below]
        usual.sort(key=lambda m: (first[m] == word, m in classes, len(below[m])), reverse=True)
        found = usual or [meaning for meaning in meanings if meaning in classes]
        if found and len(below[found[0]]) <= MOST_CLASSES:
            table.setdefault(plain(word), ranges(below[found[0]]))
    lines = [f"{word}\t{classes}\n" for word, classes in sorted(table.items())]
    TABLE.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"{len(lines)} words in {TABLE}")


if __name__ == "__main__":
    main()
