"""Image files, and whatever else users hold, to the RGB image that a person would see.

Everything that is known to lie is handled here: orientation, 16-bit samples, inverted CMYK, transparency,
animations, headers that promise more than the file holds. It needs Pillow and NumPy, never torch.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8
from PIL import Image, ImageFile

from query2label.errors import ImageError
from query2label.image_files import plugin_for, refuse_lying_header, refuse_slow_decoding

ImageSource: TypeAlias = Path | str | bytes | Image.Image | npt.NDArray[Any]
"""A file, an encoded file's content, a PIL image, or uint8 pixels (H, W), (H, W, 3) RGB or (H, W, 4) RGBA."""

EnoughSize: TypeAlias = Callable[[tuple[int, int]], tuple[int, int]]
"""The (height, width) that is enough, given that of an image as displayed."""

DEFAULT_MAX_PIXELS: Final = 200_000_000
"""Images with more pixels are refused; a server passes less."""

_File: TypeAlias = io.BufferedReader | io.BytesIO

# Hostile bytes make decoders raise nearly anything.
_DECODER_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE: Final = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}
_TURNED_SIDES: Final = {
    Image.Transpose.FLIP_LEFT_RIGHT: (2, 1, 0, 3),
    Image.Transpose.ROTATE_180: (2, 3, 0, 1),
    Image.Transpose.FLIP_TOP_BOTTOM: (0, 3, 2, 1),
    Image.Transpose.TRANSPOSE: (1, 0, 3, 2),
    Image.Transpose.ROTATE_270: (3, 0, 1, 2),
    Image.Transpose.TRANSVERSE: (3, 2, 1, 0),
    Image.Transpose.ROTATE_90: (1, 2, 3, 0),
}
"""Which of the sides left, top, right, bottom becomes the left one, the top one, and so on."""
_EXIF_ORIENTATION: Final = 0x0112

_PILLOW_WARNINGS: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclass(frozen=True, slots=True)
class ReducedImage:
    """An image as displayed, RGB, perhaps with fewer pixels than its file has."""

    image: Image.Image
    box: tuple[float, float, float, float]
    """(left, top, right, bottom) of what is the image, in pixels: the last ones may lie partly outside."""


