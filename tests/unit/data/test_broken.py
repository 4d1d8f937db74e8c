"""The ledger of broken images."""

import csv
from pathlib import Path

import pytest

from query2label.data.broken import BrokenImages
from query2label.errors import DataError


def test_broken_images__keeps_each_path_once_with_its_first_reason() -> None:
    broken = BrokenImages()
    broken.record(Path("b.jpg"), "It is empty.")
    broken.record("a.jpg", "It is a folder.")
    broken.record(Path("b.jpg"), "Something else.")
    assert len(broken) == 2
    assert list(broken.to_dict().items()) == [("a.jpg", "It is a folder."), ("b.jpg", "It is empty.")]


def test_broken_images__goes_through_a_plain_dict_and_merges() -> None:
    broken = BrokenImages({"a.jpg": "one"})
    again = BrokenImages(broken.to_dict())
    again.update({"a.jpg": "two", "b.jpg": "three"})
    assert again.to_dict() == {"a.jpg": "one", "b.jpg": "three"}
    assert broken.to_dict() == {"a.jpg": "one"}


def test_broken_images__check_lets_a_bounded_share_pass() -> None:
    broken = BrokenImages({f"{i}.jpg": "It is empty." for i in range(5)})
    broken.check(0.05, 100)
    with pytest.raises(
        DataError,
        match=r"^5 of 99 images are broken, more than the 5\.0% that data\.max_broken_fraction allows: "
        r"repair or remove them \(0\.jpg: It is empty\.; 1\.jpg: .*; 2\.jpg: It is empty\.; and 2 more\)\.$",
    ):
        broken.check(0.05, 99)
    with pytest.raises(DataError, match=r"1 of 10 images are broken.*\(x\.jpg: why\)"):
        BrokenImages({"x.jpg": "why"}).check(0.0, 10)
    BrokenImages().check(0.0, 10)


def test_broken_images__tells_those_of_some_images_whatever_bytes_are_in_their_names() -> None:
    odd = Path(b"/photos/\xff.jpg".decode("utf-8", "surrogateescape"))
    broken = BrokenImages({"other.jpg": "It is empty."})
    broken.record(odd, "It is a folder.")
    assert broken.reason(odd) == "It is a folder."
    assert broken.among([odd, Path("good.jpg")]).to_dict() == {"/photos/\\udcff.jpg": "It is a folder."}


def test_broken_images__is_written_as_a_table_without_formulas(tmp_path: Path) -> None:
    broken = BrokenImages({"=cmd.jpg": 'It says "no", twice.'})
    broken.record(b"/photos/\xff.jpg".decode("utf-8", "surrogateescape"), "It is empty.")
    broken.save_csv(tmp_path / "broken_images.csv")
    with (tmp_path / "broken_images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "reason"],
        ["/photos/\\udcff.jpg", "It is empty."],
        ["'=cmd.jpg", 'It says "no", twice.'],
    ]
