import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.data.samples import AllBut, Dataset, Sample
from query2label.labels import LabelSet


@given(st.integers(1, 30), st.data())
def test_all_but__is_the_other_labels(num_labels: int, data: st.DataObject) -> None:
    others = data.draw(st.lists(st.integers(0, num_labels - 1)))
    found = AllBut(num_labels, others)
    expected = tuple(sorted(set(range(num_labels)) - set(others)))
    assert tuple(found) == expected
    assert found == expected
    assert len(found) == len(expected)
    assert bool(found) == bool(expected)
    assert [index in found for index in range(-1, num_labels + 1)] == [
        index in expected for index in range(-1, num_labels + 1)
    ]
    assert hash(found) == hash(expected)
    assert pickle.loads(pickle.dumps(found)) == found


def test_all_but__has_places_as_a_tuple_has() -> None:
    found = AllBut(5, [1])
    assert (found[0], found[1], found[-1], found[1:3]) == (0, 2, 4, (2, 3))
    assert found != AllBut(5, [2])
    assert found != [0, 2, 3, 4]
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("unknown", [(0, 3), AllBut(5, [1, 2, 4])])
def test_write_targets__whatever_was_there(
    dtype: type[np.generic], unknown: tuple[int, ...] | AllBut
) -> None:
    row = np.full(5, 7, dtype=dtype)
    Sample(Path("a.jpg"), (2,), unknown).write_targets(row)
    assert row.tolist() == [-1, 0, 1, -1, 0]


def test_targets__are_those_of_each_sample() -> None:
    samples = [Sample(Path("a"), (1,)), Sample(Path("b"), (), (0,)), Sample(Path("c"), (0,), AllBut(3, [0]))]
    dataset = Dataset(LabelSet("xyz"), samples, Path(), "table")
    assert dataset.targets().tolist() == [[0, 1, 0], [-1, 0, 0], [1, -1, -1]]
    assert dataset.targets().dtype == np.int8


def test_run_data__digest_does_not_care_how_the_unknown_labels_are_kept() -> None:
    from query2label.training.run_data import RunData

    digests = set()
    for unknown in ((1, 2), AllBut(3, [0])):
        data = Dataset(LabelSet("xyz"), [Sample(Path("/a/b.jpg"), (0,), unknown)], Path("/a"), "table")
        digests.add(RunData(data, data).digest())
    assert len(digests) == 1
