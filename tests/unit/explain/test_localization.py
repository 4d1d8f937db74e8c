import numpy as np
import pytest

from query2label.data.samples import Box
from query2label.explain.localization import energy_inside, inside_boxes, pointing_game


def box(left: float, top: float, width: float, height: float) -> Box:
    return Box(0, *map(float, (left, top, width, height, width * height)))


def test_inside_boxes__is_every_pixel_whose_centre_a_box_covers() -> None:
    inside = inside_boxes([box(1, 2, 3, 1), box(3, 0, 1, 10)], (4, 6))
    expected = np.zeros((4, 6), dtype=bool)
    expected[2, 1:4] = True
    expected[:, 3] = True
    np.testing.assert_array_equal(inside, expected)
    assert not inside_boxes([], (2, 2)).any()
    assert inside_boxes([box(0.6, 0, 0.8, 1)], (1, 2)).tolist() == [[False, False]]


def test_pointing_game__looks_at_the_highest_place() -> None:
    inside = inside_boxes([box(0, 0, 2, 2)], (4, 4))
    heat = np.zeros((4, 4))
    heat[1, 1], heat[3, 3] = 0.9, 0.8
    assert pointing_game(heat, inside) == 1
    heat[3, 3] = 1.0
    assert pointing_game(heat, inside) == 0
    heat[1, 1] = 1.0
    assert pointing_game(heat, inside) == 0.5
    assert pointing_game(np.ones((4, 4)), inside) == 0.25


def test_energy_inside__is_a_share_of_the_sum() -> None:
    inside = inside_boxes([box(0, 0, 2, 4)], (4, 4))
    heat = np.full((4, 4), 0.5)
    assert energy_inside(heat, inside) == 0.5
    heat[:, 0] = 1.5
    assert energy_inside(heat, inside) == pytest.approx(8 / 12)
    assert energy_inside(np.zeros((4, 4)), inside) == 0
