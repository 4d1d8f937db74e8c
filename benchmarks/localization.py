"""Where maps point: attention by layer and head, Grad-CAM, and maps that know nothing, against marked boxes.

    python -m benchmarks.localization --data VOC2012 --model runs/laptop/best runs/linear/best

For each image of the split and each of its labels that has a box, the map of the label is laid over the
image as `q2l explain` does it. Pointing: is the highest place in a box of the label (without tolerance)?
Energy: the share of the map's sum inside these boxes, of the map as it is and as it is drawn (least place 0).
`uniform` is a map without any knowledge, so its energy is the share of the image inside the boxes; `centre`
a Gaussian in the middle, its deviation a quarter of the image's height and width.

`hard` counts only labels whose boxes cover less than a quarter of the image, `predicted` only those that the
model predicts at its thresholds. Intervals are 95 %, from 1,000 resamples of the images. Feature maps of a
frozen backbone are computed once for all models that share it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from query2label.data.load import load_dataset
from query2label.data.samples import Dataset, Sample
from query2label.errors import ConfigError
from query2label.explain.localization import energy_inside, inside_boxes, pointing_game
from query2label.inference.heat import map_on_image, stretched
from query2label.models.build import load_model
from query2label.models.grad_cam import grad_cam
from query2label.models.query2label import Query2Label
from query2label.preprocess import load_image, normalize, resize_image

HARD_BELOW = 0.25
RESAMPLES = 1000


@dataclass
class Found:
    """What one kind of map gave, one entry per image and label."""

    images: list[int] = field(default_factory=list)
    pointing: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    hard: list[bool] = field(default_factory=list)
    predicted: list[bool] = field(default_factory=list)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a data set with boxes")
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="bundles with its labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--quick", action="store_true", help="the first 20 images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(options.data).select(options.split)
    samples = [sample for sample in data.samples if sample.boxes][: 20 if options.quick else None]
    features: dict[str, list[torch.Tensor]] = {}
    for path in options.model:
        model = load_model(path)
        key = backbone_key(model)
        if key not in features:
            features[key] = [feature_map(model, sample) for sample in samples]
        print_table(path, measure(model, data, samples, features[key]), len(samples))


def backbone_key(model: Query2Label) -> str:
    """Equal for models whose feature maps are equal."""
    digest = hashlib.sha256(model.bundle.preprocess.model_dump_json().encode())
    for tensor in model.backbone.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()  # a head with weights is differentiated later, which inference tensors refuse
def feature_map(model: Query2Label, sample: Sample) -> torch.Tensor:
    """Of the backbone, with a batch dimension."""
    spec = model.bundle.preprocess
    pixels = normalize(np.asarray(resize_image(load_image(sample.image_source()), spec)), spec)
    return model.forward_features(torch.from_numpy(pixels[None]))


def measure(
    model: Query2Label, data: Dataset, samples: list[Sample], features: list[torch.Tensor]
) -> dict[str, Found]:
    """What each kind of map gave."""
    found: dict[str, Found] = {}
    bundle = model.bundle
    for number, (sample, feature) in enumerate(zip(samples, features, strict=True)):
        labels = sorted({box.label for box in sample.boxes})
        outputs = [bundle.label_set.index(data.labels.names[label]) for label in labels]
        scores = bundle.scores(model.forward_head(feature).detach().numpy())
        predicted = bundle.predicted(scores)[0]
        image = load_image(sample.image_source())
        size = (image.height, image.width)
        insides = [
            inside_boxes([box for box in sample.boxes if box.label == label], size) for label in labels
        ]
        for name, maps in maps_of(model, feature, outputs):
            kind = found.setdefault(name, Found())
            for cells, output, inside in zip(maps, outputs, insides, strict=True):
                heat, drawn = (
                    map_on_image(each, size, bundle.preprocess, shown=size)
                    for each in (cells, stretched(cells))
                )
                if name == "centre":
                    heat = drawn = centre(size)
                kind.images.append(number)
                kind.pointing.append(pointing_game(heat, inside))
                kind.energy.append(energy_inside(heat, inside))
                kind.drawn.append(energy_inside(drawn if drawn.any() else heat, inside))
                kind.hard.append(bool(inside.mean() < HARD_BELOW))
                kind.predicted.append(bool(predicted[output]))
    return found


def maps_of(
    model: Query2Label, feature: torch.Tensor, outputs: list[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Maps (k, h, w) of some labels by every method that the model has."""
    flat = np.ones((len(outputs), *feature.shape[2:]), dtype=np.float32)
    yield "uniform", flat
    yield "centre", flat
    yield "Grad-CAM", grad_cam(model, feature, outputs)[0].numpy()
    try:
        with torch.inference_mode():
            _, attention = model.head.forward_with_attention(feature)
    except ConfigError:
        return
    layers = attention[:, 0, :, outputs].numpy()  # (L, M, k, h, w)
    for layer in range(len(layers)):
        yield f"attention, layer {layer + 1}, mean of heads", layers[layer].mean(0)
        for head in range(layers.shape[1]):
            yield f"attention, layer {layer + 1}, head {head + 1}", layers[layer, head]
    if len(layers) > 1:
        yield "attention, mean of layers and heads", layers.mean((0, 1))


def centre(size: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle of the image."""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in size)
    return np.exp(-8 * (rows[:, None] ** 2 + columns[None, :] ** 2)).astype(np.float32)


def print_table(path: Path, found: dict[str, Found], num_images: int) -> None:
    """Prints one model's table."""
    first = next(iter(found.values()))
    num_hard, num_predicted = sum(first.hard), sum(first.predicted)
    print(
        f"\n{path}: {num_images} images, {len(first.images)} pairs of image and label, "
        f"{num_hard} of them hard, {num_predicted} predicted\n"
    )
    print("| map | pointing | 95 % interval | hard | predicted | energy | energy as drawn |")
    print("|---|---|---|---|---|---|---|")
    for name, kind in found.items():
        pointing = np.array(kind.pointing)
        low, high = interval(pointing, np.array(kind.images))
        parts = [
            pointing,
            pointing[kind.hard],
            pointing[kind.predicted],
            np.array(kind.energy),
            np.array(kind.drawn),
        ]
        whole, hard, predicted, energy, drawn = (
            f"{100 * part.mean():.1f}" if len(part) else "-" for part in parts
        )
        print(
            f"| {name} | {whole} | {100 * low:.1f} to {100 * high:.1f} | {hard} | {predicted} "
            f"| {energy} | {drawn} |",
            flush=True,
        )


def interval(values: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean, images drawn with replacement."""
    sums, counts = np.bincount(images, values), np.bincount(images)
    drawn = np.random.default_rng(0).integers(0, len(counts), (RESAMPLES, len(counts)))
    means = sums[drawn].sum(1) / np.maximum(1, counts[drawn].sum(1))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
