import os
from pathlib import Path

import pytest

from query2label.errors import DataError
from query2label.inference.inputs import each_input, expand_inputs, images_in


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_expand_inputs__files_folders_and_patterns_in_the_given_order(photos: Path) -> None:
    found = expand_inputs([str(photos / "sub"), str(photos / "*.png"), str(photos / "notes.txt")])
    assert names(found, photos) == ["sub/teal.png", "red.png", "notes.txt"]
    assert names(expand_inputs([str(photos / "**/*.png")]), photos) == ["red.png", "sub/teal.png"]
    assert names(list(images_in(photos)), photos) == ["broken.jpg", "red.png", "sub/teal.png"]


def test_expand_inputs__a_list_is_relative_to_its_own_folder(photos: Path) -> None:
    (photos / "list.txt").write_text(f"red.png\n\n  sub/teal.png  \n{photos / 'broken.jpg'}\n")
    found = expand_inputs([f"@{photos / 'list.txt'}"])
    assert names(found, photos) == ["red.png", "sub/teal.png", "broken.jpg"]


def test_expand_inputs__a_name_with_pattern_characters_is_a_name_first(photos: Path) -> None:
    (photos / "a[1].png").write_bytes(b"x")
    assert names(expand_inputs([str(photos / "a[1].png")]), photos) == ["a[1].png"]


def test_expand_inputs__links_to_folders_are_not_followed_in_circles(photos: Path) -> None:
    (photos / "sub" / "up").symlink_to(photos)
    assert names(list(images_in(photos)), photos) == ["broken.jpg", "red.png", "sub/teal.png"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nowhere.jpg", r"There is no file or folder .*nowhere\.jpg"),
        ("*.bmp", r"No file matches .*\*\.bmp"),
        ("empty", r"There are no images in .*empty \(looked for \.arrow, \.avif"),
    ],
)
def test_expand_inputs__says_what_is_not_there(photos: Path, argument: str, message: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        expand_inputs([str(photos / argument)])


def test_expand_inputs__says_what_is_wrong_with_a_list(photos: Path) -> None:
    (photos / "list.txt").write_text("red.png\nnowhere.png\n")
    with pytest.raises(DataError, match=r"list\.txt:2: there is no file nowhere\.png"):
        expand_inputs([f"@{photos / 'list.txt'}"])
    (photos / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8 text with one path per line"):
        expand_inputs([f"@{photos / 'list.txt'}"])
    with pytest.raises(DataError, match=r"Cannot read the list .*gone\.txt: No such file"):
        expand_inputs([f"@{photos / 'gone.txt'}"])
    (photos / "list.txt").write_text("\n")
    with pytest.raises(DataError, match="There is nothing to predict"):
        expand_inputs([f"@{photos / 'list.txt'}"])


def test_images_in__finds_names_that_are_not_utf8(photos: Path) -> None:
    (photos / os.fsdecode(b"\xe9.png")).write_bytes(b"x")
    assert len(list(images_in(photos))) == 4


def test_images_in__gives_paths_in_order_of_their_parts(tmp_path: Path) -> None:
    for name in ("b.png", "b/z.png", "b/a/x.png", "b-1/y.png", "a.jpg", "B.png", "b/a.png", "b.d/k.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = list(images_in(tmp_path))
    assert len(found) == 8
    assert found == sorted(found)
    assert expand_inputs([str(tmp_path / "**" / "*.png")]) == [
        path for path in found if path.suffix == ".png"
    ]


def test_images_in__says_which_folder_cannot_be_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"The folder .*/sub cannot be read: Permission denied\."):
        list(images_in(photos))


def test_each_input__looks_as_far_as_it_is_asked(photos: Path) -> None:
    (photos / "list.txt").write_text("red.png\nnowhere.png\n")
    found = each_input([f"@{photos / 'list.txt'}"])
    assert next(found) == photos / "red.png"
    with pytest.raises(DataError, match="there is no file nowhere"):
        next(found)
