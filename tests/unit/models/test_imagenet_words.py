import pytest
from timm.data import ImageNetInfo

from query2label.models.imagenet_words import classes_named

INFO = ImageNetInfo("imagenet-1k")


def first_names(label):
    """What timm calls the classes."""
    return [INFO.index_to_description(index).partition(",")[0] for index in classes_named(label)]


def test_classes_named__covers_what_timm_calls_each_class():
    names = [(index, name) for index in range(1000) for name in INFO.index_to_description(index).split(", ")]
    missed = [name for index, name in names if index not in classes_named(name)]

    assert len(names) == 1860
    assert len(missed) == 30
    # Words of several meanings, of which another one counts.
    assert {"crane", "plane", "screen", "horn", "panther"} <= set(missed)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("horse cart", ["horse cart"]),
        ("Sports_Car", ["sports car"]),
        ("sports-car", ["sports car"]),
        ("tie", ["bolo tie", "bow tie", "Windsor tie"]),
        ("bottles", ["beer bottle", "pill bottle", "pop bottle", "water bottle", "wine bottle"]),
        ("knives", ["cleaver", "letter opener"]),
        ("buses", ["minibus", "school bus", "trolleybus"]),
        ("lorries", []),
        ("berries", ["strawberry"]),
        ("hot dog", ["hotdog"]),
        ("wine glass", ["beer glass", "goblet"]),  # not together in the table, so the last word counts
        ("dress", ["gown"]),  # rather than what is called attire, or dress
        ("bike", ["bicycle-built-for-two", "mountain bike"]),  # of two senses, the one with more classes
        ("potted plant", ["daisy", "yellow lady's slipper"]),  # not works
        ("mouse", ["mouse"]),  # the computer's, since the animal is no class
        ("giraffe", []),
        ("L017", []),
        ("7", []),
        ("", []),
        ("_", []),
        ("狗", []),
    ],
)
def test_classes_named__by_label(label, expected):
    found = first_names(label)
    assert expected == [name for name in found if name in expected]
    assert bool(found) == bool(expected)


def test_classes_named__knows_what_classes_are_kinds_of():
    assert classes_named("dog") == tuple(range(151, 269))
    assert set(classes_named("bird")) == {*range(7, 25), *range(80, 101), *range(127, 147)}
    assert len(classes_named("animal")) == 398
    assert classes_named("artifact") == ()  # over 400 classes say nothing
