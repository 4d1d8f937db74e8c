"""A known model on known photos: any kind of model, broken images, splits, and the sentences of errors."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import query2label
from query2label.bundle import scores_from_logits
from query2label.data.load import load_dataset
from query2label.data.samples import Box, Dataset, Sample
from query2label.errors import BundleError, ConfigError, DataError
from query2label.evaluation.evaluate import evaluate
from query2label.evaluation.fit import fit_bundle, fixed_threshold
from query2label.evaluation.inputs import resolve_data, resolve_model
from query2label.evaluation.scoring import score_images
from query2label.evaluation.sizes import object_sizes
from query2label.inference.predictor import Predictor
from query2label.labels import LabelSet


def colour_logits(images):
    return 10 * images.mean(axis=(2, 3))


class ColourModel(torch.nn.Module):
    def __init__(self, bundle):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(10.0))
        self.dropout = torch.nn.Dropout(0.9)
        self.bundle = bundle

    def forward(self, images):
        return self.dropout(self.scale * images.mean(dim=(2, 3)))


def test_evaluate__is_a_public_name():
    assert query2label.evaluate is evaluate


def test_evaluate__scores_a_callable_on_the_test_split(bundle, photos):
    report = evaluate(colour_logits, photos, bundle=bundle)
    assert report.num_images == 3
    assert (report.map, report.decisions["thresholds"].of1) == (1.0, 1.0)
    assert report.absent_labels == ("blue",)
    assert [Path(path).name for path in report.broken_images] == ["cut.jpg"]
    assert report.protocol == (
        "plain (average precision as scikit-learn's): split test of photos (table); unknown targets left "
        "out; labels without a positive left out of means"
    )
    assert report.temperature == 2.0


def test_evaluate__takes_every_kind_of_model_alike(bundle, photos):
    reports = [
        evaluate(model, photos, bundle=own)
        for model, own in (
            (colour_logits, bundle),
            (Predictor(bundle, colour_logits), None),
            (SimpleNamespace(bundle=bundle, runtime=colour_logits), None),
            (ColourModel(bundle), None),
        )
    ]
    assert all(report == reports[0] for report in reports[:3])
    assert reports[3].calibration_error == pytest.approx(reports[0].calibration_error, abs=1e-6)


def test_evaluate__a_module_is_scored_in_evaluation_mode_and_left_as_it_was(bundle, photos):
    model = ColourModel(bundle).train()
    assert evaluate(model, photos).map == 1.0
    assert model.training
    assert model.scale.grad is None


def test_evaluate__gives_the_scores_of_the_predictor(bundle, photos):
    predictor = Predictor(bundle, colour_logits)
    dataset = load_dataset(photos, labels=bundle.label_set)
    scored = score_images(colour_logits, dataset, bundle.preprocess, batch_size=2)
    assert [dataset.samples[i].path.name for i in scored.indices] == [
        "red.png", "green.png", "yellow.png", "blue.png", "second.png"
    ]  # fmt: skip
    for row, index in zip(bundle.scores(scored.logits), scored.indices, strict=True):
        assert list(predictor(dataset.samples[index].path).scores.values()) == pytest.approx(row, abs=1e-6)


def test_evaluate__batches_and_workers_change_nothing(bundle, photos):
    one = evaluate(colour_logits, photos, bundle=bundle, batch_size=1)
    assert evaluate(colour_logits, photos, bundle=bundle, batch_size=32) == one
    assert evaluate(colour_logits, photos, bundle=bundle, batch_size=2, num_workers=1) == one


def test_evaluate__tells_progress_up_to_all_images(bundle, photos):
    told = []
    evaluate(colour_logits, photos, bundle=bundle, batch_size=2, progress=lambda *counts: told.append(counts))
    assert told == [(2, 4), (4, 4)]


def test_evaluate__takes_the_split_that_is_asked_for(bundle, photos):
    assert evaluate(colour_logits, photos, bundle=bundle, split="validation").num_images == 2
    dataset = load_dataset(photos, labels=bundle.label_set)
    assert evaluate(colour_logits, dataset, bundle=bundle, split="val").num_images == 2
    whole = Dataset(
        dataset.labels, [dataclasses.replace(s, split=None) for s in dataset.samples], photos, "table"
    )
    assert evaluate(colour_logits, whole, bundle=bundle).num_images == 5


def test_evaluate__finds_images_that_do_not_lie_beside_their_labels(bundle, photos, tmp_path):
    labels = tmp_path / "labels.csv"
    (photos / "labels.csv").rename(labels)
    with pytest.raises(DataError, match=r"labels\.csv:2.*red\.png"):
        evaluate(colour_logits, labels, bundle=bundle)
    report = evaluate(colour_logits, labels, bundle=bundle, image_root=photos)
    assert (report.num_images, report.map) == (3, 1.0)
    changes = fit_bundle(Predictor(bundle, colour_logits), labels, image_root=str(photos))
    assert changes["threshold_rule"] == "f1 on 2 images"


def test_evaluate__the_protocol_chooses_the_headline_and_is_kept_beside_it(bundle, photos):
    plain, voc = (
        evaluate(
            lambda images: -colour_logits(images), photos, bundle=bundle, num_resamples=50, protocol=protocol
        )
        for protocol in ("plain", "voc-11pt")
    )
    assert plain == evaluate(lambda images: -colour_logits(images), photos, bundle=bundle, num_resamples=50)
    assert voc.headline_ap == "voc11"
    assert voc.headline_map == voc.map_voc11 != voc.map == plain.headline_map
    assert voc.protocol.startswith("voc-11pt (11-point interpolated average precision of PASCAL VOC 2007): ")


def test_evaluate__unknown_and_contradicted_protocols_are_refused_first(bundle):
    with pytest.raises(ConfigError, match="Unknown protocol 'coco': choose plain, voc-allpoint, voc-11pt"):
        evaluate(colour_logits, "nowhere", bundle=bundle, protocol="coco")
    with pytest.raises(ConfigError, match="is 'ignore', not 'positive': leave one of the two out"):
        evaluate(colour_logits, "nowhere", bundle=bundle, protocol="plain", difficult="positive")


@pytest.fixture
def difficult_photos(photos):
    """VOC folder: a red and a yellow photo whose red is difficult, and a green one."""
    root = photos.parent / "VOC"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for name in ("red", "yellow", "green"):
        (photos / f"{name}.png").rename(root / "JPEGImages" / f"{name}.jpg")
    (root / "ImageSets" / "Main" / "test.txt").write_text("red\nyellow\ngreen\n")
    for label, marks in {"red": (1, 0, -1), "green": (-1, 1, 1), "blue": (-1, -1, -1)}.items():
        lines = [f"{name} {mark:2}" for name, mark in zip(("red", "yellow", "green"), marks, strict=True)]
        (root / "ImageSets" / "Main" / f"{label}_test.txt").write_text("\n".join(lines) + "\n")
    return root


def test_evaluate__the_protocol_says_what_difficult_objects_are(bundle, difficult_photos):
    def red(**options):
        report = evaluate(colour_logits, difficult_photos, bundle=bundle, num_resamples=0, **options)
        return (report.per_label[0].num_positives, report.per_label[0].num_unknown), report.protocol

    for options in ({}, {"protocol": "voc-allpoint"}, {"protocol": "plain", "difficult": "ignore"}):
        counts, protocol = red(**options)
        assert counts == (1, 1)
        assert "split test of VOC (voc, difficult objects: ignore)" in protocol
    counts, protocol = red(difficult="positive")
    assert counts == (2, 0)
    assert protocol.startswith("plain but for difficult objects (average precision as scikit-learn's): ")
    assert "split test of VOC (voc, difficult objects: positive)" in protocol


def test_evaluate__does_not_claim_what_difficult_objects_were_in_data_read_by_others(
    bundle, difficult_photos
):
    dataset = load_dataset(difficult_photos, labels=bundle.label_set, difficult="negative")
    report = evaluate(colour_logits, dataset, bundle=bundle, num_resamples=0)
    assert "VOC (voc, difficult objects: as the data set was read)" in report.protocol


def test_resolve_data__refuses_a_split_that_is_not_there(bundle, photos):
    dataset = load_dataset(photos, labels=bundle.label_set)
    with pytest.raises(DataError, match="has no split 'nope': it has test, val"):
        resolve_data(dataset, bundle, split="nope", preferred=("test",))
    with pytest.raises(DataError, match="has no split train: it has test, val; choose one"):
        resolve_data(dataset, bundle, split=None, preferred=("train",))


def test_resolve_data__refuses_other_labels_or_another_order(bundle, photos):
    dataset = load_dataset(photos, labels=LabelSet(["blue", "red", "green"]))
    with pytest.raises(DataError, match="was read with other labels than the model's, or in another order"):
        resolve_data(dataset, bundle, split=None, preferred=("test",))


def test_resolve_model__refuses_a_model_without_labels(bundle):
    with pytest.raises(ConfigError, match="Nothing says which labels and preprocessing this model has"):
        resolve_model(colour_logits)
    with pytest.raises(ConfigError, match="Nothing says which labels"):
        resolve_model(ColourModel(None))
    with pytest.raises(BundleError, match="nowhere"):
        resolve_model("nowhere/at/all")


def test_score_images__refuses_logits_that_do_not_fit(bundle, photos):
    dataset = load_dataset(photos, labels=bundle.label_set)
    with pytest.raises(BundleError, match=r"logits of shape \(5, 2\) for 5 images and 3 labels"):
        score_images(lambda images: np.zeros((len(images), 2)), dataset, bundle.preprocess)


def test_score_images__names_the_image_whose_logits_are_not_finite(bundle, photos):
    def spoiled(images):
        logits = colour_logits(images)
        logits[1, 2] = np.nan
        return logits

    dataset = load_dataset(photos, labels=bundle.label_set)
    with pytest.raises(BundleError, match=r"not finite for .*green\.png: it cannot be used"):
        score_images(spoiled, dataset, bundle.preprocess)


def test_score_images__refuses_data_without_a_readable_image(bundle, photos):
    dataset = load_dataset(photos, labels=bundle.label_set)
    cut = dataclasses.replace(dataset, samples=[s for s in dataset.samples if s.path.name == "cut.jpg"])
    with pytest.raises(DataError, match=r"No image of .* could be read \(.*cut\.jpg: .*q2l data check"):
        score_images(colour_logits, cut, bundle.preprocess)
    with pytest.raises(DataError, match=r"could be read \(there are none\)"):
        score_images(colour_logits, dataclasses.replace(dataset, samples=[]), bundle.preprocess)


def box(label, area):
    return Box(label=label, left=0.0, top=0.0, width=1.0, height=1.0, area=float(area))


def test_object_sizes__take_the_largest_box_of_each_label_with_coco_bounds():
    samples = [
        Sample(Path("a"), (0, 1), boxes=(box(0, 32**2 - 1), box(1, 32**2), box(1, 10))),
        Sample(Path("b"), (0,)),
        Sample(Path("c"), (0, 1), boxes=(box(0, 96**2), box(1, 96**2 - 1))),
    ]
    dataset = Dataset(LabelSet(["x", "y"]), samples, Path("data"), "coco")
    assert object_sizes(dataset, np.array([2, 0, 1])).tolist() == [[2, 1], [0, 1], [-1, -1]]
    assert object_sizes(dataset, np.array([1])) is None


def test_fit_bundle__fits_temperature_and_thresholds_on_the_validation_split(bundle, photos):
    changes = fit_bundle(Predictor(bundle, colour_logits), photos, rule="recall=1")
    assert set(changes) == {"temperature", "thresholds", "threshold_rule", "metrics"}
    assert changes["threshold_rule"] == "recall=1 on 2 images"
    assert changes["temperature"] < 0.2  # the two photos are told apart perfectly
    assert "split val" in changes["metrics"]["protocol"]
    assert "fitted" in changes["metrics"]["protocol"]
    fitted = bundle.model_validate({**dict(bundle), **changes})
    dataset = load_dataset(photos, split="val", labels=bundle.label_set)
    logits = score_images(colour_logits, dataset, bundle.preprocess).logits
    scores = scores_from_logits(logits, changes["temperature"])
    assert fitted.predicted(scores).tolist() == [[False, False, True], [True, False, False]]


def test_fixed_threshold__drops_the_metrics_that_the_old_thresholds_gave(bundle):
    trained = bundle.model_copy(update={"metrics": {"mAP": 0.9, "CF1": 0.8, "OF1": 0.8, "macro_f1": 0.7}})
    protocol = {"protocol": "plain: val, on which temperature and thresholds were fitted; unknown left out"}
    changed = fixed_threshold(trained.model_copy(update={"metrics": protocol}), 0.3)["metrics"]
    assert changed == {"protocol": "plain: val, on which the temperature was fitted; unknown left out"}
    assert fixed_threshold(trained, 0.3) == {
        "thresholds": (0.3, 0.3, 0.3),
        "threshold_rule": "fixed 0.3",
        "metrics": {"mAP": 0.9},
    }
