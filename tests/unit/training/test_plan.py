import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.training.plan import epoch_batches, micro_batches, num_batches, rank_share, smallest_batch


@given(num_images=st.integers(1, 200), batch_size=st.integers(1, 40), world_size=st.integers(1, 4))
def test_epoch_batches__every_image_once_in_even_batches(num_images, batch_size, world_size):
    batches = epoch_batches(num_images, batch_size=batch_size, seed=3, epoch=1)
    sizes = [len(batch) for batch in batches]
    assert len(batches) == num_batches(num_images, batch_size=batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) == smallest_batch(num_images, batch_size=batch_size)
    shares = [
        rank_share(batch, rank=r, world_size=world_size) for batch in batches for r in range(world_size)
    ]
    assert sorted(np.concatenate(shares)) == list(range(num_images))


def test_epoch_batches__depend_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(epoch_batches(50, batch_size=8, seed=seed, epoch=epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize(
    ("size", "accumulate", "expected"),
    [(8, 1, [8]), (8, 2, [4, 4]), (7, 3, [2, 2, 3]), (2, 4, [1, 1]), (1, 1, [1])],
)
def test_micro_batches__cover_the_share_with_non_empty_parts(size, accumulate, expected):
    parts = micro_batches(size, accumulate=accumulate)
    assert [part.stop - part.start for part in parts] == expected
    assert [i for part in parts for i in range(size)[part]] == list(range(size))
