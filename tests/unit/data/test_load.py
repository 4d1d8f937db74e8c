from collections.abc import Callable
from pathlib import Path

import pytest

from query2label import load_dataset
from query2label.data.load import detect_format
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["labels.csv", "photos/a.jpg"], "", "table"),
        (["labels.parquet"], "labels.parquet", "table"),
        (["annotations/instances_val2017.json"], "", "coco"),
        (["any.json"], "any.json", "coco"),
        (["VOC2012/ImageSets/Main/train.txt"], "", "voc"),
        (["Groundtruth/TrainTestLabels/Labels_sky_Train.txt", "Flickr/sky/a.jpg"], "", "nuswide"),
        (["Groundtruth/TrainTestLabels/x.txt", "nus_wid_data.csv", "images/a.jpg"], "", "nuswide"),
        (["Groundtruth/TrainTestLabels/x.txt", "nus_wid_data.csv"], "nus_wid_data.csv", "table"),
        (["nus_wid_data.csv", "images/a.jpg"], "", "table"),
        (["Groundtruth/a.jpg", "Flickr/b.jpg"], "", "folders"),
        (["vg_category_500_labels_index.json", "train_list_500.txt", "VG_100K/1.jpg"], "", "vg500"),
        (["ssgrl_partition/vg_category_500_labels_index.json", "objects.json"], "", "vg500"),
        (["oidv6-train-annotations-human-imagelabels.csv", "train/a.jpg"], "", "openimages"),
        (["validation-annotations-machine-imagelabels.csv", "labels.csv"], "", "openimages"),
        (["train/labels/classifications.csv", "train/data/a.jpg"], "", "openimages"),
        (["train-annotations-bbox.csv", "train/a.jpg"], "", "table"),
        (["a.jpg", "a.txt"], "", "sidecar"),
        (["train/a.jpg", "train/a.txt", "info.json"], "", "sidecar"),
        (["train-000000.tar", "classes.txt"], "", "webdataset"),
        (["any.tar"], "any.tar", "webdataset"),
        (["VOCtrainval.tar", "ImageSets/Main/train.txt"], "", "voc"),
        (["train2017.tar", "annotations/instances_train2017.json"], "", "coco"),
        (["images.tar", "labels.csv"], "", "table"),
        (["data/train-00000-of-00001.parquet"], "", "huggingface"),
        (["dataset_dict.json", "train/state.json", "train/data-00000-of-00001.arrow"], "", "huggingface"),
        (["data-00000-of-00001.arrow"], "data-00000-of-00001.arrow", "huggingface"),
        (["state.json", "labels.csv"], "", "table"),
        (["dog/a.jpg", "cat/b.jpg", "README.txt"], "", "folders"),
        (["train/dog/a.jpg", "val/cat/b.jpg"], "", "folders"),
    ],
)
def test_detect_format__looks_at_names(
    make_text: MakeText, tmp_path: Path, files: list[str], name: str, expected: str
) -> None:
    for file in files:
        make_text(file, "")
    assert detect_format(tmp_path / name) == expected


_YOLO_YAML = "train: images/train\nnames: [a, b]\n"
_TASKS = '[\n  {"id": 1, "annotations": [], "data": {"image": "a.jpg"}}]'
_DATUMARO = '{"info": {}, "categories": {"label": {"labels": []}}, "items": []}'
_COCO = '{"info": {}, "images": [], "annotations": [], "categories": []}'


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        ({"annotations.xml": "<?xml version='1.0'?>\n<annotations>", "images/a.jpg": ""}, "", "cvat"),
        ({"job.xml": "<annotations>"}, "job.xml", "cvat"),
        ({"export.json": _TASKS, "images/a.jpg": ""}, "", "labelstudio"),
        ({"export.json": _TASKS}, "export.json", "labelstudio"),
        ({"min.json": '[{"image": "a.jpg", "choice": "b", "annotator": 1}]'}, "", "labelstudio"),
        ({"min.json": '[{"image": "a.jpg", "choice": "b"}]'}, "min.json", "labelstudio"),
        ({"annotations/train.json": _DATUMARO}, "", "datumaro"),
        ({"annotations/train.json": _DATUMARO}, "annotations/train.json", "datumaro"),
        ({"x.json": '\ufeff {"dm_format_version": "1.0"'}, "x.json", "datumaro"),
        ({"annotations/train.json": _COCO}, "", "coco"),
        ({"annotations/instances_train.json": _COCO, "images/train/a.jpg": ""}, "", "coco"),
        # Another tool's labels beside COCO's, without names.
        ({"annotations/instances_train.json": _COCO, "labels/a.txt": "0 0.5 0.5 1 1"}, "", "coco"),
        ({"annotations/instances_train.json": _COCO, "data.yaml": _YOLO_YAML}, "", "yolo"),
        ({"data.yaml": _YOLO_YAML, "train/a.jpg": "", "train/a.txt": "0 0 0 1 1"}, "", "yolo"),
        ({"data.yml": _YOLO_YAML}, "data.yml", "yolo"),
        ({"obj.data": "names = obj.names"}, "", "yolo"),
        ({"classes.txt": "a", "a.jpg": "", "a.txt": "\n0 0.5 0.5 1 1\n"}, "", "yolo"),
        ({"labels/a.txt": "0 0.5 0.5 1 1", "images/a.jpg": ""}, "", "yolo"),
        ({"classes.txt": "a", "a.jpg": "", "a.txt": "a"}, "", "sidecar"),
        ({"classes.txt": "a", "a.jpg": "", "a.txt": ""}, "", "sidecar"),
        ({"config.yaml": "names: x", "a.jpg": "", "a.txt": "a"}, "", "sidecar"),
        ({"a.jpg": "", "a.txt": "0 0.5 0.5 1 1"}, "", "sidecar"),
        ({"info.json": "[1, 2]", "a.jpg": "", "a.txt": "a"}, "", "sidecar"),
        ({"notes.xml": "<annotation>", "labels.csv": ""}, "", "table"),
        ({"VOC2012/Annotations/a.xml": "<annotations>", "VOC2012/JPEGImages/a.jpg": ""}, "", "voc"),
    ],
)
def test_detect_format__looks_at_the_start_of_files(
    make_text: MakeText, tmp_path: Path, files: dict[str, str], name: str, expected: str
) -> None:
    for file, text in files.items():
        make_text(file, text)
    assert detect_format(tmp_path / name) == expected


