"""Files as CVAT writes them: https://docs.cvat.ai/docs/dataset_management/formats/format-xml/."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data import cvat
from query2label.data.load import load_dataset
from query2label.data.samples import Box, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]
MakeImage = Callable[..., Path]

META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id>
      <name>beach</name>
      <mode>annotation</mode>
      <labels>
        <label>
          <name>dog</name>
          <color>#c06060</color>
          <type>any</type>
          <attributes>
            <attribute><name>breed</name><mutable>False</mutable><values>a
b</values></attribute>
          </attributes>
        </label>
        <label><name>cat</name><type>tag</type><attributes></attributes></label>
        <label>
          <name>person</name><type>skeleton</type><attributes></attributes>
          <svg>&lt;line x1="1"&gt;</svg>
        </label>
        <label><name>head</name><type>points</type><attributes></attributes><parent>person</parent></label>
      </labels>
      <owner><username>admin</username><email></email></owner>
    </task>
    <dumped>2024-09-25 11:38:28.799808+03:00</dumped>
  </meta>
"""
LINE = META.count("\n")


def write(make_text: MakeText, images: str, *, meta: str = META, name: str = "annotations.xml") -> Path:
    return make_text(name, f"{meta}{images}</annotations>\n")


def image(name: str, *children: str, more: str = "") -> str:
    return f'<image id="0" name="{name}" {more} width="8" height="6">{"".join(children)}</image>\n'


TAG = '<tag label="cat" source="manual"><attribute name="breed">dog</attribute></tag>'
BOX = '<box label="dog" source="manual" occluded="0" xtl="1.5" ytl="2" xbr="4" ybr="5" z_order="0"></box>'


def test_read__tags_and_shapes_are_labels_in_the_order_of_the_task(
    make_text: MakeText, make_image: MakeImage, tmp_path: Path
) -> None:
    write(make_text, image("b.jpg", TAG) + image("deep/a.jpg", BOX, TAG, BOX) + image("c.jpg"))
    for name in ("b", "deep/a", "c"):
        make_image(f"images/{name}.jpg")
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.labels.names, dataset.splits()) == ("cvat", ("dog", "cat", "person"), ())
    assert [sample.path.relative_to(tmp_path).as_posix() for sample in dataset.samples] == [
        "images/b.jpg",
        "images/deep/a.jpg",
        "images/c.jpg",
    ]
    assert dataset.targets().tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    box = Box(0, 1.5, 2.0, 2.5, 3.0, 7.5)
    assert [sample.boxes for sample in dataset.samples] == [(), (box, box), ()]
    assert load_dataset(tmp_path / "annotations.xml").targets().tolist() == dataset.targets().tolist()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ('<box label="dog" xtl="0" ytl="0" xbr="4" ybr="2" rotation="90"/>', (1, -1, 2, 4, 8)),
        ('<polygon label="dog" points="0.00,0.00;4.00,0.00;0.00,4.00"/>', (0, 0, 4, 4, 8)),
        ('<ellipse label="dog" cx="5" cy="5" rx="2" ry="1"/>', (3, 4, 4, 2, 2 * math.pi)),
        ('<mask label="dog" rle="1, 2, 1, 2" left="3" top="1" width="3" height="2"/>', (3, 1, 3, 2, 4)),
        (
            '<cuboid label="dog" xtl1="1" ytl1="1" xbl1="1" ybl1="3" xtr1="4" ytr1="1" xbr1="4" ybr1="3" '
            'xtl2="5" ytl2="0" xbl2="5" ybl2="2" xtr2="2" ytr2="0" xbr2="2" ybr2="2"/>',
            (1, 0, 4, 3, 12),
        ),
        ('<polyline label="dog" points="0,0;4,4"/>', None),
        ('<points label="dog" points="3,3"/>', None),
        ('<skeleton label="dog"><points label="head" points="1,1"/></skeleton>', None),
    ],
)
def test_read__every_shape_means_that_the_label_is_there(
    make_text: MakeText, tmp_path: Path, shape: str, expected: tuple[float, ...] | None
) -> None:
    write(make_text, image("a.jpg", shape))
    dataset = cvat.read(tmp_path, check_files=False)
    assert dataset.problems == []
    assert dataset.samples[0].positive == (0,)
    boxes = [tuple(getattr(box, key) for key in KEYS) for box in dataset.samples[0].boxes]
    assert boxes == ([] if expected is None else [pytest.approx(expected)])


KEYS = ("left", "top", "width", "height", "area")


@pytest.mark.parametrize("place", ["images/Validation/a.jpg", "Validation/a.jpg", "images/a.jpg", "a.jpg"])
def test_read__subsets_of_a_project_are_splits(
    make_text: MakeText, make_image: MakeImage, tmp_path: Path, place: str
) -> None:
    meta = META.replace("<task>", "<project>").replace("</task>", "</project>")
    subset = 'subset="Validation" task_id="7"'
    make_image("images/b.jpg")
    found = make_image(place, grey=1)
    write(make_text, image("a.jpg", TAG, more=subset) + image("b.jpg", more='subset="default"'), meta=meta)
    dataset = cvat.read(tmp_path)
    assert dataset.problems == []
    assert [(sample.path, sample.split) for sample in dataset.samples] == [
        (found, "val"),
        (tmp_path / "images/b.jpg", None),
    ]


