from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data.image_root import ImageRoot
from query2label.data.listed_images import (
    ListedImage,
    find_images,
    folder_prefixes,
    notes_on_absent,
    outputs_of,
    problems_of_absent,
    read_lines,
    read_list,
)
from query2label.data.samples import Problem
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n \n", []),
        ("a.jpg\nb.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg\r\nb.jpg\r\n\r\n", ["a.jpg", "b.jpg"]),
        (" a b.jpg\t\n\nc.jpg \n", ["a b.jpg", "", "c.jpg"]),
    ],
)
def test_read_lines__keeps_their_order_and_number(
    make_text: MakeText, tmp_path: Path, text: str, lines: list[str]
) -> None:
    assert read_lines(make_text("list.txt", text), inside=tmp_path) == lines


def test_read_list__refuses_a_list_from_elsewhere(make_text: MakeText, tmp_path: Path) -> None:
    make_text("outside.txt", "secret.jpg\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "list.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(DataError, match=r"leads out of .*data by a symbolic link"):
        read_list(tmp_path / "data" / "list.txt", "train", inside=tmp_path / "data")


@pytest.fixture
def images(make_text: MakeText, tmp_path: Path) -> list[ListedImage]:
    for name in ("one/a.jpg", "two/b.jpg", "d.jpg"):
        make_text(name, "")
    return read_list(make_text("list.txt", "a.jpg\nb.jpg\nc.jpg\nd.jpg\n"), "train", inside=tmp_path)


def places(name: str) -> list[str]:
    return [f"one/{name}", f"two/{name}", name]


def test_find_images__looks_in_all_places(images: list[ListedImage], tmp_path: Path) -> None:
    problems: list[Problem] = []
    found = find_images(ImageRoot(tmp_path), images, places, problems)
    assert found.paths == [
        tmp_path / "one" / "a.jpg",
        tmp_path / "two" / "b.jpg",
        None,
        tmp_path / "d.jpg",
    ]
    assert found.absent == [images[2]]
    assert problems == []
    assert notes_on_absent(found.absent, images) == [
        "Images of train that are not on disk, left out: 1 of 4."
    ]
    assert [str(problem) for problem in problems_of_absent(found.absent, tmp_path)] == [
        f"{tmp_path}/list.txt:3: image 'c.jpg' is missing in {tmp_path}"
    ]


def test_find_images__without_the_files(images: list[ListedImage], tmp_path: Path) -> None:
    found = find_images(ImageRoot(tmp_path, check_files=False), images, places, [])
    assert found.paths == [tmp_path / "one" / f"{name}.jpg" for name in "abcd"]
    assert found.absent == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", r"list.txt:5: image 'a.jpg' stands already in list.txt:1"),
        ("../one/a.jpg", r"list.txt:5: image '../one/a.jpg' stands already in list.txt:1"),
        ("", r"list.txt:5: this line names no image"),
        ("../../a.jpg", r"list.txt:5: image 'one/../../a.jpg' leads out of"),
    ],
)
def test_find_images__collects_what_is_wrong(
    images: list[ListedImage], tmp_path: Path, name: str, message: str
) -> None:
    problems: list[Problem] = []
    images.append(ListedImage(name, "train", tmp_path / "list.txt", 5))
    found = find_images(ImageRoot(tmp_path), images, places, problems)
    assert found.paths[4] is None
    assert len(found.absent) == 1
    assert len(problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(problems[0]))


def test_find_images__refuses_where_there_is_none(tmp_path: Path) -> None:
    images = [ListedImage(name, "train", tmp_path / "list.txt", line) for line, name in enumerate("ab", 1)]
    with pytest.raises(
        DataError, match=r"has none of the 2 images .*: looked for one/a, two/a, a and so on; .*--images"
    ):
        find_images(ImageRoot(tmp_path), images, places, [])
    assert find_images(ImageRoot(tmp_path), [], places, []).paths == []


def test_find_images__refuses_a_folder_from_elsewhere_in_one_sentence(
    make_text: MakeText, tmp_path: Path
) -> None:
    for name in ("outside/a.jpg", "outside/b.jpg", "data/list.txt"):
        make_text(name, "")
    (tmp_path / "data" / "one").symlink_to(tmp_path / "outside")
    images = [
        ListedImage(f"{name}.jpg", "train", tmp_path / "list.txt", line) for line, name in enumerate("ab", 1)
    ]
    with pytest.raises(
        DataError, match=r"None of the 2 images .* can be used; .*list.txt:1: .* by a symbolic link.*--images"
    ):
        find_images(ImageRoot(tmp_path / "data"), images, places, [])


def test_folder_prefixes__are_those_of_the_folders_that_are_there(
    images: list[ListedImage], tmp_path: Path
) -> None:
    assert folder_prefixes(ImageRoot(tmp_path), ("zero", "one", "two")) == ["one/", "two/", ""]
    assert folder_prefixes(ImageRoot(tmp_path), ("zero", "three")) == ["zero/", "three/", ""]


def test_outputs_of__says_which_labels_are_not_wanted(tmp_path: Path) -> None:
    problems: list[Problem] = []
    assert outputs_of(["ant", "bee", "cat"], LabelSet(["cat", "ant"]), tmp_path, problems) == {
        1: "ant",
        0: "cat",
    }
    assert [problem.message.partition(":")[0] for problem in problems] == ["Unknown label 'bee'"]
