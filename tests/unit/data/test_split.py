import time
from pathlib import Path

import numpy as np
import pytest

from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Sample
from query2label.data.split import stratified_split
from query2label.errors import DataError
from query2label.labels import LabelSet


def a_dataset(num_images: int, num_labels: int, *, seed: int = 0) -> Dataset:
    """Long-tailed random labels: label k is in about 1 / (k + 2) of the images."""
    rng = np.random.default_rng(seed)
    present = rng.random((num_images, num_labels)) < 1 / (np.arange(num_labels) + 2)
    samples = [
        Sample(Path(f"{place}.jpg"), tuple(map(int, np.flatnonzero(row))))
        for place, row in enumerate(present)
    ]
    return Dataset(LabelSet([f"label{k}" for k in range(num_labels)]), samples, Path("x"), "table")


def distance(dataset: Dataset, fractions: dict[str, float]) -> float:
    """Mean deviation of a label's share in a split from the wanted one, relative to it."""
    total = (dataset.targets() == 1).sum(axis=0)
    deviations = [
        np.abs((dataset.select(split).targets() == 1).sum(axis=0) / total - share) / share
        for split, share in fractions.items()
    ]
    return float(np.mean(deviations))


FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    names = rng.choice(list(FRACTIONS), size=len(dataset), p=list(FRACTIONS.values()))
    samples = [
        Sample(sample.path, sample.positive, split=str(name))
        for sample, name in zip(dataset.samples, names, strict=True)
    ]
    return Dataset(dataset.labels, samples, dataset.source, dataset.format)


def test_stratified_split__keeps_the_shares_of_labels_far_better_than_chance() -> None:
    dataset = a_dataset(600, 40)
    divided = stratified_split(dataset, FRACTIONS, seed=0)
    chance = np.mean([distance(shuffled(dataset, seed), FRACTIONS) for seed in range(20)])
    assert distance(divided, FRACTIONS) < 0.4 * chance


def test_stratified_split__on_garments(ccp: Path) -> None:
    dataset = load_dataset(ccp)
    divided = stratified_split(dataset, FRACTIONS, seed=1)
    chance = np.mean([distance(shuffled(dataset, seed), FRACTIONS) for seed in range(5)])
    assert distance(divided, FRACTIONS) < 0.5 * chance
    sizes = [len(divided.select(split)) / len(divided) for split in FRACTIONS]
    assert sizes == pytest.approx(list(FRACTIONS.values()), abs=0.02)


def test_stratified_split__gives_every_image_one_split_and_keeps_the_rest() -> None:
    dataset = a_dataset(200, 10)
    divided = stratified_split(dataset, {"a": 0.5, "b": 0.5}, seed=0)
    assert [sample.path for sample in divided.samples] == [sample.path for sample in dataset.samples]
    assert [sample.positive for sample in divided.samples] == [sample.positive for sample in dataset.samples]
    assert {sample.split for sample in divided.samples} == {"a", "b"}
    # With even halves no label is off by more than its odd image and those it shares with rarer labels.
    counts = [(divided.select(split).targets() == 1).sum(axis=0) for split in "ab"]
    assert np.abs(counts[0] - counts[1]).max() <= 3


def test_stratified_split__is_decided_by_the_seed() -> None:
    dataset = a_dataset(100, 5)
    first, same, other = (stratified_split(dataset, FRACTIONS, seed=seed) for seed in (3, 3, 4))
    assert first.samples == same.samples
    assert first.samples != other.samples


def test_stratified_split__deals_out_images_without_labels() -> None:
    samples = [Sample(Path(f"{place}.jpg")) for place in range(100)]
    divided = stratified_split(Dataset(LabelSet(["dog"]), samples, Path("x"), "table"), FRACTIONS)
    assert [len(divided.select(split)) for split in FRACTIONS] == [80, 10, 10]


@pytest.mark.parametrize(
    "fractions", [{"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}, {}, {" ": 1.0}, {"a": float("nan")}]
)
def test_stratified_split__refuses_fractions(fractions: dict[str, float]) -> None:
    with pytest.raises(DataError, match="have to be above 0, with names, and add up to 1"):
        stratified_split(a_dataset(10, 2), fractions)


def test_stratified_split__refuses_too_few_images() -> None:
    with pytest.raises(DataError, match="2 images are too few for the splits"):
        stratified_split(a_dataset(2, 2), FRACTIONS)


def test_stratified_split__divides_20000_images_with_80_labels_in_seconds() -> None:
    dataset = a_dataset(20_000, 80)
    start = time.perf_counter()
    divided = stratified_split(dataset, FRACTIONS)
    assert time.perf_counter() - start < 30
    assert distance(divided, FRACTIONS) < 0.02
