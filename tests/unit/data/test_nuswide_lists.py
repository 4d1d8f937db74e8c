from collections.abc import Callable
from pathlib import Path

import pytest

from query2label import load_dataset
from query2label.data.nuswide_lists import CONCEPTS
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]


def line(name: str, *concepts: str, separator: str = " ") -> str:
    return separator.join([name, *("1" if concept in concepts else "0" for concept in CONCEPTS)]) + "\n"


@pytest.fixture
def nus(make_text: MakeText) -> Path:
    make_text(
        "nus/train.txt", line("images/0001_1.jpg", "sky", "airport") + line("images/0002_2.jpg", "zebra")
    )
    return make_text("nus/test.txt", line("images/0003_3.jpg")).parent


def test_concepts__are_the_81_in_alphabetical_order() -> None:
    assert len(CONCEPTS) == 81
    assert list(CONCEPTS) == sorted(CONCEPTS)


def test_read__lists_with_81_columns(nus: Path) -> None:
    dataset = load_dataset(nus, check_files=False)
    assert (dataset.format, dataset.labels) == ("nuswide", CONCEPTS)
    assert [[dataset.labels[k] for k in sample.positive] for sample in dataset.samples] == [
        ["airport", "sky"],
        ["zebra"],
        [],
    ]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "test"]
    assert (dataset.problems, dataset.notes) == ([], [])


@pytest.mark.parametrize("where", ["images/0001_1.jpg", "Flickr/0001_1.jpg", "0001_1.jpg"])
def test_read__images_that_are_not_there_are_noted(nus: Path, make_text: MakeText, where: str) -> None:
    make_text(f"nus/{where}", "")
    dataset = load_dataset(nus)
    assert [sample.path for sample in dataset.samples] == [nus / where]
    assert dataset.notes == [
        "Images of train that are not on disk, left out: 1 of 2.",
        "Images of test that are not on disk, left out: 1 of 1.",
    ]


def test_read__commas_and_wanted_labels(nus: Path, make_text: MakeText) -> None:
    make_text("nus/train.txt", line("a b.jpg", "zebra", separator=","))
    dataset = load_dataset(nus, check_files=False, labels=LabelSet(["none", *reversed(CONCEPTS.names)]))
    assert dataset.samples[0].path == nus / "Flickr" / "a b.jpg"
    assert (dataset.samples[0].positive, dataset.samples[0].unknown) == ((1,), (0,))
    assert dataset.problems == []


def test_read__order_of_the_columns_is_that_of_the_concept_file(nus: Path, make_text: MakeText) -> None:
    make_text("nus/Concepts81.txt", "\n".join(reversed(CONCEPTS.names)))
    dataset = load_dataset(nus, check_files=False)
    assert [dataset.labels[k] for k in dataset.samples[1].positive] == ["airport"]
    make_text("nus/Concepts81.txt", "sky\nsea\n")
    with pytest.raises(DataError, match=r"Concepts81.txt: names 2 concepts, but the lists have 81 columns"):
        load_dataset(nus, check_files=False)


@pytest.mark.parametrize("wrong", ["b.jpg 1 0\n", line("b.jpg").replace("0\n", "2\n"), line("b.jpg 1"), "\n"])
def test_read__lines_of_another_form_are_one_problem(nus: Path, make_text: MakeText, wrong: str) -> None:
    make_text("nus/train.txt", line("a.jpg", "sky") + wrong + wrong + line("c.jpg"))
    dataset = load_dataset(nus, check_files=False, on_problem="keep")
    assert [sample.path.name for sample in dataset.samples] == ["a.jpg", "c.jpg", "0003_3.jpg"]
    (problem,) = dataset.problems
    assert str(problem) == (
        f"{nus / 'train.txt'}:2: expected an image and 81 columns of 0 and 1 (as in 1 more lines)"
    )


def test_find__other_lists_are_not_taken_for_it(make_text: MakeText) -> None:
    make_text("other/train.txt", "a.jpg 0 1 0\n")
    with pytest.raises(DataError, match="has no NUS-WIDE data"):
        load_dataset(make_text("other/test.txt", "").parent, format="nuswide")
