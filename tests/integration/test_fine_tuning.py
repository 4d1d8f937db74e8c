"""Runs that start from a trained model, whose labels are partly others."""

import json
import os
import shutil
import signal

import pytest
import torch
from tests.integration.conftest import TINY_MODEL

from query2label.bundle import read_bundle, read_weights
from query2label.config import load_config
from query2label.errors import ConfigError
from query2label.training import loop
from query2label.training.checkpoint import load_checkpoint
from query2label.training.distributed import Ranks
from query2label.training.run import resume, train
from query2label.training.signals import RunInterruptedError
from query2label.training.start import build_start, label_prior
from query2label.training.transfer import configure

QUICK = ("data.num_workers=0", "train.epochs=1", "train.batch_size=16", "data.augment.randaugment_num_ops=0")
DIRECT = (
    "model.backbone=test_efficientnet", "model.weights=none", "model.feature_norm=true", "data.image_size=32",
    "model.attention=direct", "model.feedforward_dim=0", "model.num_encoder_layers=0", "model.freeze=all",
    "train.cache_features=true", "optim.lr=1e-2",
)  # fmt: skip


def run(data, out, *overrides, **kwargs):
    return train(data=data, out=out, overrides=(*QUICK, *overrides), device="cpu", quiet=True, **kwargs)


@pytest.fixture(scope="module")
def source(shapes, tmp_path_factory):
    return run(shapes, tmp_path_factory.mktemp("source") / "run", *TINY_MODEL, "data.resize=letterbox").best


@pytest.fixture(scope="module")
def renamed(shapes, tmp_path_factory):
    """The images of `shapes` whose first label is now called azure."""
    data = shutil.copytree(shapes, tmp_path_factory.mktemp("renamed") / "data")
    table = data / "labels.csv"
    table.write_text(table.read_text().replace(names(shapes)[0], "azure"))
    return data


def names(data):
    from query2label.data.load import load_dataset

    return load_dataset(data).labels.names


def same_weights(one, other):
    first, second = (load_checkpoint(folder / "last").tensors for folder in (one, other))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_start__before_the_first_step_known_labels_have_their_rows(source, renamed):
    settings = {"data": {"path": renamed}, "train": {"seed": 5}}
    config, taken = configure(settings, where="a test", start_from=source)
    start = build_start(config, ranks=Ranks(torch.device("cpu")), load_weights=True, source=taken)
    old, head = read_weights(source), start.model.head
    new_names, old_names = names(renamed), read_bundle(source).labels
    gone = next(label for label in old_names if label not in new_names)
    for row, label in enumerate(new_names):
        rows = (head.label_queries[row], head.output_weight[row], head.output_bias[row])
        place = old_names.index(label if label in old_names else gone)
        theirs = [old[f"head.{name}"][place] for name in ("label_queries", "output_weight", "output_bias")]
        same = [torch.equal(mine, his) for mine, his in zip(rows, theirs, strict=True)]
        assert same == [label != "azure"] * 3
    prior = label_prior(start.data.train.targets())[new_names.index("azure")]
    torch.testing.assert_close(head.output_bias[new_names.index("azure")], torch.logit(prior))
    backbone = start.model.backbone.state_dict()
    assert all(torch.equal(value, old[f"backbone.{name}"]) for name, value in backbone.items())
    assert start.spec == read_bundle(source).preprocess
    assert start.spec.resize == "letterbox"


