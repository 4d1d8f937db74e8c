import math

import pytest

from query2label.data.extents import Extent, box_extent, ellipse_extent, number, numbers, outline_extent
from query2label.data.samples import Box
from query2label.errors import DataError


def test_number__takes_numbers_and_text_only() -> None:
    assert number(3, "x") == 3.0
    assert number(" 2.5 ", "x") == 2.5
    for value in (None, "a", "nan", "inf", True, 1e13, 10**400, [1]):
        with pytest.raises(DataError, match=r"^x is .*: expected a number$"):
            number(value, "x")


def test_numbers__reads_as_number_does() -> None:
    assert numbers(["1", 2, 2.5], "x") == [1.0, 2.0, 2.5]
    assert numbers([], "x") == []
    for value in ("a", "nan", True, 1e13, 10**400):
        with pytest.raises(DataError, match=r"^x is .*: expected a number$"):
            numbers([1.0, value], "x")


def test_box_extent__a_turned_box_keeps_centre_and_area() -> None:
    assert box_extent(1.0, 2.0, 3.0, 4.0) == Extent(1.0, 2.0, 3.0, 4.0, 12.0)
    assert box_extent(1.0, 2.0, 3.0, 4.0, degrees=90.0) == pytest.approx((0.5, 2.5, 4, 3, 12))
    side = math.sqrt(2)
    turned = box_extent(0.0, 0.0, 1.0, 1.0, degrees=45.0)
    assert turned == pytest.approx((0.5 - side / 2, 0.5 - side / 2, side, side, 1))
    with pytest.raises(DataError, match="a box of -1 x 2 ends before it begins"):
        box_extent(0.0, 0.0, -1.0, 2.0)


def test_ellipse_extent__is_that_of_its_points() -> None:
    assert ellipse_extent(10.0, 20.0, 4.0, 2.0) == pytest.approx((6, 18, 8, 4, 8 * math.pi))
    turn = math.radians(30)
    angles = [step * math.pi / 5000 for step in range(10000)]
    xs = [4 * math.cos(a) * math.cos(turn) - 2 * math.sin(a) * math.sin(turn) for a in angles]
    ys = [4 * math.cos(a) * math.sin(turn) + 2 * math.sin(a) * math.cos(turn) for a in angles]
    assert ellipse_extent(0.0, 0.0, 4.0, 2.0, degrees=30.0) == pytest.approx(outline_extent(xs, ys), rel=1e-4)
    with pytest.raises(DataError, match="an ellipse has the radii 1 and -2"):
        ellipse_extent(0.0, 0.0, 1.0, -2.0)


def test_outline_extent__encloses_and_measures() -> None:
    # An L of three unit squares.
    extent = outline_extent([0.0, 2.0, 2.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    assert extent == Extent(0.0, 0.0, 2.0, 2.0, 3.0)
    assert extent.as_box(7) == Box(7, 0.0, 0.0, 2.0, 2.0, 3.0)
    for xs, ys in (([0.0, 1.0], [0.0, 1.0]), ([0.0, 1.0, 2.0], [0.0, 1.0])):
        with pytest.raises(DataError, match="expected three points or more"):
            outline_extent(xs, ys)
