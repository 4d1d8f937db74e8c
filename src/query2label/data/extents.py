"""Extents of outlined objects: the box around a turned box, an outline or an ellipse, and the area."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from query2label.data.samples import Box
from query2label.errors import DataError

_LARGEST: Final = 1e12


class Extent(NamedTuple):
    """Where an object is: left, top, width, height and area, in pixels of the image as displayed."""

    left: float
    top: float
    width: float
    height: float
    area: float

    def as_box(self, label: int) -> Box:
        """The box of an object with this output index."""
        return Box(label, *self)


def number(value: Any, what: str) -> float:
    """A finite number that was read from text or JSON.

    Raises:
        DataError: If it is none; the message begins with `what`.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not -_LARGEST < found < _LARGEST:  # false for NaN too
        raise DataError(f"{what} is {str(value)[:40]!r}: expected a number")
    return found


def numbers(values: Iterable[Any], what: str) -> list[float]:
    """Several finite numbers, as `number` reads them."""
    values = list(values)
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        found = [math.nan]
    # Outlines have many: one by one only where something is wrong.
    smallest, largest = min(found, default=0.0), max(found, default=0.0)
    is_bounded = smallest > -_LARGEST and largest < _LARGEST and not math.isnan(sum(found))
    is_sound = is_bounded and bool not in map(type, values)
    return found if is_sound else [number(value, what) for value in values]


def box_extent(left: float, top: float, width: float, height: float, *, degrees: float = 0.0) -> Extent:
    """The extent of a box that was turned clockwise by `degrees` about its centre; the area is its own.

    Raises:
        DataError: If its width or height is negative.
    """
    if width < 0 or height < 0:
        raise DataError(f"a box of {width:g} x {height:g} ends before it begins")
    turn = math.radians(degrees)
    cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
    outer_width, outer_height = width * cosine + height * sine, width * sine + height * cosine
    center_x, center_y = left + width / 2, top + height / 2
    if degrees == 0:
        return Extent(left, top, width, height, width * height)
    return Extent(
        center_x - outer_width / 2, center_y - outer_height / 2, outer_width, outer_height, width * height
    )


def ellipse_extent(
    center_x: float, center_y: float, radius_x: float, radius_y: float, *, degrees: float = 0.0
) -> Extent:
    """The extent of an ellipse that was turned by `degrees` about its centre.

    Raises:
        DataError: If a radius is negative.
    """
    if radius_x < 0 or radius_y < 0:
        raise DataError(f"an ellipse has the radii {radius_x:g} and {radius_y:g}")
    turn = math.radians(degrees)
    half_width = math.hypot(radius_x * math.cos(turn), radius_y * math.sin(turn))
    half_height = math.hypot(radius_x * math.sin(turn), radius_y * math.cos(turn))
    left, top = center_x - half_width, center_y - half_height
    return Extent(left, top, 2 * half_width, 2 * half_height, math.pi * radius_x * radius_y)


def outline_extent(xs: Sequence[float], ys: Sequence[float]) -> Extent:
    """The extent of a closed outline through the points; the area is what it encloses.

    Raises:
        DataError: If there are fewer than three points, or not as many xs as ys.
    """
    if len(xs) != len(ys) or len(xs) < 3:
        raise DataError(f"an outline has {len(xs)} x and {len(ys)} y: expected three points or more")
    # Each point with the one before it; before the first is the last, which closes the outline.
    before_xs, before_ys = [xs[-1], *xs[:-1]], [ys[-1], *ys[:-1]]
    twice = sum(map(operator.mul, before_xs, ys)) - sum(map(operator.mul, xs, before_ys))
    left, top = min(xs), min(ys)
    return Extent(left, top, max(xs) - left, max(ys) - top, abs(twice) / 2)