def test_train__from_a_model_says_and_records_it(source, renamed, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    result = run(renamed, tmp_path / "run", "optim.lr=1e-12", start_from="best")
    old = read_bundle(source)
    gone = next(label for label in old.labels if label not in names(renamed))
    kept = ", ".join(label for label in names(renamed) if label != "azure")
    said = f"Starts from {source}: 2 labels ({kept}) kept; 1 label (azure) new; 1 label ({gone}) not in the"
    assert said in (tmp_path / "run" / "log.txt").read_text()
    assert load_config(tmp_path / "run" / "config.toml").model.start_from == str(source)
    bundle = read_bundle(result.best)
    assert bundle.model.start_from == bundle.run["model"]["start_from"] == "best"
    assert bundle.labels == names(renamed)
    for name in ("config.json", "README.md"):
        assert str(source.parent) not in (result.best / name).read_text()
    # With next to no learning, what comes out is what went in.
    row, place = names(renamed).index(kept.partition(",")[0]), old.labels.index(kept.partition(",")[0])
    torch.testing.assert_close(
        read_weights(result.best)["head.label_queries"][row],
        read_weights(source)["head.label_queries"][place],
    )


def test_train__a_model_on_the_hub_keeps_its_name(source, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr("query2label.training.transfer.resolve_bundle_path", lambda name: source)
    result = run(shapes, tmp_path / "run", "model.start_from=owner/name")
    assert load_config(tmp_path / "run" / "config.toml").model.start_from == "owner/name"
    assert read_bundle(result.best).model.start_from == "owner/name"


def test_train__learns_on_from_where_the_source_was(shapes, tmp_path):
    slow = (*TINY_MODEL, "train.epochs=12", "data.augment.cutout=0", "optim.lr=3e-3", "train.ema_decay=0.9")
    good = run(shapes, tmp_path / "source", *slow, "optim.backbone_lr_scale=1.0")
    further = run(
        shapes, tmp_path / "further", "data.augment.cutout=0", "optim.lr=1e-5", start_from=good.best
    )
    scratch = run(shapes, tmp_path / "scratch", *TINY_MODEL, "data.augment.cutout=0", "optim.lr=1e-5")
    assert further.report.map > good.report.map - 0.03
    assert further.report.map > scratch.report.map + 0.1


@pytest.mark.parametrize("step", [0, 1, 4])
def test_resume__of_a_run_from_a_model_is_exact(source, renamed, tmp_path, monkeypatch, step):
    whole = run(renamed, tmp_path / "whole", "train.epochs=2", start_from=source)
    copy = shutil.copytree(source, tmp_path / "copy")
    _stop_at(monkeypatch, step)
    with pytest.raises((RunInterruptedError, OSError)):
        run(renamed, tmp_path / "run", "train.epochs=2", start_from=copy)
    monkeypatch.undo()
    if step:
        shutil.rmtree(copy)  # the checkpoint has all of it
    resume(tmp_path / "run", quiet=True)
    same_weights(tmp_path / "run", whole.run_dir)


def _stop_at(monkeypatch, step):
    """Ends the run in step `step`: by a signal, or before any checkpoint by an error."""
    take_step, done = loop.take_step, []

    def counted(*args, **kwargs):
        if not step:
            raise OSError("power failure")
        done.append(step)
        if len(done) == step:
            os.kill(os.getpid(), signal.SIGTERM)
            kwargs["stop_signal"] = signal.SIGTERM
        return take_step(*args, **kwargs)

    monkeypatch.setattr(loop, "take_step", counted)


def test_train__from_a_model_with_a_frozen_backbone_keeps_its_cache(shapes, renamed, tmp_path):
    cache = f"train.cache_dir={tmp_path / 'cache'}"
    old = run(shapes, tmp_path / "old", *DIRECT, cache)
    entries = sorted((tmp_path / "cache").glob("*/manifest.json"))
    assert entries
    again = run(
        *(shapes, tmp_path / "again", "train.cache_features=true", "model.start_from_photos=true", cache),
        start_from=old.best,
    )
    said = "Labels do not start from photos, but from the model that was named."
    assert said in (tmp_path / "again" / "log.txt").read_text()
    assert sorted((tmp_path / "cache").glob("*/manifest.json")) == entries  # the backbone is the same one
    new = run(renamed, tmp_path / "new", "train.cache_features=true", cache, start_from=old.best)
    backbones = [
        {name: value for name, value in read_weights(result.best).items() if name.startswith("backbone.")}
        for result in (old, again, new)
    ]
    assert all(torch.equal(value, other[name]) for other in backbones for name, value in backbones[0].items())
    best = max(new.epochs, key=lambda record: record["map"])
    assert best["map"] == pytest.approx(new.report.map, abs=1e-9)  # cached features are those of the model


def test_train__from_a_checkpoint_of_the_authors(shared_dir, shapes, tmp_path):
    case = json.loads((shared_dir / "golden" / "R18-96-plain.json").read_text())
    weights = {name: torch.rand(shape) / 99 for name, shape in case["keys"].items()}
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "checkpoint.pkl")
    data = shutil.copytree(shapes, tmp_path / "data")
    table = (data / "labels.csv").read_text().replace(names(shapes)[1], "label 3")  # 80 have names of MS-COCO
    (data / "labels.csv").write_text(table)
    result = run(data, tmp_path / "run", "optim.lr=1e-12", start_from=tmp_path / "checkpoint.pkl")
    said = "checkpoint.pkl: 1 label (label 3) kept; 2 labels"
    assert said in (tmp_path / "run" / "log.txt").read_text()
    bundle, found = read_bundle(result.best), read_weights(result.best)
    row = bundle.labels.index("label 3")
    assert (bundle.model.backbone.partition(".")[0], bundle.model.start_from) == (
        "resnet18",
        "checkpoint.pkl",
    )
    assert bundle.preprocess.image_size == (96, 96)
    torch.testing.assert_close(found["head.label_queries"][row], weights["query_embed.weight"][3])
    torch.testing.assert_close(found["head.output_weight"][row], weights["fc.W"][0, 3])
    torch.testing.assert_close(found["head.output_bias"][row], weights["fc.b"][0, 3])
    torch.testing.assert_close(
        found["backbone.model.layer4.0.conv1.weight"], weights["backbone.0.body.layer4.0.conv1.weight"]
    )


def test_train__from_a_model_of_another_form_writes_nothing(source, shapes, tmp_path):
    with pytest.raises(
        ConfigError, match=r"model\.hidden_dim is 32, but 16 in .*best, and its weights fit no"
    ):
        run(shapes, tmp_path / "run", "model.hidden_dim=32", start_from=source)
    assert not (tmp_path / "run").exists()
