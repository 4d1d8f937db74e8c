"""Files for the VOC server, against the form that its development kit documents."""

import re
from pathlib import Path

import numpy as np
import pytest

from query2label.errors import ConfigError, DataError
from query2label.inference.prediction import Prediction
from query2label.inference.voc_results import VocResults

LABELS = ("car", "tvmonitor")
MAIN = Path("results/VOC2012/Main")


def prediction(name: str, *scores: float) -> Prediction:
    exact = [float(np.float32(score)) for score in scores]
    return Prediction(scores=dict(zip(LABELS, exact, strict=True)), source=name)


SEVERAL = [
    prediction("JPEGImages/2008_000004.jpg", 0.702732, 1e-12),
    prediction("JPEGImages/2008_000006.jpg", 0.25, 0.99999994),
    prediction("elsewhere/2011_000001.png", 0.0, 1.0),
]


def test_voc_results__one_file_per_label_with_a_line_per_image(tmp_path: Path) -> None:
    results = VocResults(tmp_path / "out", LABELS)
    assert results.folder == tmp_path / "out" / MAIN
    assert results.write(iter(SEVERAL)) == 3
    files = {path.name: path.read_bytes() for path in results.folder.iterdir()}
    car = b"2008_000004 0.702732\n2008_000006 0.25\n2011_000001 0.0\n"
    monitor = b"2008_000004 0.000000000001\n2008_000006 0.99999994\n2011_000001 1.0\n"
    assert files == {"comp2_cls_test_car.txt": car, "comp2_cls_test_tvmonitor.txt": monitor}


def test_voc_results__names_carry_competition_and_split(tmp_path: Path) -> None:
    VocResults(tmp_path, LABELS, competition="comp1", split="val").write(SEVERAL)
    assert sorted(path.name for path in (tmp_path / MAIN).iterdir()) == [
        "comp1_cls_val_car.txt",
        "comp1_cls_val_tvmonitor.txt",
    ]


def test_voc_results__keep_the_order_of_all_scores_without_exponents(tmp_path: Path) -> None:
    scores = np.unique(np.exp(-np.random.default_rng(0).exponential(8, 500)).astype(np.float32))
    VocResults(tmp_path, LABELS).write(
        prediction(f"{number:06}.jpg", score, 1 - score) for number, score in enumerate(scores)
    )
    lines = (tmp_path / MAIN / "comp2_cls_test_car.txt").read_text().splitlines()
    assert all(re.fullmatch(r"\d{6} \d\.\d+", line) for line in lines)
    written = np.array([np.float32(line.split()[1]) for line in lines])
    assert written.tolist() == scores.tolist()
    assert scores.min() < 1e-15


def test_voc_results__an_unreadable_image_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = [*SEVERAL, Prediction(source="2008_000009.jpg", error="It is cut off.")]
    with pytest.raises(
        DataError,
        match=r"^2008_000009\.jpg cannot be read: It is cut off; the VOC server wants every image, so",
    ):
        VocResults(tmp_path / "out", LABELS).write(broken)
    assert not list(tmp_path.rglob("*.txt"))


def test_voc_results__replace_themselves_and_nothing_else(tmp_path: Path) -> None:
    VocResults(tmp_path, LABELS).write(SEVERAL)
    VocResults(tmp_path, LABELS).write(SEVERAL[:1])
    assert (tmp_path / MAIN / "comp2_cls_test_car.txt").read_text() == "2008_000004 0.702732\n"
    (tmp_path / MAIN / "comp4_det_test_car.txt").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"Main holds other results \(comp4_det_test_car\.txt\): name another"
    ):
        VocResults(tmp_path, LABELS)
    with pytest.raises(ConfigError, match="holds other results"):
        VocResults(tmp_path, ("car",))


def test_voc_results__refuse_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file: name a folder for the VOC results"):
        VocResults(tmp_path / "file", LABELS)
    with pytest.raises(
        ConfigError, match=r"'\.\./\.\./cat' cannot be part of a file's name, so there are no VOC"
    ):
        VocResults(tmp_path, ("car", "../../cat"))
    with pytest.raises(ConfigError, match="'a/b' cannot be part of a file's name"):
        VocResults(tmp_path, LABELS, split="a/b")


@pytest.mark.parametrize("name", ["two words.jpg", "line\nend.jpg", ""])
def test_voc_results__refuse_images_without_an_id(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"gives no VOC image id: name the file like 2008_000001\.jpg"):
        VocResults(tmp_path, LABELS).write([prediction(name, 0.1, 0.2)])


def test_voc_results__refuse_two_images_of_one_id(tmp_path: Path) -> None:
    twice = [SEVERAL[0], prediction("other/2008_000004.png", 0.1, 0.2)]
    with pytest.raises(
        DataError, match=r"have the VOC image id 2008_000004; the second is other/2008_000004\.png"
    ):
        VocResults(tmp_path, LABELS).write(twice)
