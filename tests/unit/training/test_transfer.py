import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from query2label.bundle import BUILTIN_PATH, Bundle, save_bundle
from query2label.config import ModelConfig, RunConfig
from query2label.errors import BundleError, ConfigError
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec
from query2label.training.transfer import check_same_form, configure, read_source, transfer

OLD = ("cat", "dog", "horse", "sheep", "cow")
NEW = ("zebra", "horse", "cat", "elk")
SETTINGS = {
    "backbone": "test_resnet", "weights": "none", "hidden_dim": 16, "feedforward_dim": 24, "num_heads": 2,
    "freeze_norm": True,
}  # fmt: skip
SPEC = PreprocessSpec(
    image_size=(64, 96), resize="letterbox", interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(1, 2, 3)
)


def settings(**changes):
    return ModelConfig.model_validate({**SETTINGS, **changes})


def new_model(labels, seed, **changes):
    torch.manual_seed(seed)
    return build_model(settings(**changes), len(labels))


def save_source(folder, labels=OLD, *, spec=SPEC, **changes):
    """A bundle with weights of its own; its model."""
    model = new_model(labels, 1, **changes)
    for value in model.state_dict().values():  # nothing is as a fresh model has it
        value.add_(torch.rand(value.shape) / 9 if value.is_floating_point() else 1)
    thresholds = (0.5,) * len(labels)
    bundle = Bundle(model=settings(**changes), labels=labels, preprocess=spec, thresholds=thresholds)
    save_bundle(bundle, model.state_dict(), folder)
    return model


def moved(folder, labels=NEW, **changes):
    """(model before, model after, what was taken over) of a transfer from the bundle in `folder`."""
    source = read_source(str(folder))
    before, after = new_model(labels, 2, **changes), new_model(labels, 2, **changes)
    return before, after, transfer(after, labels, source, image_size=(64, 96))


def test_configure__without_a_source_only_checks(tmp_path):
    config, source = configure({"optim": {"lr": 0.5}}, where="a test")
    assert (config.optim.lr, config.model, source) == (0.5, RunConfig().model, None)
    with pytest.raises(ConfigError, match=r"Wrong value 3 for model\.start_from in a test"):
        configure({"model": {"start_from": 3}}, where="a test")
    with pytest.raises(ConfigError, match="model in a test is a section, not a setting"):
        configure({"model": 3}, where="a test", start_from=None)


def test_configure__the_source_stands_between_defaults_and_settings(tmp_path, monkeypatch):
    save_source(tmp_path / "source")
    values = {
        "model": {"start_from": "source", "dropout": 0.3, "num_heads": 2},
        "data": {"image_size": 32, "std": [0.5, 0.5, 0.5], "augment": {"flip": 0.1}},
    }
    monkeypatch.chdir(tmp_path)
    config, source = configure(values, where="a test")
    model, data = config.model, config.data
    assert (model.backbone, model.hidden_dim, model.feedforward_dim) == ("test_resnet", 16, 24)
    assert (model.dropout, model.freeze_norm) == (0.3, True)
    assert model.weights == "pretrained"  # where the source's backbone came from is its own business
    assert model.start_from == source.name == str(tmp_path / "source")
    assert (data.image_size, data.resize, data.interpolation) == ((32, 32), "letterbox", "bicubic")
    assert (data.mean, data.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert (data.augment.flip, data.augment.cutout) == (0.1, 0.5)


def test_configure__an_argument_beats_the_setting(tmp_path):
    save_source(tmp_path / "one")
    save_source(tmp_path / "two", hidden_dim=8)
    values = {"model": {"start_from": str(tmp_path / "one")}}
    config, _ = configure(values, where="a test", start_from=tmp_path / "two")
    assert (config.model.hidden_dim, config.model.start_from) == (8, str(tmp_path / "two"))


def test_configure__a_frozen_source_lets_the_features_be_cached(tmp_path):
    save_source(tmp_path / "source", freeze="all")
    values = {"train": {"cache_features": True}}
    config, _ = configure(values, where="a test", start_from=tmp_path / "source")
    assert config.model.freeze == "all"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "test_vit"}, 'model.backbone is "test_vit", but "test_resnet" in {source}, and its'),
        ({"head": "csra"}, 'model.head is "csra", but "query2label" in {source}'),
        ({"hidden_dim": 32}, "model.hidden_dim is 32, but 16 in {source}"),
        ({"hidden_dim": None}, "model.hidden_dim is 96, but 16 in {source}"),
        ({"feedforward_dim": None}, "model.feedforward_dim is 64, but 24 in {source}"),
        ({"num_heads": 4}, "model.num_heads is 4, but 2 in {source}"),
        ({"num_encoder_layers": 0}, "model.num_encoder_layers is 0, but 1 in {source}"),
        ({"num_decoder_layers": 3}, "model.num_decoder_layers is 3, but 2 in {source}"),
        ({"feature_norm": True}, "model.feature_norm is true, but false in {source}"),
        ({"other_self_attention": True}, "model.other_self_attention is true, but false in {source}"),
    ],
)
def test_configure__names_the_setting_that_the_weights_do_not_fit(tmp_path, values, message):
    source = tmp_path / "source"
    save_source(source)
    beginning = re.escape(message.format(source=source))
    with pytest.raises(ConfigError, match=f"^{beginning}.*: leave this setting to the source, or train with"):
        configure({"model": values}, where="a test", start_from=source)


