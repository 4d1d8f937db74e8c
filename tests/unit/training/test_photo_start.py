import os

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from query2label.config import ModelConfig
from query2label.models.build import build_model
from query2label.training.feature_entry import Entry
from query2label.training.features import FeatureCache
from query2label.training.photo_start import averaged_features, probe_rows, start_from_photos

DIRECT = {
    "backbone": "test_resnet",
    "weights": "none",
    "attention": "direct",
    "num_encoder_layers": 0,
    "num_decoder_layers": 1,
    "feature_norm": True,
}
NOT_DIRECT = (
    "Photos are not asked for a start: model.start_from_photos is for the head query2label with "
    'model.attention = "direct" on all channels.'
)


def a_cache(num_photos, channels, broken=None):
    """Random feature maps of 3 x 4, each channel with a mean and scale of its own."""
    draw = np.random.default_rng(0)
    maps = draw.normal(size=(num_photos, channels, 3, 4)) * draw.uniform(0.1, 9, size=(1, channels, 1, 1))
    maps += draw.normal(size=(1, channels, 1, 1))
    entry = Entry(maps.astype(np.float32), {}, os.open(os.devnull, os.O_RDONLY))
    return FeatureCache([entry], broken=broken or {})


def head_of(num_labels=3, **settings):
    return build_model(ModelConfig.model_validate({**DIRECT, **settings}), num_labels).head


@pytest.mark.parametrize("num_photos", [30, 300])
def test_probe_rows__points_where_ridge_regression_does(num_photos):
    draw = np.random.default_rng(1)
    features = draw.normal(size=(num_photos, 50))
    targets = draw.integers(0, 2, size=(num_photos, 4))
    rows = probe_rows(torch.from_numpy(features).float(), torch.from_numpy(targets).to(torch.int8)).numpy()

    ridge = Ridge(alpha=features.var(axis=0).sum()).fit(features, targets)
    expected = ridge.coef_ / np.linalg.norm(ridge.coef_, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_probe_rows__asks_known_photos_only():
    features = torch.tensor([[2.0, 0], [0, 0], [-2, 0], [0, 3], [0, -3]])
    unknown_is_left_out = torch.tensor([[1, 1], [0, 0], [0, 0], [-1, 0], [-1, 0]], dtype=torch.int8)
    rows = probe_rows(features, unknown_is_left_out)
    torch.testing.assert_close(rows[0], torch.tensor([1.0, 0]))
    assert probe_rows(features, torch.tensor([[1, 0, -1]] * 5, dtype=torch.int8)).tolist() == [[0, 0]] * 3


def test_probe_rows__has_no_direction_where_photos_look_the_same():
    targets = torch.tensor([[1, 0], [0, 1], [0, 0]], dtype=torch.int8)
    assert not probe_rows(torch.ones(3, 5), targets).any()
    assert not probe_rows(torch.ones(1, 5), targets[:1]).any()


def test_averaged_features__is_what_the_head_sees_in_training():
    cache = a_cache(200, 6)
    norm = nn.BatchNorm2d(6, affine=False).train()
    seen = norm(cache.load(np.arange(200))).mean(dim=(2, 3))
    torch.testing.assert_close(averaged_features(cache, norm), seen, rtol=1e-4, atol=1e-5)
    raw = cache.load(np.arange(200)).mean(dim=(2, 3))
    torch.testing.assert_close(averaged_features(cache, nn.Identity()), raw)


def test_start_from_photos__adds_to_output_rows_and_nothing_else():
    head = head_of()
    channels = head.output_weight.shape[1]
    with torch.no_grad():
        head.output_weight[0] = 1  # as a name would have it
    before = {name: value.clone() for name, value in head.state_dict().items()}
    targets = np.zeros((40, 3), np.int8)
    targets[:15, 0] = targets[:5, 1] = 1
    note = start_from_photos(head, a_cache(40, channels), targets)

    assert note == "2 of 3 labels start towards a linear probe of the photos."
    added = head.output_weight.detach() - before.pop("output_weight")
    torch.testing.assert_close(added.norm(dim=1), torch.tensor([0.2 * 15 / 20, 0.2 * 5 / 10, 0]))
    for name, value in before.items():
        assert torch.equal(head.state_dict()[name], value), name


def test_start_from_photos__leaves_targets_of_broken_photos_out():
    channels = head_of().output_weight.shape[1]
    cache = a_cache(40, channels, broken={0: "truncated"})
    targets = np.zeros((40, 1), np.int8)
    targets[0] = 1  # of a photo that cannot be read, which another one stands for
    head = head_of(1)
    assert start_from_photos(head, cache, targets).startswith("0 of 1 labels start")
    assert not head.output_weight.any()


@pytest.mark.parametrize(
    "settings",
    [{"head": "linear"}, {"head": "csra"}, {"attention": "projected", "hidden_dim": 32}, {"hidden_dim": 32}],
)
def test_start_from_photos__leaves_heads_it_is_not_for_as_they_are(settings):
    head = head_of(**settings)
    before = head.output_weight.detach().clone()
    note = start_from_photos(head, a_cache(40, 64), np.zeros((40, 3), np.int8))
    assert note == NOT_DIRECT
    assert torch.equal(head.output_weight, before)