def load_image(source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """The image as a person sees it: RGB, turned as its EXIF orientation says, first frame, on white.

    JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM and PGM files are read; PIL images may be of any origin.
    Samples of 16 (or 12) bits are scaled to 8, transparency is laid over white, and colour profiles are not
    applied. The header is checked before any pixel is decoded.

    Args:
        source: File, encoded bytes, PIL image or uint8 array.
        max_pixels: Largest width x height that is decoded.

    A source that cannot be decoded, or is refused, is an `ImageError` whose message never names the file.
    """
    return load_reduced(source, max_pixels=max_pixels).image


def load_reduced(
    source: ImageSource, *, enough: EnoughSize | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> ReducedImage:
    """`load_image` for who needs no more pixels than some: large JPEG files take a fraction of the time.

    Args:
        source: As for `load_image`.
        enough: A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that is not less than enough.
        max_pixels: Largest width x height that is decoded; of the file, not of what becomes of it.

    A source that cannot be decoded, or is refused, is an `ImageError` as in `load_image`.
    """
    if isinstance(source, np.ndarray):
        return _whole(_from_array(source, max_pixels))
    with _quiet_pillow():
        if isinstance(source, Image.Image):
            _refuse_bomb(source.size, max_pixels)
            with _explained_decoding():
                return _whole(_displayed(source.copy()))
        if isinstance(source, bytes):
            return _decode(io.BytesIO(source), len(source), max_pixels, enough)
        with _open_file(Path(source)) as file:
            return _decode(file, os.fstat(file.fileno()).st_size, max_pixels, enough)


def image_size(source: Path | bytes) -> tuple[int, int]:
    """The (height, width) of the image that `load_image` gives, from the header of a file or its content.

    It takes a small part of the time, and does not show that the rest of the file is damaged. What is no
    image is an `ImageError` as there.
    """
    opened = contextlib.nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else _open_file(source)
    with _quiet_pillow(), opened as file:
        plugin = plugin_for(file.read(512))
        file.seek(0)
        with _explained_decoding():
            image = plugin(file)
        return _displayed_size(image)


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignores Pillow's warnings inside the block: the answer must not depend on the interpreter's -W.

    `warnings.catch_warnings` swaps the global list of filters and puts the wrong one back when threads
    overlap. Here each block adds one entry and takes one away, on the same list, so any order is harmless.
    """
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    filters.insert(0, _PILLOW_WARNINGS)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody reset the filters meanwhile
            filters.remove(_PILLOW_WARNINGS)


@contextlib.contextmanager
def _explained_decoding() -> Iterator[None]:
    try:
        yield
    except Image.DecompressionBombError:  # Pillow's own, where it looks before we can
        raise ImageError("It has more pixels than may be read of such a file.") from None
    except MemoryError:
        raise ImageError("There is not enough memory to decode it.") from None
    except _DECODER_ERRORS as error:
        detail = " ".join(str(error).split())[:120]
        raise ImageError(f"The image data are damaged or cut off ({detail}).") from error


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[_File]:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError("It is a folder, not an image file.")
        if not stat.S_ISREG(mode):
            raise ImageError("It is not a regular file.")
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError("There is no such file.") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or "the name is not valid"
        raise ImageError(f"The file cannot be opened: {reason}.") from None
    with file:
        yield file


def _decode(file: _File, num_bytes: int, max_pixels: int, enough: EnoughSize | None) -> ReducedImage:
    if num_bytes == 0:
        raise ImageError("The file is empty.")
    start = file.read(512)
    file.seek(0)
    plugin = plugin_for(start)
    with _explained_decoding():
        image = plugin(file)
    _refuse_bomb(image.size, max_pixels)
    refuse_slow_decoding(image, max_pixels)
    refuse_lying_header(image, start, num_bytes)
    beyond = (0.0, 0.0, 0.0, 0.0)
    with _explained_decoding():
        # Of JPEG files alone: to tell its orientation a PNG is decoded, and what is damaged passed over.
        if enough is not None and image.format == "JPEG":
            beyond = _reduce(image, enough(_displayed_size(image)))
        image.load()
        displayed = _displayed(image)
    left, top, right, bottom = beyond
    return ReducedImage(displayed, (left, top, displayed.width - right, displayed.height - bottom))


def _reduce(image: ImageFile.ImageFile, enough: tuple[int, int]) -> tuple[float, float, float, float]:
    """Has a JPEG decoded with fewer pixels, by leaving frequencies out; other images stay as they are.

    Returns:
        How far the pixels reach beyond the image, as displayed: left, top, right, bottom.
    """
    method = _TRANSPOSE.get(_orientation(image))
    height, width = reversed(enough) if method in _ON_ITS_SIDE else enough
    drafted = image.draft(None, (width, height))  # None: the mode stays
    if drafted is None:
        return (0.0, 0.0, 0.0, 0.0)
    _, (_, _, right, bottom) = drafted
    sides = (0.0, 0.0, float(image.width - right), float(image.height - bottom))
    turned = (0, 1, 2, 3) if method is None else _TURNED_SIDES[method]
    left, top, right, bottom = (sides[side] for side in turned)
    return left, top, right, bottom


def _whole(image: Image.Image) -> ReducedImage:
    return ReducedImage(image, (0.0, 0.0, float(image.width), float(image.height)))


def _displayed_size(image: Image.Image) -> tuple[int, int]:
    is_on_its_side = _TRANSPOSE.get(_orientation(image)) in _ON_ITS_SIDE
    return (image.width, image.height) if is_on_its_side else (image.height, image.width)


def _refuse_bomb(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width <= 0 or height <= 0:
        raise ImageError(f"It has no pixels ({width} x {height}).")
    if width * height > max_pixels:
        raise ImageError(
            f"It has {width} x {height} pixels, more than the limit of {max_pixels / 1e6:g} megapixels."
        )


def _displayed(image: Image.Image) -> Image.Image:
    method = _TRANSPOSE.get(_orientation(image))
    image = _to_rgb(image)
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns these itself while it decodes
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1  # broken metadata do not make a good image bad
    return orientation if isinstance(orientation, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError(
            "Its pixels are floating-point numbers without a known range: "
            "save it with 8 or 16 bits per channel."
        )
    if image.mode.startswith("I"):
        image = Image.fromarray(_scaled_to_8_bits(image))
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in {"LA", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled_to_8_bits(image: Image.Image) -> UInt8[np.ndarray, "H W"]:
    tags = getattr(image, "tag_v2", {})  # TIFF
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            "Its samples are 32-bit integers without a known range: save it with 8 or 16 bits per channel."
        )
    full = 4095 if tags.get(258) == (12,) else 65535
    grey = ((values.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)
    white_is_zero = tags.get(262) == 0
    return 255 - grey if white_is_zero else grey


def _from_array(array: npt.NDArray[Any], max_pixels: int) -> Image.Image:
    channels = array.shape[2:] if array.ndim == 3 else ()
    if array.dtype != np.uint8 or array.ndim not in {2, 3} or channels not in {(), (3,), (4,)}:
        raise ImageError(
            "An array must be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype} of {array.shape}."
        )
    _refuse_bomb((array.shape[1], array.shape[0]), max_pixels)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))
