"""What happens to training images, and only to them.

Every draw comes from the seed that is passed in; the global generators of Python, NumPy and PyTorch are left
as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from query2label.config import AugmentConfig
from query2label.data.fast_resize import resize_part, resize_pixels
from query2label.data.randomness import generator
from query2label.labels import UNKNOWN
from query2label.preprocess import PreprocessSpec

CROP_TRIES = 10
CROP_ASPECT = (3 / 4, 4 / 3)


class TrainTransform:
    """Random crop or resize, horizontal flip, RandAugment and cutout, in this order.

    With everything turned off it gives the pixels that evaluation sees, up to one step of 255.

    Args:
        spec: Size, resize mode, interpolation and mean colour, which fills what has no pixels.
        config: What is done, how often and how strongly.
    """

    def __init__(self, spec: PreprocessSpec, config: AugmentConfig) -> None:
        self.spec = spec
        self.config = config
        self._randaugment = _randaugment(spec, config) if config.randaugment_num_ops else None

    def __call__(self, image: Image.Image, *, seed: int) -> UInt8[Tensor, "3 H W"]:
        """RGB channels in 0..255 of the spec's size, last in memory; equal for equal images and seeds.

        Args:
            image: RGB, of any size.
            seed: In [0, 2**63).
        """
        draw = generator("train transform", seed)
        if self.config.crop_min_area < 1:
            box = random_crop_box((image.height, image.width), self.config.crop_min_area, draw)
            pixels = resize_part(image, box, self.spec.image_size, self.spec)
        else:
            pixels = resize_pixels(image, self.spec)
        if draw.random() < self.config.flip:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        if self._randaugment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs too
                pixels = np.array(self._randaugment(Image.fromarray(pixels)))
        if self.config.cutout:
            cut_out(pixels, self.config.cutout, self.spec.mean_colour(), draw)
        return torch.from_numpy(pixels).permute(2, 0, 1)


def random_crop_box(
    size: tuple[int, int], min_area: float, draw: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part of an image, as (left, top, right, bottom) in pixels.

    Its share of the area is uniform in [min_area, 1], its aspect ratio log-uniform in 3:4 to 4:3. Where ten
    tries give none that fits (a very long image), the whole image is taken.

    Args:
        size: (height, width) of the image.
        min_area: Smallest share of the area.
        draw: Where the randomness comes from.
    """
    height, width = size
    for _ in range(CROP_TRIES):
        area = draw.uniform(min_area, 1) * height * width
        aspect = math.exp(draw.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(draw.integers(0, width - crop_width + 1))
            top = int(draw.integers(0, height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def cut_out(
    pixels: UInt8[np.ndarray, "H W 3"],
    share: float,
    colour: tuple[int, int, int],
    draw: np.random.Generator,
) -> None:
    """Fills one hole, in place, whose sides are `share` of the image's sides.

    The hole's centre may be any pixel; what would lie outside the image is not moved back in.

    Source:
        DeVries and Taylor (2017), arXiv:1708.04552.
    """
    height, width = pixels.shape[:2]
    hole_height, hole_width = round(share * height), round(share * width)
    top = int(draw.integers(0, height)) - hole_height // 2
    left = int(draw.integers(0, width)) - hole_width // 2
    pixels[max(0, top) : max(0, top + hole_height), max(0, left) : max(0, left + hole_width)] = colour


def mix_batch(
    images: Float[Tensor, "B C H W"], targets: Float[Tensor, "B K"], *, config: AugmentConfig, seed: int
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
    """Images mixed with others of the batch, by mixup or cutmix, and the soft targets of the mixture.

    One permutation and one share are drawn for the batch; where both kinds are on, a coin decides. A label's
    target is its share of the mixture (in cutmix, of the area as cut), so one that both images show stays 1.
    A label that is unknown in either image is unknown in the mixture.

    Args:
        images: Normalized images.
        targets: In [0, 1], or negative where unknown.
        config: `mixup_alpha` and `cutmix_alpha`; with both 0 the arguments come back as they are.
        seed: In [0, 2**63).

    Source:
        Zhang et al. (2018), arXiv:1710.09412; Yun et al. (2019), arXiv:1905.04899.
    """
    kinds: list[tuple[float, Callable[..., tuple[Tensor, float]]]] = []
    if config.mixup_alpha:
        kinds.append((config.mixup_alpha, _blend))
    if config.cutmix_alpha:
        kinds.append((config.cutmix_alpha, _patch))
    if not kinds:
        return images, targets
    draw = generator("mix batch", seed)
    alpha, mix = kinds[int(draw.integers(0, len(kinds)))]
    partner = torch.from_numpy(draw.permutation(len(images))).to(images.device)
    mixed, share = mix(images, images[partner], float(draw.beta(alpha, alpha)), draw)
    soft = share * targets + (1 - share) * targets[partner]
    unknown = (targets < 0) | (targets[partner] < 0)
    return mixed, soft.masked_fill(unknown, UNKNOWN)


def _randaugment(spec: PreprocessSpec, config: AugmentConfig) -> Callable[[Image.Image], Image.Image]:
    from torchvision.transforms import InterpolationMode, v2  # seconds to import: only where it is used

    transform: Callable[[Image.Image], Image.Image] = v2.RandAugment(
        num_ops=config.randaugment_num_ops,
        magnitude=config.randaugment_magnitude,
        interpolation=InterpolationMode.NEAREST,  # as published, and a third of the time
        fill=list(spec.mean_colour()),
    )
    return transform


def _blend(images: Tensor, partners: Tensor, share: float, draw: np.random.Generator) -> tuple[Tensor, float]:
    return share * images + (1 - share) * partners, share


def _patch(images: Tensor, partners: Tensor, share: float, draw: np.random.Generator) -> tuple[Tensor, float]:
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    half_height, half_width = round(side * height / 2), round(side * width / 2)
    row, column = int(draw.integers(0, height)), int(draw.integers(0, width))
    rows = slice(max(0, row - half_height), min(height, row + half_height))
    columns = slice(max(0, column - half_width), min(width, column + half_width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = partners[:, :, rows, columns]
    cut = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - cut / (height * width)
