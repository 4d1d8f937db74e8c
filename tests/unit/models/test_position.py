import math

import pytest
import torch

from query2label.errors import ConfigError
from query2label.models.position import check_position_dim, sine_position_encoding


def by_hand(height: int, width: int, dim: int) -> torch.Tensor:
    result = torch.empty(height, width, dim, dtype=torch.float64)
    half = dim // 2
    for row in range(height):
        for column in range(width):
            for channel in range(dim):
                of_y = channel < half
                place = (row + 1) / (height + 1e-6) if of_y else (column + 1) / (width + 1e-6)
                pair = (channel % half) // 2
                phase = place * 2 * math.pi / 10_000 ** (2 * pair / half)
                wave = math.sin if channel % 2 == 0 else math.cos
                result[row, column, channel] = wave(phase)
    return result.reshape(1, height * width, dim)


@pytest.mark.parametrize(("height", "width", "dim"), [(3, 5, 8), (1, 1, 4), (4, 2, 20)])
def test_sine_position_encoding__equals_a_loop_over_the_formula(height: int, width: int, dim: int) -> None:
    encoding = sine_position_encoding(height, width, dim)

    assert encoding.dtype == torch.float32
    torch.testing.assert_close(encoding.double(), by_hand(height, width, dim), rtol=0, atol=2e-6)


def test_sine_position_encoding__tells_rows_in_the_first_half_and_columns_in_the_second() -> None:
    grid = sine_position_encoding(3, 5, 8).reshape(3, 5, 8)

    assert torch.equal(grid[:, :1, :4].expand(3, 5, 4), grid[..., :4])
    assert torch.equal(grid[:1, :, 4:].expand(3, 5, 4), grid[..., 4:])


def test_check_position_dim__refuses_what_two_axes_cannot_share() -> None:
    check_position_dim(8)
    with pytest.raises(ConfigError, match=r"Hidden width 10 is not a multiple of 4.*for example to 8\."):
        check_position_dim(10)