@pytest.mark.parametrize("files", [[], ["a.jpg"], ["notes.md"], ["set/a.jpg", "set/labels.csv"]])
def test_detect_format__says_what_to_do(make_text: MakeText, tmp_path: Path, files: list[str]) -> None:
    for file in files:
        make_text(file, "")
    with pytest.raises(
        DataError,
        match=r"has no known layout: add a table .*labels.csv.*, a \.txt .* one folder per label; docs/your-",
    ):
        detect_format(tmp_path)


def test_detect_format__refuses_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("query2label.data.voc.find_folder", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        detect_format(tmp_path)


@pytest.fixture
def data(make_text: MakeText, tmp_path: Path) -> Path:
    make_text("labels.csv", "image,labels,split\na.jpg,dog,train\nb.jpg,cat,valid\nc.jpg,cat,test\n")
    for name in "abc":
        make_text(f"{name}.jpg", "")
    return tmp_path


def test_load_dataset__selects_a_split(data: Path) -> None:
    assert len(load_dataset(data)) == 3
    assert len(load_dataset(data, split="val")) == 1
    assert len(load_dataset(str(data), split="validation")) == 1
    assert len(load_dataset(data, split="trainval")) == 2
    assert load_dataset(data, split="val").labels.names == ("cat", "dog")


def test_load_dataset__unknown_split(data: Path, make_text: MakeText) -> None:
    with pytest.raises(DataError, match=r"has no split 'other': it has train, val, test\."):
        load_dataset(data, split="other")
    make_text("labels.csv", "image,labels\na.jpg,dog\n")
    with pytest.raises(
        DataError, match="has no splits, so there is no 'train': make some with `q2l data split`"
    ):
        load_dataset(data, split="train")


def test_load_dataset__missing_paths(data: Path) -> None:
    with pytest.raises(DataError, match="absent does not exist: name the folder or file"):
        load_dataset(data / "absent")
    with pytest.raises(DataError, match=r"The folder of images .*absent does not exist"):
        load_dataset(data, image_root=data / "absent")


def test_load_dataset__shows_three_problems_and_keeps_all(data: Path) -> None:
    for name in "abc":
        (data / f"{name}.jpg").unlink()
    (data / "d.jpg").touch()
    with (data / "labels.csv").open("a") as file:
        file.write("d.jpg,dog,train\ne.jpg,dog,train\n")
    with pytest.raises(
        DataError,
        match=r"has 4 problems: .*labels.csv:2: image 'a.jpg' is missing in .*labels.csv:3: .*labels.csv:4: "
        r"[^;]*; and 1 more. `q2l data check .*` shows all",
    ):
        load_dataset(data)
    dataset = load_dataset(data, on_problem="keep")
    assert (len(dataset), len(dataset.problems)) == (1, 4)
    assert len(load_dataset(data, check_files=False)) == 5


def test_load_dataset__one_problem(data: Path) -> None:
    (data / "a.jpg").unlink()
    with pytest.raises(
        DataError, match=r"labels.csv:2: image 'a.jpg' is missing in .*\. See `q2l data check"
    ):
        load_dataset(data)


def test_load_dataset__names_no_command_that_cannot_see_the_problem(data: Path) -> None:
    with pytest.raises(DataError, match="Unknown label 'dog'") as caught:
        load_dataset(data, labels=LabelSet(["ant"]))
    assert "q2l data check" not in str(caught.value)
    assert ".;" not in str(caught.value)


def test_load_dataset__the_format_may_be_named(data: Path) -> None:
    with pytest.raises(DataError, match="has no COCO files"):
        load_dataset(data, format="coco")
    with pytest.raises(DataError, match="is a file, but the format voc is a folder of files"):
        load_dataset(data / "labels.csv", format="voc")
    with pytest.raises(DataError, match="has its labels beside the images: leave image_root out"):
        load_dataset(data, format="folders", image_root=data)


def test_load_dataset__a_question_needs_no_full_stop(data: Path) -> None:
    with pytest.raises(DataError, match=r"2 problems: .*Did you mean 'cats'\?$"):
        load_dataset(data, labels=LabelSet(["dog", "cats"]))


def test_load_dataset__nothing_in_it(data: Path, make_text: MakeText) -> None:
    make_text("labels.csv", "image,labels\n")
    with pytest.raises(DataError, match="has no label in any row"):
        load_dataset(data)
    with pytest.raises(DataError, match=r"has no labelled image in it \(read as table\)"):
        load_dataset(data, labels=LabelSet(["dog"]))


def test_load_dataset__a_folder_that_an_archive_wrapped_in_another(
    make_text: MakeText, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    make_image("download/set/a.jpg")
    make_text("download/set/labels.csv", "image,labels\na.jpg,dog\n")
    make_text("download/.hidden", "")
    dataset = load_dataset(tmp_path / "download")
    assert (dataset.format, dataset.labels.names) == ("table", ("dog",))
    assert dataset.source == tmp_path / "download" / "set"
    make_text("download/second/labels.csv", "image,labels\na.jpg,dog\n")
    with pytest.raises(DataError, match=r"download has no known layout"):
        load_dataset(tmp_path / "download")


def test_load_dataset__the_garments(ccp: Path) -> None:
    dataset = load_dataset(ccp)
    assert (dataset.format, len(dataset.select("train")), len(dataset.select("test"))) == ("table", 1479, 619)
    assert all(sample.path.parent == ccp / "photos" for sample in dataset.samples)


@pytest.mark.parametrize(
    ("files", "link"),
    [
        (["labels.csv"], "labels.csv"),
        (["labels.csv", "labels.labels.txt"], "labels.labels.txt"),
        (["annotations/instances_val2017.json"], "annotations"),
        (["annotations/instances_val2017.json"], "annotations/instances_val2017.json"),
        (["ImageSets/Main/train.txt"], "ImageSets/Main/train.txt"),
        (["ImageSets/Main/train.txt"], "ImageSets"),
        (["a.jpg", "a.txt", "labels.txt"], "labels.txt"),
        (["dog/a.jpg", "cat/b.jpg", "labels.txt"], "labels.txt"),
    ],
)
def test_load_dataset__refuses_annotations_that_are_links_to_elsewhere(
    make_text: MakeText, tmp_path: Path, files: list[str], link: str
) -> None:
    for file in files:
        make_text(f"data/{file}", "image,labels\na.jpg,secret\n")
    (tmp_path / "data" / link).rename(tmp_path / "outside")
    (tmp_path / "data" / link).symlink_to(tmp_path / "outside")
    with pytest.raises(
        DataError, match=r"leads out of .*data by a symbolic link: name the file itself"
    ) as caught:
        load_dataset(tmp_path / "data")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("link", ["JPEGImages", "Annotations", "JPEGImages/a.jpg", "Annotations/a.xml"])
def test_load_dataset__follows_no_link_out_of_a_voc_folder(
    make_text: MakeText, tmp_path: Path, link: str
) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    make_text("data/ImageSets/Main/train.txt", "a\n")
    make_text("data/ImageSets/Main/dog_train.txt", "a 1\n")
    make_text("data/JPEGImages/a.jpg", "")
    make_text("data/Annotations/a.xml", f"<annotation><object><name>dog</name>{box}</object></annotation>")
    assert len(load_dataset(tmp_path / "data").samples[0].boxes) == 1
    (tmp_path / "data" / link).rename(tmp_path / "outside")
    (tmp_path / "data" / link).symlink_to(tmp_path / "outside")
    dataset = load_dataset(tmp_path / "data", on_problem="keep")
    assert [sample.boxes for sample in dataset.samples] == ([()] if link.startswith("Ann") else [])


def test_detect_format__follows_no_link_to_a_voc_folder(make_text: MakeText, tmp_path: Path) -> None:
    make_text("outside/ImageSets/Main/train.txt", "a\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "VOC2012").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="has no known layout"):
        detect_format(tmp_path / "data")
    assert detect_format(tmp_path / "data" / "VOC2012") == "voc"
