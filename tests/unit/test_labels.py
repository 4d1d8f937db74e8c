"""Label names and their output indices."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.errors import DataError
from query2label.labels import LabelSet

names = st.text(min_size=1).filter(lambda name: name == name.strip())


@given(st.lists(names, min_size=1, unique=True))
def test_label_set__names_and_indices_are_inverse(wanted: list[str]) -> None:
    labels = LabelSet(wanted)
    assert [*labels] == wanted
    assert len(labels) == len(wanted)
    for index, name in enumerate(wanted):
        assert labels.index(name) == index
        assert labels[index] == name
        assert name in labels


def test_label_set__is_compared_by_names_in_order() -> None:
    assert LabelSet(["cat", "dog"]) == LabelSet(iter(("cat", "dog")))
    assert hash(LabelSet(["cat", "dog"])) == hash(LabelSet(["cat", "dog"]))
    assert LabelSet(["cat", "dog"]) != LabelSet(["dog", "cat"])
    assert LabelSet(["cat"]) != ("cat",)
    assert "bird" not in LabelSet(["cat"])
    assert 0 not in LabelSet(["cat"])
    assert repr(LabelSet(["cat", "dog"])) == "LabelSet(['cat', 'dog'])"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([], "There are no labels: at least one label name is needed."),
        (["cat", ""], "Label name '' is empty or has outer white space: write it without."),
        ([" cat"], "Label name ' cat' is empty or has outer white space: write it without."),
        (["cat\n"], r"Label name 'cat\n' is empty or has outer white space: write it without."),
        (
            ["cat", "dog", "bird", "dog", "cat"],
            "Label 'cat' occurs twice in the list of labels: names must be unique.",
        ),
    ],
)
def test_label_set__refuses_bad_names(wanted: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        LabelSet(wanted)


def test_index__offers_the_nearest_names() -> None:
    labels = LabelSet(["person", "bicycle", "car", "motorbike", "train", "bus"])
    wanted = (
        "Unknown label 'motorbikes': the 6 known labels begin with person, bicycle, car, motorbike, train. "
        "Did you mean 'motorbike'?"
    )
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        labels.index("motorbikes")
    with pytest.raises(DataError, match=r"^Unknown label 'xyz': the 6 known labels begin with .*, train\.$"):
        labels.index("xyz")
