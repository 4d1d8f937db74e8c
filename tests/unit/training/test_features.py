"""Cached feature maps: the same numbers as without a cache, and a new key for every change."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from query2label.config import RunConfig, parse_config
from query2label.data.loaders import EvalBatches, TrainBatches
from query2label.data.samples import Dataset, Sample
from query2label.errors import ConfigError, DataError, TrainingError
from query2label.labels import LabelSet
from query2label.models.build import build_model, preprocess_spec
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec
from query2label.training.feature_task import VIEW_SEED, FeatureTask, images_digest, weights_digest
from query2label.training.features import FeatureCache, build_feature_cache, cache_folder

NUM_IMAGES = 11
CPU = torch.device("cpu")


def settings(tmp_path: Path, **train: Any) -> RunConfig:
    values = {
        "model": {"backbone": "test_resnet.r160_in1k", "weights": "none", "freeze": "all", "head": "linear"},
        "data": {"image_size": 64, "num_workers": 0, "max_broken_fraction": 0.5},
        "train": {"cache_features": True, "cache_dir": str(tmp_path / "cache"), "batch_size": 4, **train},
    }
    return parse_config(values, where="test")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Eleven small photos of noise."""
    (tmp_path / "images").mkdir()
    draw = np.random.default_rng(0)
    samples = []
    for index in range(NUM_IMAGES):
        path = tmp_path / "images" / f"{index:02}.png"
        Image.fromarray(draw.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
        samples.append(Sample(path, positive=(index % 2,)))
    return Dataset(LabelSet(["a", "b"]), samples, tmp_path / "images", "sidecar")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Query2Label:
    torch.manual_seed(0)
    return build_model(settings(tmp_path_factory.mktemp("unused")).model, 2)


def spec_of(model: Query2Label, config: RunConfig) -> PreprocessSpec:
    return preprocess_spec(config, model.backbone)


def build(
    model: Query2Label, dataset: Dataset, config: RunConfig, role: str = "train", **rest: Any
) -> FeatureCache:
    return build_feature_cache(
        model,
        dataset,
        spec_of(model, config),
        config,
        role=role,
        device=CPU,
        **rest,  # type: ignore[arg-type]
    )


def keys_of(model: Query2Label, dataset: Dataset, config: RunConfig, role: str = "train") -> list[str]:
    task = FeatureTask(model, dataset, spec_of(model, config), config, role, CPU)  # type: ignore[arg-type]
    return [array_spec.key for array_spec in task.array_specs()]


@pytest.mark.parametrize("role", ["train", "val"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_build_feature_cache__view_0_is_the_evaluation_path(
    model: Query2Label, dataset: Dataset, tmp_path: Path, role: str, num_workers: int
) -> None:
    config = settings(tmp_path)
    config = config.model_copy(update={"data": config.data.model_copy(update={"num_workers": num_workers})})
    cache = build(model, dataset, config, role)
    indices = np.array([7, 0, 10, 7, 3])
    model.eval()
    with torch.no_grad():
        images = torch.cat(
            [batch.images for batch in EvalBatches(dataset, spec_of(model, config), batch_size=11)]
        )
        wanted = model.forward_features(images)
        features = cache.load(indices, 0)
        assert features.dtype == torch.float32
        assert cache.shape == tuple(wanted.shape[1:])
        assert cache.num_views == (2 if role == "train" else 1)
        assert len(cache) == NUM_IMAGES
        torch.testing.assert_close(features, wanted[indices], rtol=1e-6, atol=1e-6)
        scores, wanted_scores = model.forward_head(features).sigmoid(), model(images[indices]).sigmoid()
    torch.testing.assert_close(scores, wanted_scores, rtol=0, atol=1e-6)


def test_build_feature_cache__other_views_are_the_augmentation_of_training(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    config = settings(tmp_path, cache_views=3, seed=5)
    spec = spec_of(model, config)
    cache = build(model, dataset, config)
    everything = np.arange(NUM_IMAGES)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (spec.mean, spec.std))
    model.eval()
    for view in (1, 2):
        (batch,) = TrainBatches(dataset, spec, config.data, batches=[everything], epoch=view, seed=VIEW_SEED)
        with torch.no_grad():
            wanted = model.forward_features((batch.images.float() / 255 - mean) / std)
        features = cache.load(everything, view)
        assert features.dtype == torch.float32
        torch.testing.assert_close(features, wanted, rtol=1e-3, atol=1e-4)
    assert not torch.equal(cache.load(everything, 1), cache.load(everything, 2))
    assert not torch.allclose(cache.load(everything, 0), cache.load(everything, 1), rtol=1e-2, atol=1e-2)


def test_feature_cache__gives_a_view_for_each_index(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    cache = build(model, dataset, settings(tmp_path, cache_views=3))
    indices, views = np.array([4, 9, 4, 0]), np.array([2, 0, 1, 2])
    mixed = cache.load(indices, views)
    for row in range(4):
        assert torch.equal(mixed[row : row + 1], cache.load(indices[row : row + 1], int(views[row])))
    assert cache.load(np.array([], dtype=np.int64)).shape == (0, *cache.shape)
    mixed.zero_()
    assert cache.load(indices, views).abs().sum() > 0


def test_build_feature_cache__computes_nothing_twice(
    model: Query2Label, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(model, dataset, settings(tmp_path))
    features = first.load(np.arange(NUM_IMAGES), 1)
    computed: list[int] = []
    monkeypatch.setattr(FeatureTask, "build", lambda self, writer, view, advance: computed.append(view))
    assert torch.equal(build(model, dataset, settings(tmp_path)).load(np.arange(NUM_IMAGES), 1), features)
    # No view depends on the seed or on how many there are.
    build(model, dataset, settings(tmp_path, seed=3))
    assert computed == []
    build(model, dataset, settings(tmp_path, cache_views=4))
    assert computed == [2, 3]


def test_build_feature_cache__reports_progress_and_goes_on_after_a_stop(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    reports: list[tuple[int, int]] = []

    def stop_at_8(done: int, total: int) -> None:
        reports.append((done, total))
        if done == 8:
            raise KeyboardInterrupt

    config = settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build(model, dataset, config, on_progress=stop_at_8)
    assert reports == [(0, 22), (4, 22), (8, 22)]
    reports.clear()
    interrupted = build(model, dataset, config, on_progress=lambda *report: reports.append(report))
    assert reports == [(8, 22), (11, 22), (11, 22), (15, 22), (19, 22), (22, 22), (22, 22)]
    whole = build(model, dataset, settings(tmp_path / "other"))
    for view in (0, 1):
        everything = np.arange(NUM_IMAGES)
        assert torch.equal(interrupted.load(everything, view), whole.load(everything, view))


def test_build_feature_cache__leaves_the_model_as_it_was(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    model.train()
    before = weights_digest(model)
    modes = [module.training for module in model.modules()]
    build(model, dataset, settings(tmp_path))
    assert weights_digest(model) == before
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("role", ["train", "val"])
def test_build_feature_cache__broken_images_are_named_and_replaced(
    model: Query2Label, dataset: Dataset, tmp_path: Path, role: str
) -> None:
    dataset.samples[2].path.write_bytes(b"not an image")
    for index in (8, 9, 10):  # a whole batch, the last
        dataset.samples[index].path.unlink()
    for _ in range(2):  # computed, then from the cache
        cache = build(model, dataset, settings(tmp_path), role)
        assert list(cache.broken) == [2, 8, 9, 10]
        assert all(cache.broken.values())
        good = [index for index in range(NUM_IMAGES) if index not in cache.broken]
        assert cache.replacement[good].tolist() == good
        for index in cache.broken:
            assert cache.replacement[index] in good
        everything = np.arange(NUM_IMAGES)
        for view in range(cache.num_views):
            assert torch.equal(cache.load(everything, view), cache.load(cache.replacement[everything], view))
            assert bool((cache.load(everything, view).flatten(1).abs().sum(1) > 0).all())


def test_build_feature_cache__too_many_broken_training_images_are_an_error(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    for index in range(1, 7):
        dataset.samples[index].path.write_bytes(b"not an image")
    wanted = r"^\d of 11 images are broken, more than the 50\.0% that data\.max_broken_fraction allows"
    with pytest.raises(DataError, match=wanted):
        build(model, dataset, settings(tmp_path))
    build(model, dataset, settings(tmp_path), "val")  # they are left out, and said
    with pytest.raises(DataError, match=wanted):  # also where the cache has them already
        build(model, dataset, settings(tmp_path))


def test_build_feature_cache__nothing_but_broken_images_is_an_error(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    for sample in dataset.samples:
        sample.path.unlink()
    with pytest.raises(
        DataError, match=r"^No image of .*images can be read: run `q2l data check .*images`\.$"
    ):
        build(model, dataset, settings(tmp_path), "val")


def test_build_feature_cache__too_small_a_bound_says_what_to_set(
    model: Query2Label, dataset: Dataset, tmp_path: Path
) -> None:
    wanted = (
        r"^The feature maps of 11 images in 3 views need (0\.\d{3}) GB, more than train\.cache_max_gb allows "
        r"\(0\.001 GB\): set it to at least \1 GB, or lower train\.cache_views or data\.image_size\.$"
    )
    with pytest.raises(ConfigError, match=wanted):
        build(model, dataset, settings(tmp_path, cache_views=3, cache_max_gb=1e-5))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("view", [0, 1])
def test_build_feature_cache__features_that_are_not_finite_name_the_image(
    dataset: Dataset, tmp_path: Path, view: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path)
    model = build_model(config.model, 2)
    original, calls = Query2Label.forward_features, []

    def forward_features(model: Query2Label, images: torch.Tensor) -> torch.Tensor:
        features = original(model, images)
        calls.append(len(images))
        if len(calls) == 3 + 3 * view:  # one probe, then three batches per view
            features[1, 0, 0, 0] = float("nan")
        return features

    monkeypatch.setattr(Query2Label, "forward_features", forward_features)
    wanted = (
        r"^The backbone gives NaN or infinity for .*05\.png: its weights are damaged, or do not fit test_res"
    )
    with pytest.raises(TrainingError, match=wanted):
        build(model, dataset, config)


def test_build_feature_cache__features_too_large_for_16_bits_are_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path)
    model = build_model(config.model, 2)
    original = Query2Label.forward_features
    monkeypatch.setattr(
        Query2Label, "forward_features", lambda model, images: original(model, images).clamp(min=0) + 70_000
    )
    wanted = (
        r"^The feature map of .*00\.png has values up to 7e\+04, too large for the cache's 16-bit numbers: "
        r"set train\.cache_views=1 or train\.cache_features=false\.$"
    )
    with pytest.raises(TrainingError, match=wanted):
        build(model, dataset, config)
    build(model, dataset, settings(tmp_path, cache_views=1))


Change = Callable[[RunConfig], RunConfig]


def changed(section: str, **values: Any) -> Change:
    return lambda config: config.model_copy(
        update={section: getattr(config, section).model_copy(update=values)}
    )


def augmented(**values: Any) -> Change:
    def change(config: RunConfig) -> RunConfig:
        augment = config.data.augment.model_copy(update=values)
        return config.model_copy(update={"data": config.data.model_copy(update={"augment": augment})})

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("data", image_size=(64, 96)),
        changed("data", resize="crop"),
        changed("data", interpolation="bicubic"),
        changed("data", mean=(0.4, 0.4, 0.4)),
        changed("data", std=(0.4, 0.4, 0.4)),
        changed("model", backbone="test_resnet"),
        changed("model", output_stride=16),
    ],
)
def test_key__changes_with_what_the_model_sees(
    model: Query2Label, dataset: Dataset, tmp_path: Path, change: Change
) -> None:
    config = settings(tmp_path)
    old, new = keys_of(model, dataset, config), keys_of(model, dataset, change(config))
    assert not {*old} & {*new}
    assert len({*old}) == 2


@pytest.mark.parametrize(
    "change",
    [
        augmented(flip=0.25),
        augmented(crop_min_area=0.5),
        augmented(randaugment_num_ops=1),
        augmented(randaugment_magnitude=3),
        augmented(cutout=0.25),
    ],
)
def test_key__of_augmented_views_changes_with_augmentation(
    model: Query2Label, dataset: Dataset, tmp_path: Path, change: Change
) -> None:
    config = settings(tmp_path)
    old, new = keys_of(model, dataset, config), keys_of(model, dataset, change(config))
    assert old[0] == new[0]
    assert old[1] != new[1]


@pytest.mark.parametrize(
    "change",
    [
        changed("optim", lr=1.0),
        changed("train", epochs=3, batch_size=8, cache_max_gb=1.0, precision="bf16"),
        changed("data", num_workers=2),
        changed(
            "model",
            head="csra",
            attention="direct",
            feature_norm=True,
            freeze_norm=True,
            weights="pretrained",
            hidden_dim=8,
            num_heads=2,
        ),
    ],
)
def test_key__stays_where_nothing_depends_on_the_change(
    model: Query2Label, dataset: Dataset, tmp_path: Path, change: Change
) -> None:
    config = settings(tmp_path)
    assert keys_of(model, dataset, config) == keys_of(model, dataset, change(config))


def test_key__changes_with_the_weights(model: Query2Label, dataset: Dataset, tmp_path: Path) -> None:
    config = settings(tmp_path)
    other = build_model(config.model, 2)
    other.load_state_dict(model.state_dict())
    assert keys_of(other, dataset, config) == keys_of(model, dataset, config)
    with torch.no_grad():
        next(iter(other.head.parameters())).add_(1)
    assert keys_of(other, dataset, config) == keys_of(model, dataset, config)
    with torch.no_grad():
        next(iter(other.backbone.parameters())).flatten()[0].add_(1e-6)
    assert not {*keys_of(other, dataset, config)} & {*keys_of(model, dataset, config)}


def _touch(dataset: Dataset) -> Dataset:
    status = dataset.samples[3].path.stat()
    os.utime(dataset.samples[3].path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    return dataset


def _grow(dataset: Dataset) -> Dataset:
    path = dataset.samples[3].path
    status = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return dataset


def _lose(dataset: Dataset) -> Dataset:
    dataset.samples[3].path.unlink()
    return dataset


def _rename(dataset: Dataset) -> Dataset:
    renamed = dataset.samples[3].path.with_name("other.png")
    dataset.samples[3].path.rename(renamed)
    samples = [*dataset.samples]
    samples[3] = replace(samples[3], path=renamed)
    return replace(dataset, samples=samples)


@pytest.mark.parametrize(
    "change",
    [
        _touch,
        _grow,
        _lose,
        _rename,
        lambda dataset: replace(dataset, samples=[*dataset.samples][::-1]),
        lambda dataset: replace(dataset, samples=[*dataset.samples][:-1]),
    ],
)
def test_key__changes_with_the_images(
    model: Query2Label, dataset: Dataset, tmp_path: Path, change: Callable[[Dataset], Dataset]
) -> None:
    config = settings(tmp_path)
    old = keys_of(model, dataset, config)
    assert not {*old} & {*keys_of(model, change(dataset), config)}


def test_images_digest__does_not_depend_on_labels(dataset: Dataset) -> None:
    relabelled = replace(dataset, samples=[replace(sample, positive=()) for sample in dataset.samples])
    assert images_digest(relabelled) == images_digest(dataset)


def test_cache_folder__is_the_setting_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unset = RunConfig().train
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(unset) == tmp_path / ".cache" / "query2label" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    assert cache_folder(unset) == tmp_path / ".cache" / "query2label" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(unset) == tmp_path / "xdg" / "query2label" / "features"
    assert cache_folder(unset.model_copy(update={"cache_dir": Path("~/mine")})) == tmp_path / "mine"
