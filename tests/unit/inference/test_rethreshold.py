"""Labels by other thresholds, from saved rows: the same as predicting anew."""

from pathlib import Path

import pytest
from PIL import Image

from query2label.data.samples import Sample
from query2label.errors import ConfigError, DataError
from query2label.inference.choice import LabelChoice
from query2label.inference.outputs import save_predictions
from query2label.inference.parts import Choice, Manifest, PartFolder, read_manifest
from query2label.inference.predictor import Predictor
from query2label.inference.rethreshold import rethreshold
from query2label.inference.samples import survey_of
from query2label.inference.saved_rows import saved_labels, saved_predictions
from query2label.inference.tagging import local_engine, tag_parts

FORMS = ("jsonl", "csv", "parquet")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Photos, some with names that spreadsheets would compute, and a broken one."""
    paths = [tmp_path / name for name in ("=a.png", "b.png", '-c, "d".png', "e.png")]
    for number, path in enumerate(paths):
        Image.new("RGB", (9, 9), (117 + 7 * number, 133 - 5 * number, 128)).save(path)
    paths[1].write_bytes(b"no image")
    return paths


def save(predictor: Predictor, images: list[Path], path: Path, **options: object) -> bytes:
    keep = bool(options.get("keep_logits", False))
    save_predictions(
        predictor.stream(images, **options), path, predictor.labels, form=path.suffix[1:], keep_logits=keep
    )
    return path.read_bytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep_logits", [False, True])
def test_rethreshold__by_threshold_is_predicting_anew(
    tmp_path: Path, images: list[Path], predictor: Predictor, form: str, keep_logits: bool
) -> None:
    before = save(predictor, images, tmp_path / f"a.{form}", keep_logits=keep_logits)
    expected = save(predictor, images, tmp_path / f"b.{form}", threshold=0.3, keep_logits=keep_logits)
    assert before != expected
    assert rethreshold(tmp_path / f"a.{form}", tmp_path / f"c.{form}", threshold=0.3) == 4
    assert (tmp_path / f"c.{form}").read_bytes() == expected


@pytest.mark.parametrize("form", FORMS)
def test_rethreshold__by_a_model_is_predicting_anew_with_it(
    tmp_path: Path, images: list[Path], predictor: Predictor, form: str
) -> None:
    save(predictor, images, tmp_path / f"a.{form}", keep_logits=True)
    bundle = predictor.bundle.model_copy(update={"temperature": 2.5, "thresholds": (0.4, 0.7, 0.5)})
    other = Predictor(bundle, predictor.runtime)
    expected = save(other, images, tmp_path / f"b.{form}", threshold={"blue": 0.52}, keep_logits=True)
    rethreshold(tmp_path / f"a.{form}", tmp_path / f"c.{form}", bundle=bundle, threshold={"blue": 0.52})
    assert (tmp_path / f"c.{form}").read_bytes() == expected


def test_saved_predictions__are_read_as_they_were(
    tmp_path: Path, images: list[Path], predictor: Predictor
) -> None:
    expected = [(p.source, p.error, p.logits) for p in predictor.stream(images, keep_logits=True)]
    for form in FORMS:
        save(predictor, images, tmp_path / f"a.{form}", keep_logits=True)
        assert saved_labels(tmp_path / f"a.{form}") == predictor.labels
        found = saved_predictions(tmp_path / f"a.{form}", predictor.labels)
        for prediction, (source, error, logits) in zip(found, expected, strict=True):
            assert (prediction.source, prediction.error) == (source, error)
            assert prediction.logits == pytest.approx(dict(logits), rel=0 if form != "csv" else 1e-8)


def tagged(path: Path, images: list[Path], predictor: Predictor, **options: object) -> PartFolder:
    choice = LabelChoice.of(predictor.bundle, **options)
    manifest = Manifest(
        model="m",
        images=survey_of(Sample(image) for image in images).digest,
        num_images=len(images),
        part_size=3,
        form="parquet",
        choice=Choice.model_validate(choice.to_dict()),
        keep_logits=True,
        batch_size=2,
    )
    folder = PartFolder.begin(path, manifest)
    batches = local_engine(predictor, choice, batch_size=2, keep_logits=True)
    tag_parts([Sample(image) for image in images], folder, batches)
    return folder


def test_rethreshold__takes_folders_of_parts(
    tmp_path: Path, images: list[Path], predictor: Predictor
) -> None:
    tagged(tmp_path / "a", images, predictor)
    expected = tagged(tmp_path / "b", images, predictor, threshold=0.3)
    assert rethreshold(tmp_path / "a", tmp_path / "c", threshold=0.3) == 4
    for number in range(2):
        name = expected.part_path(number).name
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read_manifest(tmp_path / "c").choice == expected.manifest.choice
    (tmp_path / "c" / "part-00001.parquet").unlink()
    rethreshold(tmp_path / "a", tmp_path / "c", threshold=0.3)
    assert len(list((tmp_path / "c").iterdir())) == 3
    with pytest.raises(ConfigError, match="was begun with other thresholds"):
        rethreshold(tmp_path / "a", tmp_path / "c", threshold=0.4)
    with pytest.raises(ConfigError, match="was begun with other thresholds"):
        rethreshold(tmp_path / "a", tmp_path / "a", threshold=0.4)
    (tmp_path / "a" / "part-00001.parquet").unlink()
    with pytest.raises(DataError, match="a is not finished: 1 of 2 parts are missing"):
        rethreshold(tmp_path / "a", tmp_path / "d", threshold=0.4)


def test_rethreshold__says_what_is_missing(tmp_path: Path, images: list[Path], predictor: Predictor) -> None:
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    save(predictor, images, source)
    with pytest.raises(DataError, match=r"a\.jsonl has no logits: predict with --keep-logits"):
        rethreshold(source, out, bundle=predictor.bundle)
    with pytest.raises(
        ConfigError, match="for the labels that --threshold does not name, or one --threshold"
    ):
        rethreshold(source, out, threshold={"red": 0.5})
    with pytest.raises(ConfigError, match=r"The threshold 2\.0 of label 'red' is not within 0 and 1"):
        rethreshold(source, out, threshold=2.0)
    other = predictor.bundle.model_copy(update={"labels": ("red", "blue", "green")})
    with pytest.raises(DataError, match="has other labels than this model: it was written with another one"):
        rethreshold(source, out, bundle=other)
    with pytest.raises(
        ConfigError, match=r"b\.txt is no file of predictions: its name has to end with \.jsonl"
    ):
        rethreshold(source, tmp_path / "b.txt", threshold=0.5)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "has no scores in it: it is no file that `q2l predict` wrote"),
        ("a.csv", b"image,labels\n", "has no scores in it"),
        ("a.jsonl", b"{\n", r"a\.jsonl:1 is not valid JSON"),
        ("a.jsonl", b"[]\n", r"a\.jsonl:1 is not a row that `q2l predict` wrote"),
        ("a.jsonl", b'{"image": "x", "error": null, "scores": [1]}\n', "is not a row that"),
        ("a.jsonl", b"\xff\n", "is not UTF-8 text"),
        ("a.csv", b"image,error,score:red\nx,,half\n", "has a row for 'x' without the numbers of all labels"),
        ("a.csv", b"image,score:red\nx,1\n", "is not a CSV file that `q2l predict` wrote"),
        ("a.csv", b'image,error,score:red\n"x,1\n', "is not a CSV file that"),
        ("a.parquet", b"no", "is not a Parquet file that can be read"),
        ("gone.csv", None, "There is no file or folder .*gone.csv"),
    ],
)
def test_rethreshold__says_what_is_wrong_with_a_file(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rethreshold(tmp_path / name, tmp_path / "out.csv", threshold=0.5)
