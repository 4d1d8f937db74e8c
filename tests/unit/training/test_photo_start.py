import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional

from query2label.config import ModelConfig
from query2label.data.samples import Dataset, Sample
from query2label.labels import LabelSet
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
    "Labels do not start from photos: model.start_from_photos is for the head query2label with "
    'model.attention = "direct" on all channels.'
)


def a_cache(num_photos, channels, broken=None):
    """Random feature maps of 3 x 4, each channel with a mean and scale of its own."""
    draw = np.random.default_rng(0)
    maps = draw.normal(size=(num_photos, channels, 3, 4)) * draw.uniform(0.1, 9, size=(1, channels, 1, 1))
    maps += draw.normal(size=(1, channels, 1, 1))
    entry = Entry(maps.astype(np.float32), {}, os.open(os.devnull, os.O_RDONLY))
    return FeatureCache([entry], broken=broken or {})


def photos_with(num_photos, *shown):
    """Photos of which the first so many show each label."""
    samples = [
        Sample(Path(f"{index}.jpg"), positive=tuple(k for k, count in enumerate(shown) if index < count))
        for index in range(num_photos)
    ]
    labels = LabelSet([f"label {k}" for k in range(len(shown))])
    return Dataset(labels=labels, samples=samples, source=Path("photos"), format="table")


def head_of(num_labels=3, **settings):
    torch.manual_seed(0)
    return build_model(ModelConfig.model_validate({**DIRECT, **settings}), num_labels).head


def as_targets(*rows):
    return torch.tensor(rows, dtype=torch.int8)


@pytest.mark.parametrize("num_photos", [30, 300])
def test_probe_rows__points_where_ridge_regression_does(num_photos):
    draw = np.random.default_rng(1)
    features = draw.normal(size=(num_photos, 50))
    targets = draw.integers(0, 2, size=(num_photos, 4))
    rows = probe_rows(torch.from_numpy(features).float(), torch.from_numpy(targets).to(torch.int8)).numpy()

    ridge = Ridge(alpha=features.var(axis=0).sum()).fit(features, targets)
    expected = ridge.coef_ / np.linalg.norm(ridge.coef_, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_probe_rows__compares_known_photos_only():
    features = torch.tensor([[2.0, 0], [0, 0], [-2, 0], [0, 3], [0, -3], [0, 3], [0, -3]])
    one_side_unknown = as_targets([1], [0], [0], [-1], [0], [-1], [0])
    as_negative = torch.where(one_side_unknown < 0, 0, one_side_unknown)
    row = probe_rows(features, one_side_unknown)[0]
    assert row[1] > 0.1  # away from the known ones without it
    assert abs(probe_rows(features, as_negative)[0, 1]) < 1e-6


def test_probe_rows__is_0_without_photos_on_both_sides():
    features = torch.tensor([[2.0, 0], [0, 1], [-2, 0]])
    assert not probe_rows(features, as_targets([1, 0, -1], [1, 0, -1], [1, 0, -1])).any()


@pytest.mark.parametrize("num_photos", [1, 5, 7, 11])
def test_probe_rows__is_0_where_photos_look_the_same(num_photos):
    features = torch.randn(1, 5, generator=torch.Generator().manual_seed(2)).expand(num_photos, 5)
    targets = as_targets([1, 0], *[[0, 1]] * (num_photos - 1))
    assert not probe_rows(features, targets).any()


def test_averaged_features__is_what_the_head_sees_in_training():
    cache = a_cache(200, 6)
    maps = cache.load(np.arange(200))
    seen = nn.BatchNorm2d(6, affine=False).train()(maps).mean(dim=(2, 3))
    torch.testing.assert_close(averaged_features(cache, standardized=True), seen, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(averaged_features(cache, standardized=False), maps.mean(dim=(2, 3)))


def test_averaged_features__is_exact_for_channels_far_from_0():
    draw = np.random.default_rng(3)
    maps = (30 + 0.01 * draw.normal(size=(100, 2, 3, 4))).astype(np.float32)
    cache = FeatureCache([Entry(maps, {}, os.open(os.devnull, os.O_RDONLY))], broken={})
    exact = maps.astype(np.float64)
    expected = (exact - exact.mean(axis=(0, 2, 3), keepdims=True)).mean(axis=(2, 3)) / np.sqrt(
        exact.var(axis=(0, 2, 3)) + 1e-5
    )
    found = averaged_features(cache, standardized=True).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("settings", [{}, {"feature_norm": False}, {"num_decoder_layers": 2}])
def test_start_from_photos__adds_the_probe_to_output_rows_and_nothing_else(settings):
    head = head_of(feedforward_dim=0, **settings)
    cache = a_cache(40, head.output_weight.shape[1])
    with torch.no_grad():
        head.output_weight[0] = 1  # as a name would have it
    before = {name: value.clone() for name, value in head.state_dict().items()}
    train = photos_with(40, 15, 5, 0)
    note = start_from_photos(head, cache, train)

    assert note == "2 of 3 labels start near a linear probe of the photos; not label 2."
    pooled = averaged_features(cache, standardized=settings.get("feature_norm", True))
    normed = functional.layer_norm(pooled, pooled.shape[1:])
    expected = probe_rows(normed, torch.from_numpy(train.targets()))
    lengths = torch.tensor([[0.2 * 15 / 20], [0.2 * 5 / 10], [0]])
    torch.testing.assert_close(head.output_weight - before.pop("output_weight"), lengths * expected)
    for name, value in before.items():
        assert torch.equal(head.state_dict()[name], value), name


def test_start_from_photos__scores_photos_with_a_label_higher():
    head = head_of(1)
    cache = a_cache(40, head.output_weight.shape[1])
    start_from_photos(head, cache, photos_with(40, 15))
    logits = head.train()(cache.load(np.arange(40)))[:, 0]
    assert logits[:15].min() > logits[15:].max()


def test_start_from_photos__is_the_same_on_several_gpus():
    one, several = head_of(), nn.SyncBatchNorm.convert_sync_batchnorm(head_of())
    assert isinstance(several.feature_norm, nn.SyncBatchNorm)
    cache = a_cache(40, one.output_weight.shape[1])
    for head in (one, several):
        start_from_photos(head, cache, photos_with(40, 15, 5, 0))
    assert torch.equal(one.output_weight, several.output_weight)


def test_start_from_photos__leaves_targets_of_broken_photos_out():
    head = head_of(1)
    cache = a_cache(40, head.output_weight.shape[1], broken={0: "truncated"})
    note = start_from_photos(head, cache, photos_with(40, 1))  # of a photo that another one stands for
    assert note == "0 of 1 labels start near a linear probe of the photos; not label 0."
    assert not head.output_weight.any()


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "linear"},
        {"head": "csra"},
        {"attention": "projected"},
        {"hidden_dim": 32},
        {"keep_input_projection": True},
    ],
)
def test_start_from_photos__leaves_heads_it_is_not_for_as_they_are(settings):
    head = head_of(**settings)
    before = head.output_weight.detach().clone()
    note = start_from_photos(head, a_cache(40, before.shape[1]), photos_with(40, 15, 5, 0))
    assert note == NOT_DIRECT
    assert torch.equal(head.output_weight, before)
