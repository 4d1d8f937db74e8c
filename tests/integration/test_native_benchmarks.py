"""Benchmark data sets of others in their native form: checked and trained on by their path alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import LABELS, draw_shapes
from tests.integration.conftest import TINY_RUN
from typer.testing import CliRunner

from query2label.bundle import read_bundle
from query2label.cli.app import app

NUM_TRAIN, NUM_TEST = 16, 8
NUMBERS = {"train": range(NUM_TRAIN), "test": range(NUM_TRAIN, NUM_TRAIN + NUM_TEST)}


def labels_of(number: int) -> tuple[str, ...]:
    """The labels of an image: each combination, the empty one too."""
    return tuple(label for place, label in enumerate(LABELS) if number >> place & 1)


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_shapes(path, labels_of(number), seed=number)


def write(path: Path, lines: list[str], *, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def write_nuswide(folder: Path) -> None:
    write(folder / "ConceptsList" / "Concepts81.txt", sorted(LABELS))
    for split, numbers in NUMBERS.items():
        word = split.capitalize()
        names = [f"{LABELS[number % 3]}\\{number:04d}_21244{number}.jpg" for number in numbers]
        write(folder / "ImageList" / f"{word}Imagelist.txt", names, end="\r\n")
        for number, name in zip(numbers, names, strict=True):
            draw(folder / "Flickr" / name.replace("\\", "/"), number)
        for label in LABELS:
            marks = [str(int(label in labels_of(number))) for number in numbers]
            write(folder / "Groundtruth" / "TrainTestLabels" / f"Labels_{label}_{word}.txt", marks)


def write_nuswide_table(folder: Path) -> None:
    rows = ["filepath,label,split_name"]
    for split, numbers in NUMBERS.items():
        for number in numbers:
            draw(folder / "images" / f"{number:04d}_21244.jpg", number)
            name = "val" if split == "test" else split
            rows.append(f'images/{number:04d}_21244.jpg,"{list(labels_of(number))!r}",{name}')
    write(folder / "nus_wid_data.csv", rows)


def write_vg500(folder: Path) -> None:
    index = {}
    for split, numbers in NUMBERS.items():
        write(folder / f"{split}_list_500.txt", [f"{2_400_000 + number}.jpg" for number in numbers])
        for number in numbers:
            name = f"{2_400_000 + number}.jpg"
            draw(folder / ("VG_100K_2" if number % 3 else "VG_100K") / name, number)
            index[name] = [3 * LABELS.index(label) for label in labels_of(number)]
    (folder / "vg_category_500_labels_index.json").write_text(json.dumps(index))


def write_open_images(folder: Path) -> None:
    ids = [f"/m/0{place}" for place in range(len(LABELS))]
    names = [f"{each},{label.title()}" for each, label in zip(ids, LABELS, strict=True)]
    write(folder / "oidv6-class-descriptions.csv", ["LabelName,DisplayName", *names, "/m/09,Nowhere"])
    for split, numbers in NUMBERS.items():
        rows = ["ImageID,Source,LabelName,Confidence"]
        for number in numbers:
            name = f"{number:016x}"
            draw(folder / split / f"{name}.jpg", number)
            for place, (each, label) in enumerate(zip(ids, LABELS, strict=True)):
                if place != number % 5:  # the others nobody has judged
                    rows.append(f"{name},verification,{each},{int(label in labels_of(number))}")
        rows.append("ffffffffffffffff,verification,/m/09,1")
        prefix = "oidv6-" if split == "train" else ""
        write(folder / f"{prefix}{split}-annotations-human-imagelabels.csv", rows)


@pytest.mark.parametrize(
    ("write_data", "layout", "num_labels", "num_images"),
    [
        (write_nuswide, "nuswide", 3, {"train": NUM_TRAIN, "test": NUM_TEST}),
        (write_nuswide_table, "table", 3, {"train": NUM_TRAIN, "val": NUM_TEST}),
        (write_vg500, "vg500", 500, {"train": NUM_TRAIN, "test": NUM_TEST}),
        (write_open_images, "openimages", 3, {"train": NUM_TRAIN, "test": NUM_TEST}),
    ],
)
def test_native_form__is_checked_and_trained_on_by_its_path(
    write_data: Callable[[Path], None],
    layout: str,
    num_labels: int,
    num_images: dict[str, int],
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    write_data(data)
    result = CliRunner().invoke(app, ["data", "check", str(data), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["format"] == layout
    assert report["num_images"] == num_images
    assert len(report["labels"]) == num_labels
    assert report["errors"] == []
    settings = [part for setting in TINY_RUN for part in ("--set", setting)]
    run = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "--data", str(data), "--out", str(run), *settings])
    assert result.exit_code == 0, result.output
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    evaluated = json.loads((run / "evaluation" / "report.json").read_text())
    assert evaluated["num_images"] == NUM_TEST
    assert len(read_bundle(run / "best").labels) == num_labels
