"""MS-COCO and PASCAL VOC in the form in which they are downloaded: check, train, predict by path alone."""

import json
import random
from pathlib import Path

import pytest
from PIL import Image
from tests.integration.conftest import TINY_RUN
from typer.testing import CliRunner

from query2label.bundle import read_bundle
from query2label.cli.app import app

LABELS = ("circle", "square", "triangle")
CATEGORY_IDS = dict(zip(LABELS, (1, 17, 90), strict=True))


def q2l(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def some_labels(seed):
    return tuple(label for label in LABELS if random.Random(seed).random() < 0.5) or (LABELS[seed % 3],)


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (40, 40), (90 + seed % 60,) * 3)
    for label in some_labels(seed):  # a stripe in the label's place and colour
        place = LABELS.index(label)
        colour = tuple(220 if channel == place else 40 for channel in range(3))
        image.paste(colour, (2, 13 * place, 38, 13 * place + 12))
    image.save(path)


def write_coco(folder, year, *, num_train=16, num_val=10, images=""):
    """One year's downloads: the image folders, and the archive of annotations for several tasks."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, numbers in {"train": range(num_train), "val": range(num_train, num_train + num_val)}.items():
        name = f"{split}{year}"
        pattern = f"COCO_{name}_{{:012d}}.jpg" if year == 2014 else "{:012d}.jpg"
        listed, annotations = [], []
        for number in numbers:
            file = pattern.format(9 + number)
            write_image(folder / images / name / file, number + year)
            listed.append(
                {
                    "license": 5,
                    "file_name": file,
                    "coco_url": f"http://images.cocodataset.org/{name}/{file}",
                    "height": 40,
                    "width": 40,
                    "date_captured": "2013-11-14 16:28:13",
                    "flickr_url": "http://localhost/z.jpg",
                    "id": 9 + number,
                }
            )
            # The last image has no annotation: it is one of the images that "labelled only" leaves out.
            for label in some_labels(number + year) if number != numbers[-1] else ():
                annotations.append(
                    {
                        "segmentation": [[1.0, 1.5, 12.25, 1.5, 12.25, 14.0, 1.0, 14.0]],
                        "area": 140.625,
                        "iscrowd": 0,
                        "image_id": 9 + number,
                        "bbox": [1.0, 1.5, 11.25, 12.5],
                        "category_id": CATEGORY_IDS[label],
                        "id": 1768 + len(annotations),
                    }
                )
        runs = {"counts": [272, 2, 4, 1322], "size": [40, 40]}
        annotations[0] |= {"segmentation": runs, "iscrowd": 1}
        categories = [{"supercategory": "s", "id": k, "name": name} for name, k in CATEGORY_IDS.items()]
        parts = {
            "info": {"description": f"COCO {year} Dataset", "version": "1.0", "year": year},
            "images": listed,
            "licenses": [{"url": "http://localhost/", "id": 5, "name": "Attribution"}],
            "annotations": annotations,
        }
        target = folder / "annotations"
        (target / f"instances_{name}.json").write_text(json.dumps({**parts, "categories": categories}))
        captions = [{"image_id": 9, "id": 1, "caption": "A circle."}]
        (target / f"captions_{name}.json").write_text(json.dumps({**parts, "annotations": captions}))
        person = [{"supercategory": "person", "id": 1, "name": "person", "keypoints": ["nose"]}]
        (target / f"person_keypoints_{name}.json").write_text(
            json.dumps({**parts, "annotations": [], "categories": person})
        )
    without = {"info": parts["info"], "images": listed, "licenses": [], "categories": categories}
    (folder / "annotations" / f"image_info_test{year}.json").write_text(json.dumps(without))
    return folder


def write_voc(folder, year, *, with_test):
    """One year's VOCdevkit folder; 2012's test images come without labels."""
    base = folder / f"VOC{year}"
    ids = {"train": range(16), "val": range(16, 26), "test": range(26, 34)}
    name = "{:06d}" if year == 2007 else f"{year}_{{:06d}}"
    (base / "ImageSets" / "Main").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation").mkdir()
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text(name.format(3) + "\n")
    (base / "Annotations").mkdir()
    for split in ("train", "val", "trainval", "test"):
        numbers = range(26) if split == "trainval" else ids[split]
        lists = base / "ImageSets" / "Main"
        end = "\r\n" if year == 2007 else "\n"
        (lists / f"{split}.txt").write_text("".join(name.format(n) + end for n in numbers), newline="")
        for label in LABELS if split != "test" or with_test else ():
            # The first label of every fifth image is difficult.
            marks = {n: _mark(label, n) for n in numbers}
            text = "".join(f"{name.format(n)} {mark:2d}{end}" for n, mark in marks.items())
            (lists / f"{label}_{split}.txt").write_text(text, newline="")
    for number in range(34):
        write_image(base / "JPEGImages" / f"{name.format(number)}.jpg", number)
        if number < 26 or with_test:
            objects = "".join(_object(label, _mark(label, number) == 0) for label in some_labels(number))
            text = f"<annotation>\n\t<folder>VOC{year}</folder>\n{objects}</annotation>\n"
            (base / "Annotations" / f"{name.format(number)}.xml").write_text(text)
    return base


def _mark(label, number):
    labels = some_labels(number)
    if label not in labels:
        return -1
    return 0 if number % 5 == 0 and label == labels[0] else 1


def _object(label, is_difficult):
    box = "<xmin>2</xmin><ymin>3</ymin><xmax>30</xmax><ymax>29</ymax>"
    return (
        f"\t<object>\n\t\t<name>{label}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
        f"\t\t<difficult>{int(is_difficult)}</difficult>\n\t\t<bndbox>{box}</bndbox>\n\t</object>\n"
    )


LAYOUTS = {
    "coco 2014": lambda folder: write_coco(folder, 2014),
    "coco 2017 in images": lambda folder: write_coco(folder, 2017, images="images"),
    "voc 2007": lambda folder: write_voc(folder / "VOCdevkit", 2007, with_test=True),
    "voc 2012": lambda folder: write_voc(folder / "VOCdevkit", 2012, with_test=False),
    "voc 2012 from above": lambda folder: (
        write_voc(folder / "VOCdevkit", 2012, with_test=False).parent.parent
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_native_layout__is_checked_and_trained_on_by_path(tmp_path, layout):
    data = LAYOUTS[layout](tmp_path / "data")
    report = json.loads(q2l("data", "check", data, "--json").stdout)
    splits = {"train": 16, "val": 10} | ({"test": 8} if layout == "voc 2007" else {})
    assert (report["format"], report["num_images"]) == (layout[:4].strip(), splits)
    assert [part["label"] for part in report["labels"]] == sorted(LABELS)
    assert report["errors"] == []
    out = tmp_path / "run"
    q2l("train", "--data", data, "--out", out, "--device", "cpu", *(f"--set={part}" for part in TINY_RUN))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2
    assert (out / "best" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def voc_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    data = write_voc(folder / "VOCdevkit", 2012, with_test=False)
    q2l(
        "train", "--data", data, "--out", folder / "run", "--device", "cpu", *(f"--set={p}" for p in TINY_RUN)
    )
    return data, folder / "run" / "best"


def test_voc_2012__test_images_are_predicted_and_not_judged(voc_model):
    data, model = voc_model
    protocol = read_bundle(model).metrics["protocol"]
    assert ": validation images of the run, difficult objects: ignore, on which temperature" in protocol
    rows = q2l("predict", data, "--split", "test", "--model", model, "--format", "jsonl").stdout.splitlines()
    names = [Path(json.loads(row)["image"]).name for row in rows]
    assert names == [f"2012_{number:06d}.jpg" for number in range(26, 34)]
    refused = q2l("evaluate", "--data", data, "--split", "test", "--model", model, code=2)
    assert refused.stderr == (
        f"Error: Nothing says the labels of split test of {data}, so it can be predicted (q2l predict "
        "--split test), but not evaluated.\n"
    )
    q2l("evaluate", "--data", data, "--model", model, "--resamples", "0")


def test_voc__two_years_side_by_side_need_naming(tmp_path):
    for year in (2007, 2012):
        write_voc(tmp_path / "VOCdevkit", year, with_test=year == 2007)
    refused = q2l("data", "check", tmp_path / "VOCdevkit", code=2)
    assert "has several VOC folders in it (VOC2007, VOC2012): name the one that is meant." in refused.stderr


def test_coco__two_years_side_by_side(tmp_path):
    data = write_coco(tmp_path / "coco", 2014)
    write_coco(data, 2017)
    run = ("train", "--data", data, "--out", tmp_path / "run", *(f"--set={part}" for part in TINY_RUN))
    refused = q2l(*run, code=2).stderr
    assert (
        "it has train2014, train2017, val2014, val2017; name one with --set data.train_split=NAME" in refused
    )
    refused = q2l(*run, "--set=data.train_split=train2017", code=2).stderr
    assert "has no split 'val', but val2014 and val2017" in refused
    q2l(*run, "--set=data.train_split=train2017", "--set=data.val_split=val2017")
    model = tmp_path / "run" / "best"
    report = json.loads(
        q2l("evaluate", "--data", data, "--split", "val2017", "--model", model, "--json").stdout
    )
    assert report["num_images"] == 10
    one = q2l(
        "evaluate", "--data", data / "annotations" / "instances_val2014.json", "--model", model, "--json"
    )
    assert json.loads(one.stdout)["num_images"] == 10
