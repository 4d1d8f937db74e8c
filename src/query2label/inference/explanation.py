"""Where a model looked for the labels of one image: maps of numbers, and ways to see and keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image

from query2label.errors import ConfigError
from query2label.inference.drawing import LabelScore
from query2label.inference.heat import MAX_SHOWN_PX, drawn_map, map_on_image, overlay
from query2label.inference.notebook import pictures_html
from query2label.inference.prediction import PICTURE_FORMATS, Prediction
from query2label.preprocess import PreprocessSpec
from query2label.storage import atomic_file

MapMethod = Literal["attention", "gradcam"]
LayerChoice = int | Literal["mean"]
"""A decoder layer, counted from 1, or the mean of all."""
HeadChoice = int | Literal["mean", "each"]
"""An attention head, counted from 1, or the mean of all; `each` gives their maps as well."""
METHOD_NAMES: Final[dict[MapMethod, str]] = {"attention": "attention", "gradcam": "Grad-CAM"}
"""For people to read."""
_NOTEBOOK_PX: Final = 520


@dataclass(frozen=True)
class Explanation:
    """An image with, for some labels, how much each of its places counted."""

    image: Image.Image
    """The image as displayed, RGB."""
    prediction: Prediction
    """What the model says about it."""
    maps: Mapping[str, Float32[np.ndarray, "h w"]]
    """By label, one value per cell of the feature map. Attention: each map sums to 1. Grad-CAM: what each
    cell adds to the label's logit, 0 or more, in logits times cells."""
    spec: PreprocessSpec
    """How the image became the model's input, and so where the cells lie."""
    method: MapMethod = "attention"
    """What the maps are."""
    layer: LayerChoice | None = None
    """Of attention: which decoder layer, counted from 1, or the mean of all."""
    head: HeadChoice | None = None
    """Of attention: which head, counted from 1, or the mean of all (`each`: with `head_maps`)."""
    head_maps: Mapping[str, Float32[np.ndarray, "M h w"]] = field(default_factory=dict)
    """By label, the attention of each head, where they were asked for."""

    def map_on_image(self, label: str, size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
        """The map of `label` on the image shown at this (height, width), scaled to a maximum of 1.

        Interpolated bilinearly. What a centre crop cut away is 0: the model has not seen it.
        """
        return self.on_image(self.maps[label], size)

    def on_image(
        self, cells: Float32[np.ndarray, "h w"], size: tuple[int, int]
    ) -> Float32[np.ndarray, "H W"]:
        """As `map_on_image`, of any map with one value per cell of the feature map."""
        return map_on_image(cells, (self.image.height, self.image.width), self.spec, shown=size)

    def drawn_on_image(self, label: str, size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
        """As `map_on_image`, as pictures show it: from 0 to 1, or less where it hardly differs."""
        return self._drawn(self.maps[label], size)

    def _drawn(self, cells: Float32[np.ndarray, "h w"], size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
        return drawn_map(cells, (self.image.height, self.image.width), self.spec, shown=size)

    def shown_size(self, longest_px: int = MAX_SHOWN_PX) -> tuple[int, int]:
        """The (height, width) of the image, reduced where its longer side has more than `longest_px`."""
        scale = min(1.0, longest_px / max(self.image.size))
        return max(1, round(self.image.height * scale)), max(1, round(self.image.width * scale))

    def plot(self) -> Image.Image:
        """One picture of the image and its labels: where the model looked, each score and its threshold."""
        from query2label.inference.sheet import explanation_sheet  # it knows this class

        return explanation_sheet(self)

    def name_of_map(self) -> str:
        """What the maps are, for people to read."""
        name = METHOD_NAMES[self.method]
        if self.layer is None:
            return name
        layer = "mean of layers" if self.layer == "mean" else f"layer {self.layer}"
        head = f"head {self.head}" if isinstance(self.head, int) else "mean of heads"
        return f"{name}, {layer}, {head}"

    def score_of(self, label: str) -> LabelScore:
        """What is to be said about an explained label."""
        said = self.prediction
        return LabelScore(label, said.scores[label], said.thresholds.get(label), label in said.labels)

    def picture(self, label: str, longest_px: int = MAX_SHOWN_PX) -> Image.Image:
        """The image with the map of `label` over it, from its least place to its most.

        As large as the image, reduced where its longer side has more than `longest_px`.
        """
        height, width = self.shown_size(longest_px)
        return self.laid_over(self.maps[label], (width, height))

    def laid_over(self, cells: Float32[np.ndarray, "h w"], size: tuple[int, int]) -> Image.Image:
        """The image of (width, height) pixels with a map over it, from its least place to its most."""
        image = self.image
        shown = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
        return overlay(shown, self._drawn(cells, (size[1], size[0])))

    def _repr_html_(self) -> str:
        """What Jupyter shows: the image with each label's map, score and threshold."""
        title = Path(self.prediction.source).name if self.prediction.source is not None else "image"
        pictures = [(self.picture(label, _NOTEBOOK_PX), self.score_of(label)) for label in self.maps]
        return pictures_html(pictures, title=title, note=self.name_of_map())

    def to_arrays(self) -> dict[str, Any]:
        """What `save` writes as `.npz`, by key; k is the number of explained labels.

        - `labels` (k), `scores` (k), `thresholds` (k): names, scores and thresholds of the explained labels;
        - `maps` (k, h, w): float32, as in `maps`; `head_maps` (k, M, h, w): where heads were asked for;
        - `heat` (k, H, W): float16, each map laid over the image and scaled to a maximum of 1; H and W are
          the image's, reduced where the longer one has more than 2,048 pixels;
        - `image_size` (2): height and width of the image as displayed, in pixels;
        - `method`, `layer`, `head`: what the maps are, as text (empty where it does not apply).
        """
        labels, prediction = list(self.maps), self.prediction
        size = self.shown_size()
        arrays = {
            "labels": np.array(labels, dtype=np.str_),
            "scores": np.array([prediction.scores[label] for label in labels], dtype=np.float32),
            "thresholds": np.array([prediction.thresholds[label] for label in labels], dtype=np.float32),
            "maps": np.stack(list(self.maps.values())),
            "heat": np.stack([self.map_on_image(label, size).astype(np.float16) for label in labels]),
            "image_size": np.array([self.image.height, self.image.width]),
            "method": np.array(self.method),
            "layer": np.array("" if self.layer is None else str(self.layer)),
            "head": np.array("" if self.head is None else str(self.head)),
        }
        if self.head_maps:
            arrays["head_maps"] = np.stack([self.head_maps[label] for label in labels])
        return arrays

    def save(self, path: Path | str) -> None:
        """Writes the explanation to a file, which appears as a whole or not at all.

        A refused write is a `StorageError`.

        Args:
            path: `.png` or `.jpg` for the picture of `plot`, `.npz` for the numbers of `to_arrays`, which
                `numpy.load` reads without pickle.

        Raises:
            ConfigError: If the name ends otherwise.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".npz":
            arrays = self.to_arrays()
            with atomic_file(path, mode="wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
        elif suffix in PICTURE_FORMATS:
            picture = self.plot()
            with atomic_file(path, mode="wb") as file:
                picture.save(file, format=PICTURE_FORMATS[suffix], quality=92)
        else:
            raise ConfigError(f"Cannot save an explanation as {path}: end the name with .png, .jpg or .npz.")