def test_check_same_form__widths_that_come_to_the_same_fit(tmp_path):
    save_source(tmp_path / "source", hidden_dim=None, feedforward_dim=384)
    source = read_source(str(tmp_path / "source"))
    same = {"hidden_dim": 96, "feedforward_dim": None, "backbone": "test_resnet.r160_in1k", "dropout": 0.9}
    check_same_form(RunConfig(model=settings(**same)), source)


def test_read_source__says_what_is_wrong(tmp_path):
    with pytest.raises(BundleError, match=r"model.onnx is an exported file, which learns nothing: give the"):
        read_source(str(BUILTIN_PATH))
    with pytest.raises(BundleError, match=r"There is no bundle at .*nowhere: give the folder"):
        read_source(str(tmp_path / "nowhere"))
    save_source(tmp_path / "run" / "best")
    with pytest.raises(BundleError, match=r"run has no config.json: its bundle is .*best: give that"):
        read_source(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("query2label", ("label_queries", "output_weight", "output_bias")),
        ("linear", ("output_weight", "output_bias")),
        ("csra", ("output_weight", "output_bias")),
    ],
)
def test_transfer__labels_of_the_same_name_keep_their_rows(tmp_path, head, names):
    old = save_source(tmp_path / "source", head=head, feature_norm=True)
    before, after, taken = moved(tmp_path / "source", head=head, feature_norm=True)
    assert (taken.kept, taken.new, taken.dropped) == (
        ("horse", "cat"), ("zebra", "elk"), ("dog", "sheep", "cow"),
    )  # fmt: skip
    assert taken.regrouped == ()
    for name in names:
        theirs, fresh, rows = (getattr(model.head, name) for model in (old, before, after))
        assert torch.equal(rows[1], theirs[2]), name
        assert torch.equal(rows[2], theirs[0]), name
        assert torch.equal(rows[[0, 3]], fresh[[0, 3]]), name
        assert not torch.equal(rows[0], theirs[0]), name
    shared = {name for name in after.state_dict() if name.removeprefix("head.") not in names}
    assert "backbone.model.conv1.0.weight" in shared
    assert "head.feature_norm.running_var" in shared
    for name in shared:
        assert torch.equal(after.state_dict()[name], old.state_dict()[name]), name
        assert not torch.equal(before.state_dict()[name], old.state_dict()[name]), name


def test_transfer__a_kept_label_gets_the_logit_that_it_had(tmp_path):
    old = save_source(tmp_path / "source").eval()
    _, after, _ = moved(tmp_path / "source")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs, ours = old(images), after.eval()(images)
    torch.testing.assert_close(ours[:, [1, 2]], theirs[:, [2, 0]])