def test_read__labels_may_be_given_or_missing(make_text: MakeText, tmp_path: Path) -> None:
    write(make_text, image("a.jpg", TAG) + image("b.jpg", BOX))
    dataset = cvat.read(tmp_path, labels=LabelSet(["bird", "cat"]), check_files=False)
    assert dataset.targets().tolist() == [[-1, 1]]
    assert f"annotations.xml:{LINE + 2}: Unknown label 'dog'" in str(dataset.problems[0])
    write(make_text, image("a.jpg", TAG) + image("b.jpg", BOX), meta="<annotations>\n")
    dataset = cvat.read(tmp_path, check_files=False)
    assert (dataset.labels.names, dataset.targets().tolist()) == (("cat", "dog"), [[1, 0], [0, 1]])


def test_read__takes_images_elsewhere(make_text: MakeText, make_image: MakeImage, tmp_path: Path) -> None:
    path = write(make_text, image("a.jpg", TAG), name="data/job_1_annotations.xml")
    found = make_image("photos/a.jpg")
    assert cvat.looks_like(tmp_path / "data")
    assert [sample.path for sample in cvat.read(path, image_root=found.parent).samples] == [found]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (image("absent.jpg", TAG), "image 'absent.jpg' is missing in"),
        (image("../x.jpg", TAG), "image '.*x.jpg' leads out of"),
        (image("a.jpg", more='subset="../.."'), "leads out of"),
        (image("", TAG), "image name '' is empty"),
        (image("ok.jpg") + image("a.jpg") + image("a.jpg"), f"'a.jpg' stands already in line {LINE + 2}"),
        (image("a.jpg", "<tag/>"), "<tag> has no label"),
        (image("a.jpg", '<tag label="dgo"/>'), "Unknown label 'dgo'.*Did you mean 'dog'"),
        (image("a.jpg", BOX.replace('"4"', '"x"')), "xbr is 'x': expected a number"),
        (image("a.jpg", BOX.replace('"4"', '"1"')), "a box of -0.5 x 3 ends before it begins"),
        (image("a.jpg", '<polygon label="dog" points="1,2;3"/>'), "points are '1,2;3': expected"),
        (image("a.jpg", '<polygon label="dog" points="1,2;3,4"/>'), "an outline has 2 x and 2 y"),
        (image("a.jpg", '<cuboid label="dog" xtl1="1"/>'), "<cuboid> has 1 x and 0 y: expected 8"),
    ],
)
def test_read__collects_what_is_wrong_in_images(
    make_text: MakeText, make_image: MakeImage, tmp_path: Path, images: str, message: str
) -> None:
    for name in ("a.jpg", "ok.jpg"):
        make_image(f"data/images/{name}")
    write(make_text, images, name="data/annotations.xml")
    dataset = cvat.read(tmp_path / "data")
    last = LINE + images.count("\n")
    assert len(dataset.problems) == 1
    assert str(dataset.problems[0]).startswith(f"{tmp_path}/data/annotations.xml:{last}: ")
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "data")
    assert len(dataset) == images.count("\n") - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (META + '<track id="0" label="car"/></annotations>', r":\d+: has tracks \(CVAT for video\): export"),
        ("<annotations><version>2.0</version></annotations>", ":1: has the version '2.0': expected 1.1"),
        ("<annotation/>", ":1: is no CVAT file: it begins with <annotation>"),
        (META + image("a.jpg") + "</wrong>", rf":{LINE + 2}: is not valid XML: mismatched tag"),
        ("<!DOCTYPE x>\n<annotations></annotations>", ":1: declares a document type or entities"),
        (META.replace("cat<", "dog<") + "</annotations>", r":\d+: label 'dog' stands already in line 18"),
        (META.replace("cat<", "<") + "</annotations>", r":\d+: label name '' is empty"),
        ("<annotations></annotations>", "has no label in any image"),
        (
            "<annotations>\n" + image("a.jpg", '<tag label="d&#10;g"/>') + "</annotations>",
            r":2: label name .* has control characters",
        ),
    ],
)
def test_read__refuses_other_files(make_text: MakeText, text: str, message: str) -> None:
    path = make_text("annotations.xml", text)
    with pytest.raises(
        ProblemError, match=rf"annotations\.xml{message if message[0] == ':' else '.*' + message}"
    ):
        cvat.read(path, check_files=False)


def test_read__needs_one_file(make_text: MakeText, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no CVAT file: expected annotations.xml"):
        cvat.read(tmp_path)
    for name in ("one.xml", "two.xml"):
        write(make_text, image("a.jpg", TAG), name=name)
    with pytest.raises(DataError, match=r"several CVAT files in it \(one.xml, two.xml\): name the one"):
        cvat.read(tmp_path)
