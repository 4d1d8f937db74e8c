from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional

from query2label.config import ModelConfig
from query2label.data.samples import Dataset, Sample
from query2label.errors import DataError, TrainingError
from query2label.labels import LabelSet
from query2label.models.build import build_model
from query2label.training.distributed import Ranks
from query2label.training.photo_start import probe_rows, standardized, start_from_photos

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


ALONE = Ranks(torch.device("cpu"))


def maps_of(num_photos, channels):
    """Random feature maps of 3 x 4, each channel with a mean and scale of its own."""
    draw = np.random.default_rng(0)
    maps = draw.normal(size=(num_photos, channels, 3, 4)) * draw.uniform(0.1, 9, size=(1, channels, 1, 1))
    return torch.from_numpy(maps + draw.normal(size=(1, channels, 1, 1))).float()


def in_batches(maps, size=16):
    """Maps as training gives them, with the numbers of their photos."""
    for numbers in np.split(np.arange(len(maps)), range(size, len(maps), size)):
        yield maps[torch.from_numpy(numbers)], numbers


def averaged(maps):
    """The standardized averages of maps."""
    return standardized(maps.mean(dim=(2, 3)), maps.var(dim=(2, 3), unbiased=False))


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


def test_standardized__is_what_the_head_sees_in_training():
    maps = maps_of(200, 6)
    seen = nn.BatchNorm2d(6, affine=False).train()(maps).mean(dim=(2, 3))
    torch.testing.assert_close(averaged(maps), seen, rtol=1e-4, atol=1e-5)


def test_standardized__is_exact_for_channels_far_from_0():
    draw = np.random.default_rng(3)
    maps = (30 + 0.01 * draw.normal(size=(100, 2, 3, 4))).astype(np.float32)
    exact = maps.astype(np.float64)
    expected = (exact - exact.mean(axis=(0, 2, 3), keepdims=True)).mean(axis=(2, 3)) / np.sqrt(
        exact.var(axis=(0, 2, 3)) + 1e-5
    )
    np.testing.assert_allclose(averaged(torch.from_numpy(maps)).numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("settings", [{}, {"feature_norm": False}, {"num_decoder_layers": 2}])
def test_start_from_photos__adds_the_probe_to_output_rows_and_nothing_else(settings):
    head = head_of(feedforward_dim=0, **settings)
    maps = maps_of(40, head.output_weight.shape[1])
    with torch.no_grad():
        head.output_weight[0] = 1  # as a name would have it
    before = {name: value.clone() for name, value in head.state_dict().items()}
    train = photos_with(40, 15, 5, 0)
    told = []
    note = start_from_photos(head, in_batches(maps), train, ranks=ALONE, on_progress=told.append)

    assert told == [16, 32, 40]
    assert note == "2 of 3 labels start near a linear probe of the photos; not label 2."
    pooled = averaged(maps) if settings.get("feature_norm", True) else maps.mean(dim=(2, 3))
    normed = functional.layer_norm(pooled, pooled.shape[1:])
    expected = probe_rows(normed, torch.from_numpy(train.targets()))
    lengths = torch.tensor([[0.2 * 15 / 20], [0.2 * 5 / 10], [0]])
    torch.testing.assert_close(head.output_weight - before.pop("output_weight"), lengths * expected)
    for name, value in before.items():
        assert torch.equal(head.state_dict()[name], value), name


def test_start_from_photos__scores_photos_with_a_label_higher():
    head = head_of(1)
    maps = maps_of(40, head.output_weight.shape[1])
    start_from_photos(head, in_batches(maps), photos_with(40, 15), ranks=ALONE)
    logits = head.train()(maps)[:, 0]
    assert logits[:15].min() > logits[15:].max()


def test_start_from_photos__is_the_same_on_several_gpus():
    one, several = head_of(), nn.SyncBatchNorm.convert_sync_batchnorm(head_of())
    assert isinstance(several.feature_norm, nn.SyncBatchNorm)
    maps = maps_of(40, one.output_weight.shape[1])
    for head in (one, several):
        start_from_photos(head, in_batches(maps), photos_with(40, 15, 5, 0), ranks=ALONE)
    assert torch.equal(one.output_weight, several.output_weight)


def test_start_from_photos__goes_by_the_photos_that_are_given():
    """Broken photos are left out, and another one may stand for them."""
    head, without = head_of(1), head_of(1)
    maps = maps_of(40, head.output_weight.shape[1])
    start_from_photos(head, [(maps[1:], np.arange(1, 40))], photos_with(40, 15), ranks=ALONE)
    start_from_photos(without, in_batches(maps[1:]), photos_with(39, 14), ranks=ALONE)
    assert torch.equal(head.output_weight, without.output_weight)

    replaced = head_of(1)
    numbers = np.array([7, *range(1, 40)])  # 7 stands for 0, the only one with the label
    note = start_from_photos(replaced, [(maps, numbers)], photos_with(40, 1), ranks=ALONE)
    assert note == "0 of 1 labels start near a linear probe of the photos; not label 0."
    assert not replaced.output_weight.any()


def test_start_from_photos__needs_a_photo():
    message = r"^No training image of photos can be read: run `q2l data check photos`\.$"
    with pytest.raises(DataError, match=message):
        start_from_photos(head_of(1), [], photos_with(40, 15), ranks=ALONE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_start_from_photos__names_a_photo_whose_features_are_not_finite(value):
    head = head_of(1)
    maps = maps_of(40, head.output_weight.shape[1])
    maps[21, 3, 1, 1] = value
    message = r"^The backbone gives NaN or infinity for 21\.jpg: its weights are damaged, or do not fit it\.$"
    with pytest.raises(TrainingError, match=message):
        start_from_photos(head, in_batches(maps), photos_with(40, 15), ranks=ALONE)
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
    maps = maps_of(40, before.shape[1])
    note = start_from_photos(head, in_batches(maps), photos_with(40, 15, 5, 0), ranks=ALONE)
    assert note == NOT_DIRECT
    assert torch.equal(head.output_weight, before)