def test_transfer__labels_without_any_in_common(tmp_path):
    old = save_source(tmp_path / "source")
    before, after, taken = moved(tmp_path / "source", ("x", "y"))
    assert (taken.kept, taken.new, taken.dropped) == ((), ("x", "y"), OLD)
    assert torch.equal(after.head.label_queries, before.head.label_queries)
    assert torch.equal(after.backbone.model.conv1[0].weight, old.backbone.model.conv1[0].weight)


def test_transfer__ml_decoder_with_a_group_per_label_keeps_all(tmp_path):
    old = save_source(tmp_path / "source", head="ml_decoder").eval()
    before, after, taken = moved(tmp_path / "source", head="ml_decoder")
    assert (taken.kept, taken.regrouped) == (("horse", "cat"), ())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs, ours = old(images), after.eval()(images)
    torch.testing.assert_close(ours[:, [1, 2]], theirs[:, [2, 0]])
    assert torch.equal(after.head.group_queries[0], before.head.group_queries[0])


def test_transfer__ml_decoder_keeps_the_labels_whose_group_stays(tmp_path):
    # The source's groups: (cat, dog), (horse, sheep), (cow). Ours: (elk, cat), (sheep, horse), (cow, dog).
    groups = {"head": "ml_decoder", "ml_decoder_num_groups": 3}
    old = save_source(tmp_path / "source", **groups).eval()
    labels = ("elk", "cat", "sheep", "horse", "cow", "dog")
    before, after, taken = moved(tmp_path / "source", labels, **groups)
    assert taken.kept == ("cat", "sheep", "horse", "cow")
    assert (taken.new, taken.dropped, taken.regrouped) == (("elk",), (), ("dog",))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs, ours = old(images), after.eval()(images)
    torch.testing.assert_close(ours[:, 1:5], theirs[:, [0, 3, 2, 4]])
    for row in (0, 5):
        assert torch.equal(
            after.head.output_weight.flatten(0, 1)[row], before.head.output_weight.flatten(0, 1)[row]
        )
        assert after.head.output_bias[row] == before.head.output_bias[row]
    assert str(taken).endswith(
        "source: 4 labels (cat, sheep, horse, cow) kept; 1 label (elk) new; "
        "1 label (dog) in another group and new; 0 labels not in the data and dropped."
    )


def test_transfer__says_what_became_of_many_labels(tmp_path):
    many = tuple(f"label {number}" for number in range(10))
    save_source(tmp_path / "source", (*many, "b"))
    _, _, taken = moved(tmp_path / "source", ("b", "c"))
    assert str(taken) == (
        f"Starts from {tmp_path / 'source'}: 1 label (b) kept; 1 label (c) new; 10 labels (label 0, label 1, "
        "label 2, label 3, label 4, label 5, label 6, label 7 and 2 more) not in the data and dropped."
    )


def test_transfer__a_backbone_that_is_bound_to_the_image_size(tmp_path):
    save_source(tmp_path / "source", backbone="test_coatnet", spec=PreprocessSpec(image_size=(160, 160)))
    source = read_source(str(tmp_path / "source"))
    model = build_model(settings(backbone="test_coatnet"), 4, image_size=(64, 96))
    message = re.escape(
        f"data.image_size is [64, 96], but [160, 160] in {tmp_path / 'source'}, and the weights of its"
    )
    with pytest.raises(ConfigError, match=message):
        transfer(model, NEW, source, image_size=(64, 96))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.pop("head.decoder_norm.weight"),
            "does not fit the model; missing: decoder_norm.weight",
        ),
        (
            lambda w: w.update({"head.output_bias": torch.zeros(4)}),
            r"another shape: output_bias \(4,\) instead of \(5,\)",
        ),
        (
            lambda w: w.update({"head.label_queries": torch.zeros(5, 8)}),
            r"label_queries \(5, 8\) instead of \(5, 16\)",
        ),
        (lambda w: w.pop("backbone.model.conv1.0.weight"), "missing: model.conv1.0.weight"),
        (lambda w: w.update({"tail": torch.zeros(1)}), "left over: tail"),
    ],
)
def test_transfer__refuses_a_source_whose_weights_are_not_its_own(tmp_path, change, message):
    save_source(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(BundleError, match=message):
        moved(tmp_path / "source")
