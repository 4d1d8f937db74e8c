"""Whole runs on small images, from `train` to what is in the run folder."""

import contextlib
import csv
import json
import os
import shutil
import signal
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from safetensors.torch import save_file

import query2label
from query2label.bundle import read_bundle, read_weights
from query2label.config import load_config
from query2label.data.load import load_dataset
from query2label.errors import ConfigError, DataError
from query2label.metrics import mean_average_precision
from query2label.models.backbone import build_backbone
from query2label.training import copies, loop, prepare, start
from query2label.training.run import _torch_settings, resume, train
from query2label.training.signals import RunInterruptedError

SMALL = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.hidden_dim=16",
    "model.feedforward_dim=32",
    "data.image_size=32",
    "data.num_workers=0",
    "data.augment.randaugment_num_ops=1",
    "train.batch_size=16",
    "train.epochs=2",
    "optim.lr=3e-3",
    "optim.backbone_lr_scale=1.0",
    "train.ema_decay=0.9",
)


def run_small(data, out, *more, **kwargs):
    return train(data=data, out=out, overrides=(*SMALL, *more), device="cpu", quiet=True, **kwargs)


def records(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    return run_small(shapes, tmp_path_factory.mktemp("runs") / "one")


def test_train__fills_the_run_folder(finished, shapes):
    names = {path.name for path in finished.run_dir.iterdir()}
    assert names == {
        "best", "config.toml", "environment.json", "evaluation", "last", "log.txt", "look_alikes.csv",
        "metrics.jsonl",
    }  # fmt: skip
    config = tomllib.loads((finished.run_dir / "config.toml").read_text())
    assert config["data"]["path"] == str(shapes)
    assert config["train"]["epochs"] == 2
    assert load_config(finished.run_dir / "config.toml").model.hidden_dim == 16
    environment = json.loads((finished.run_dir / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert json.loads((finished.run_dir / "evaluation" / "report.json").read_text())["num_images"] == 21
    assert "Best epoch" in (finished.run_dir / "log.txt").read_text()


def test_train__logs_one_record_per_epoch(finished):
    found = records(finished.run_dir)
    assert found == finished.epochs
    assert [(record["epoch"], record["step"]) for record in found] == [(1, 3), (2, 6)]
    for record in found:
        assert record["map"] == record["map_ema"]
        assert {"train_loss", "val_loss", "map_raw", "lr", "images_per_second", "seconds", "best"} <= {
            *record
        }


def test_train__the_bundle_predicts_what_the_report_says(finished, shapes):
    val = load_dataset(shapes, split="val")
    predictor = query2label.Predictor.load(finished.best)
    predictions = predictor([sample.path for sample in val.samples])
    names = read_bundle(finished.best).labels
    scores = np.array([[prediction.scores[name] for name in names] for prediction in predictions])
    assert mean_average_precision(scores, val.targets()) == pytest.approx(finished.report.map, abs=1e-9)


def test_train__the_bundle_is_complete(finished, shapes):
    bundle = read_bundle(finished.best)
    assert bundle.labels == load_dataset(shapes).labels.names
    assert bundle.preprocess.image_size == (32, 32)
    assert bundle.threshold_rule == "f1"
    assert bundle.temperature != 1.0
    assert bundle.thresholds != (0.5, 0.5, 0.5)
    assert bundle.metrics["mAP"] == finished.report.map
    assert bundle.metrics["num_images"] == 21
    assert bundle.run["train"]["epochs"] == 2
    assert bundle.run["data"]["path"] == shapes.name
    assert bundle.versions["torch"] == torch.__version__


def test_train__validation_in_training_agrees_with_the_final_evaluation(finished):
    best = max(finished.epochs, key=lambda record: record["map"])
    assert best["best"]
    assert best["map"] == pytest.approx(finished.report.map, abs=1e-9)


def test_train__is_the_same_twice(finished, shapes, tmp_path):
    again = run_small(shapes, tmp_path / "again", "data.num_workers=2")
    first, second = read_weights(finished.best), read_weights(again.best)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    times = {"images_per_second", "seconds", "validation_seconds"}
    for one, two in zip(finished.epochs, again.epochs, strict=True):
        assert {k: v for k, v in one.items() if k not in times} == {
            k: v for k, v in two.items() if k not in times
        }


def test_train__learns(shapes, tmp_path):
    # So long and so plain that it does with any seed and on any processor.
    settings = ("train.epochs=20", "data.augment.cutout=0.0", "data.augment.randaugment_num_ops=0")
    result = run_small(shapes, tmp_path / "run", *settings)
    assert result.report.map > 0.85
    assert result.epochs[-1]["train_loss"] < 0.8 * result.epochs[0]["train_loss"]


def test_train__leaves_the_callers_torch_as_it_was(shapes, tmp_path):
    torch.manual_seed(5)
    expected = torch.random.get_rng_state()
    run_small(shapes, tmp_path / "run", "train.epochs=1")
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_torch_settings__hold_for_the_run_alone():
    with _torch_settings(3, torch.device("cpu")):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("device", "expected"), [("cpu", []), ("cuda:1", [torch.device("cuda:1")])])
def test_torch_settings__touch_no_gpu_but_the_runs_own(monkeypatch, device, expected):
    touched = []

    def fork_rng(devices):
        touched.extend(devices)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    with _torch_settings(0, torch.device(device)):
        assert touched == expected


def test_train__keeps_the_place_of_a_weights_file_in_the_run_alone(shapes, tmp_path, monkeypatch):
    torch.manual_seed(0)
    save_file(build_backbone("test_resnet", weights="none").model.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    run_small(shapes, "run", "train.epochs=1", "model.backbone=test_resnet", "model.weights=w.safetensors")
    assert load_config(tmp_path / "run" / "config.toml").model.weights == str(tmp_path / "w.safetensors")
    assert read_bundle(tmp_path / "run" / "best").model.weights == "w.safetensors"
    for name in ("config.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "run" / "best" / name).read_text()


def test_train__stops_early(shapes, tmp_path):
    result = run_small(
        shapes, tmp_path / "run", "train.epochs=9", "train.patience=2", "optim.lr=1e-12", "train.ema_decay=0"
    )
    assert len(result.epochs) == 3
    assert (
        "Stopped early: 2 epochs without a better mAP than epoch 1's."
        in (tmp_path / "run" / "log.txt").read_text()
    )
    assert "map_ema" not in result.epochs[0]
    again = resume(tmp_path / "run", quiet=True)
    assert len(again.epochs) == 3


@pytest.mark.parametrize(
    "more",
    [
        ("model.head=linear", "train.accumulate=3"),
        ("model.head=csra", "optim.schedule=cosine", "optim.clip_norm=0"),
        ("model.head=ml_decoder", "data.augment.mixup_alpha=0.4", "data.augment.cutmix_alpha=1.0"),
        ("model.freeze=stem", "model.freeze_norm=true", "train.precision=bf16"),
        ("model.backbone=test_vit", "loss.name=bce", "data.image_size=160"),
    ],
)
def test_train__runs_with_other_heads_and_settings(shapes, tmp_path, more):
    result = run_small(shapes, tmp_path / "run", "train.epochs=1", *more)
    assert 0 < result.report.map <= 1


@pytest.mark.parametrize("head", ["query2label", "linear", "csra", "ml_decoder"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_vit", "test_convnext"])
def test_train__every_parameter_that_learns_gets_a_gradient(head, backbone):
    # DistributedDataParallel waits for ever for one that does not.
    from query2label.models.build import build_model

    config = load_config(None, [f"model.backbone={backbone}", "model.weights=none", f"model.head={head}"])
    model = build_model(config.model, 5, image_size=(160, 160))
    model(torch.randn(2, 3, 160, 160)).sum().backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_train__makes_a_split_where_there_is_none(shapes, tmp_path):
    rows = [line.rsplit(",", 1)[0] for line in (shapes / "labels.csv").read_text().splitlines()]
    data = shutil.copytree(shapes, tmp_path / "data")
    (data / "labels.csv").write_text("\n".join(rows) + "\n")
    result = run_small(data, tmp_path / "run", "train.epochs=1")
    with (tmp_path / "run" / "split.csv").open() as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert len(splits) == 61
    assert splits.count("val") == result.report.num_images
    assert 8 <= splits.count("val") <= 16
    assert "Resumed" not in (tmp_path / "run" / "log.txt").read_text()


def test_train__takes_test_for_validation_and_says_so(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    (data / "labels.csv").write_text((shapes / "labels.csv").read_text().replace(",val", ",test"))
    run_small(data, tmp_path / "run", "train.epochs=1")
    assert (
        "Warning: There is no split 'val': the test images choose"
        in (tmp_path / "run" / "log.txt").read_text()
    )


def test_train__names_broken_images(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    (data / "03.png").write_bytes(b"not an image")
    (data / "50.png").write_bytes(b"")
    result = run_small(data, tmp_path / "run", "train.epochs=1", "data.max_broken_fraction=0.1")
    with (tmp_path / "run" / "broken_images.csv").open() as file:
        listed = [row["image"] for row in csv.DictReader(file)]
    assert listed == [str(data / "03.png"), str(data / "50.png")]
    assert result.report.num_images == 20
    assert [*result.report.broken_images] == [str(data / "50.png")]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "2 images could not be read" in log
    assert f"Broken image: {data / '03.png'}" in log


def test_train__validation_images_that_are_all_broken_end_the_run(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    for sample in load_dataset(folder, split="val").samples:
        sample.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"No validation image can be read: run `q2l data check "):
        run_small(folder, tmp_path / "run", "train.epochs=1")
    assert not (tmp_path / "run" / "best").exists()


def test_train__too_many_broken_images_end_the_run(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    for number in range(10):
        (data / f"{number:02d}.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"are broken, more than the 2\.0% that"):
        run_small(data, tmp_path / "run", "train.epochs=1")


def test_train__says_which_labels_validation_never_shows(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    text = (shapes / "labels.csv").read_text().splitlines()
    text[1] = text[1].replace(",train", "|dog,train")
    (data / "labels.csv").write_text("\n".join(text))
    result = run_small(data, tmp_path / "run", "train.epochs=1")
    assert result.report.absent_labels == ("dog",)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "1 of 4 labels is never shown by a validation image and in no mean: dog." in log


def test_train__says_which_real_photos_are_in_both_splits(ccp, tmp_path, monkeypatch):
    """Of twenty-four photos of the clothing set, one comes again, smaller and brighter, for validation."""
    lines = ["image,labels,split"]
    for number, photo in enumerate(sorted((ccp / "photos").iterdir())[100:124]):
        name = f"{number:02d}.jpg"
        with Image.open(photo) as image:
            image.save(tmp_path / name)
            if number == 5:
                copy = ImageEnhance.Brightness(image.resize((120, 180))).enhance(1.15)
                copy.save(tmp_path / "copy.jpg", quality=60)
        lines.append(f"{name},{'ab'[number % 2]},{'val' if number % 4 == 0 else 'train'}")
    lines.append("copy.jpg,b,val")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    result = run_small(tmp_path, tmp_path / "run", "train.epochs=1")
    caution = (
        "1 of 7 validation images looks like a training image (the same picture, perhaps saved anew or "
        "resized), so results on them are too good."
    )
    log = (tmp_path / "run" / "log.txt").read_text()
    table = tmp_path / "run" / "look_alikes.csv"
    named = f"{tmp_path}/copy.jpg and {tmp_path}/05.jpg."
    assert f"Warning: {caution} {table} lists them: {named}" in log
    with table.open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["validation", "training", "distance"]
    assert row[:2] == [f"{tmp_path}/copy.jpg", f"{tmp_path}/05.jpg"]
    assert caution in result.report.warnings
    saved = json.loads((tmp_path / "run" / "evaluation" / "report.json").read_text())
    assert saved["warnings"] == list(result.report.warnings)
    rare = "2 of 2 labels are shown by fewer than 10 validation images, too few to trust their average"
    assert rare in saved["warnings"][0]
    assert log.index(rare) < log.index("epoch 1/1")
    again = resume(tmp_path / "run", quiet=True)  # looks at no image again, and still knows
    assert again.report.warnings == result.report.warnings

    monkeypatch.setattr(copies, "MAX_IMAGES", 8)
    run_small(tmp_path, tmp_path / "part", "train.epochs=1")
    log = (tmp_path / "part" / "log.txt").read_text()
    assert "Looked for copies among 4 of 7 validation and 4 of 18 training images; q2l data check" in log


def test_train__the_gain_of_an_epoch_and_its_noise(finished):
    first, second = finished.epochs
    assert first["gain_interval"] is None
    low, high = second["gain_interval"]
    assert (low + high) / 2 == pytest.approx(second["map"] - first["map"])
    assert low < 0
    log = (finished.run_dir / "log.txt").read_text()
    interval = f"{low:+.4f} to {high:+.4f}"
    assert f"within noise of the best before (95 % interval of the gain {interval})" in log
    caution = (
        f"The best epoch 2 (mAP {second['map']:.4f}) is not better than epoch 1 (mAP {first['map']:.4f}) "
        f"beyond noise: 95 % interval of the difference {interval}."
    )
    assert f"Warning: {caution}" in log
    assert finished.report.warnings[-1] == caution


def test_train__refuses_what_cannot_work_and_writes_nothing(shapes, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="No data are named"):
        train(out=out, quiet=True)
    with pytest.raises(DataError, match="does not exist"):
        run_small(tmp_path / "absent", out)
    with pytest.raises(DataError, match="has no split 'train2017'"):
        run_small(shapes, out, "data.train_split=train2017")
    with pytest.raises(ConfigError, match="are both 'train'"):
        run_small(shapes, out, "data.val_split=train")
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        run_small(shapes, out, "train.precision=fp16")
    with pytest.raises(ConfigError, match="either a configuration or a recipe"):
        train(load_config(), data=shapes, out=out, recipe="laptop", quiet=True)
    with pytest.raises(ConfigError, match="Unknown device 'tpu'"):
        train(data=shapes, out=out, device="tpu", quiet=True)
    assert not out.exists()


def test_train__refuses_a_folder_that_holds_a_run(finished, shapes):
    before = (finished.run_dir / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run: go on with it by --resume"):
        run_small(shapes, finished.run_dir, "train.epochs=7")
    assert (finished.run_dir / "config.toml").read_bytes() == before


def test_train__refuses_data_without_positives(tmp_path):
    from PIL import Image

    rows = ["image,dog,split"]
    for number in range(6):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{int(number < 3)},{'train' if number < 3 else 'val'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"No validation image of .* shows any label"):
        run_small(tmp_path, tmp_path / "run")


def test_train__caches_the_features_of_a_frozen_backbone(shapes, tmp_path):
    frozen = (
        "model.freeze=all", "train.cache_features=true", f"train.cache_dir={tmp_path / 'cache'}",
        "train.cache_views=2", "train.epochs=3",
    )  # fmt: skip
    result = run_small(shapes, tmp_path / "run", *frozen)
    best = max(result.epochs, key=lambda record: record["map"])
    # The cache's plain view is float32: validation from it is validation by the real path.
    assert best["map"] == pytest.approx(result.report.map, abs=1e-9)
    again = run_small(shapes, tmp_path / "again", *frozen, "data.num_workers=2")
    first, second = read_weights(result.best), read_weights(again.best)
    assert all(torch.equal(first[name], second[name]) for name in first)


FROM_PHOTOS = (
    "model.attention=direct", "model.num_encoder_layers=0", "model.feedforward_dim=0", "model.freeze=all",
    "model.start_from_photos=true", "model.feature_norm=true",
)  # fmt: skip


@pytest.mark.parametrize("start", [(), (*FROM_PHOTOS, "model.hidden_dim=256")], ids=["at zero", "photos"])
def test_train__cached_and_uncached_heads_learn_alike_without_augmentation(shapes, tmp_path, start):
    plain = (
        *start,
        "model.freeze=all", "model.dropout=0", "data.augment.flip=0", "data.augment.randaugment_num_ops=0",
        "data.augment.cutout=0", "train.cache_views=1", f"train.cache_dir={tmp_path / 'cache'}",
    )  # fmt: skip
    cached = run_small(shapes, tmp_path / "cached", *plain, "train.cache_features=true")
    uncached = run_small(shapes, tmp_path / "uncached", *plain)
    for one, other in zip(cached.epochs, uncached.epochs, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    assert cached.report.map == pytest.approx(uncached.report.map, abs=1e-3)


def test_train__starts_from_photos_once(shapes, tmp_path, monkeypatch):
    direct = FROM_PHOTOS
    whole = ("model.hidden_dim=256", "train.cache_features=true", f"train.cache_dir={tmp_path / 'cache'}")
    result = run_small(shapes, tmp_path / "run", *direct, *whole)
    said = "3 of 3 labels start near a linear probe of the photos."
    assert said in (tmp_path / "run" / "log.txt").read_text()
    without = run_small(shapes, tmp_path / "without", *direct, *whole, "model.start_from_photos=false")
    assert result.epochs[0]["train_loss"] < without.epochs[0]["train_loss"]

    monkeypatch.setattr(loop, "validate_epoch", failing(loop.validate_epoch, at=2))
    with pytest.raises(OSError, match="power failure"):
        run_small(shapes, tmp_path / "stopped", *direct, *whole)
    monkeypatch.undo()
    resume(tmp_path / "stopped", quiet=True)
    weights, resumed = read_weights(result.best), read_weights(tmp_path / "stopped" / "best")
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())
    assert (tmp_path / "stopped" / "log.txt").read_text().count(said) == 1


def test_train__a_signal_ends_the_start_from_photos(shapes, tmp_path, monkeypatch):
    whole = (*FROM_PHOTOS, "model.hidden_dim=256", "train.cache_features=true")
    cache = f"train.cache_dir={tmp_path / 'cache'}"
    expected = read_weights(run_small(shapes, tmp_path / "whole", *whole, cache).best)
    monkeypatch.setattr(prepare, "start_from_photos", after_a_signal(prepare.start_from_photos))
    message = r"before the first step \(16 of 40 photos were looked at for the start from photos\): go on"
    with pytest.raises(RunInterruptedError, match=message) as interrupted:
        run_small(shapes, tmp_path / "run", *whole, cache)
    assert interrupted.value.exit_code == 128 + signal.SIGTERM
    monkeypatch.undo()
    found = read_weights(resume(tmp_path / "run", quiet=True).best)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def after_a_signal(work):
    """The same, but a signal has come before it begins."""

    def signalled(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return work(*args, **kwargs)

    return signalled


def failing(work, *, at):
    """The same, but for its call number `at`."""
    calls = []

    def counted(*args):
        calls.append(args)
        if len(calls) == at:
            raise OSError("power failure")
        return work(*args)

    return counted


def test_train__a_compiled_network_is_trained_saved_and_evaluated_as_any_other(finished, shapes, tmp_path):
    # The compiler takes minutes: here it hands the network through, so the weights are equal to the bit.
    with torch.compiler.set_stance("force_eager"):
        result = run_small(shapes, tmp_path / "run", "train.compile=true")
    first, second = read_weights(finished.best), read_weights(result.best)
    assert first.keys() == second.keys()
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_train__compile_needs_a_compiler(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"train.compile needs a C\+\+ compiler .*: install g\+\+"):
        train(data=shapes, out=tmp_path / "run", overrides=(*SMALL, "train.compile=true"), device="cpu")
