import os
from pathlib import Path

import pytest

from query2label.data.image_root import ImageRoot, is_image_name, walk_files
from query2label.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.jpg").touch()
    (tmp_path / "data" / "photos").mkdir(parents=True)
    (tmp_path / "data" / "photos" / "a.jpg").touch()
    return tmp_path / "data"


@pytest.mark.parametrize(
    "name", ["photos/a.jpg", "./photos//a.jpg", "photos/../photos/a.jpg", "photos\\a.jpg"]
)
def test_locate__gives_the_path_below_the_folder(root: Path, name: str) -> None:
    assert ImageRoot(root).locate(name) == root / "photos" / "a.jpg"


def test_locate__accepts_an_absolute_name_inside(root: Path) -> None:
    assert ImageRoot(root).locate(str(root / "photos/a.jpg")) == root / "photos" / "a.jpg"


def test_find__gives_the_first_that_is_there(root: Path) -> None:
    images = ImageRoot(root)
    assert images.find(["a.jpg", "photos\\a.jpg", "photos/b.jpg"]) == root / "photos" / "a.jpg"
    assert images.find(["a.jpg", "absent/a.jpg"]) is None
    assert ImageRoot(root, check_files=False).find(["b.jpg", "photos/a.jpg"]) == root / "b.jpg"


def test_find__refuses_what_leads_out(root: Path) -> None:
    with pytest.raises(DataError, match=r"leads out of .*--images"):
        ImageRoot(root).find(["photos/../../secret.jpg"])
    (root / "photos" / "a.jpg").unlink()
    (root / "photos" / "a.jpg").symlink_to(root.parent / "secret.jpg")
    with pytest.raises(DataError, match="by a symbolic link, which is refused"):
        ImageRoot(root).find(["a.jpg", "photos/a.jpg"])


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "photos/../../secret.jpg", "/etc/passwd", "..", "C:\\secret.jpg", "..\\secret.jpg"],
)
@pytest.mark.parametrize("check_files", [True, False])
def test_locate__refuses_names_that_lead_out(root: Path, name: str, check_files: bool) -> None:
    with pytest.raises(DataError, match=r"leads out of .*--images"):
        ImageRoot(root, check_files=check_files).locate(name)


def test_locate__refuses_symbolic_links_that_lead_out(root: Path) -> None:
    (root / "photos" / "link.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "elsewhere").symlink_to(root.parent)
    images = ImageRoot(root)
    for name in ("photos/link.jpg", "elsewhere/secret.jpg"):
        with pytest.raises(DataError, match="symbolic link"):
            images.locate(name)
        assert not images.has(name)


def test_locate__follows_symbolic_links_that_stay_inside(root: Path) -> None:
    (root / "link.jpg").symlink_to(root / "photos" / "a.jpg")
    assert ImageRoot(root).locate("link.jpg") == root / "link.jpg"


def test_locate__takes_a_root_that_is_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    assert ImageRoot(tmp_path / "linked").locate("photos/a.jpg").is_file()


def test_locate__names_what_is_missing(root: Path) -> None:
    with pytest.raises(DataError, match=r"image 'photos/b.jpg' is missing in .*data$"):
        ImageRoot(root).locate("photos/b.jpg")
    with pytest.raises(DataError, match=r"is missing: there is no folder .*/pics$"):
        ImageRoot(root).locate("pics/a.jpg")
    assert ImageRoot(root, check_files=False).locate("pics/a.jpg") == root / "pics" / "a.jpg"


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "is empty"), ("  ", "is empty"), ("a\0.jpg", "NUL"), ("\ud800.jpg", "no file name can have")],
)
def test_locate__refuses_unfit_names(root: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageRoot(root).locate(name)


def test_locate__refuses_a_folder_and_an_overlong_name(root: Path) -> None:
    for name in ("photos", "x" * 5000 + ".jpg", "x" * 5000 + "/y.jpg"):
        with pytest.raises(DataError, match="is missing"):
            ImageRoot(root).locate(name)


def test_locate__lists_each_folder_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: calls.append(path) or scandir(path))
    images = ImageRoot(root)
    for _ in range(5):
        images.locate("photos/a.jpg")
    assert len(calls) == 1


def test_is_image_name__goes_by_the_ending() -> None:
    assert is_image_name("A.JPG")
    assert not is_image_name("a.txt")
    assert not is_image_name(".hidden.jpg")


def test_walk_files__is_sorted_and_leaves_hidden_parts_out(root: Path) -> None:
    (root / ".cache").mkdir()
    (root / ".cache" / "x.jpg").touch()
    (root / "photos" / ".x.jpg").touch()
    (root / "b.jpg").touch()
    assert list(walk_files(root)) == [(root, ["b.jpg"]), (root / "photos", ["a.jpg"])]
