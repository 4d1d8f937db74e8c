"""Which image files are read, by their first bytes, and how much their headers may promise."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageFile, features

from query2label.errors import ImageError

_AVIF_BRANDS: Final = (b"avif", b"avis")
_ACCEPTED: Final = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM or PGM"

# How many pixels one byte of a file can stand for at most, by Pillow's decoder and by TIFF's compression: a
# header that promises more lies. Deflate expands 1032-fold, LZW and Zstandard codes grow to kilobytes, JPEG
# spends a bit or more on 64 pixels, fax codes one on a row. Lossless WebP and AVIF have no such bound.
_PIXELS_PER_BYTE: Final = {
    "raw": 8,
    "ppm": 1,
    "zip": 8 * 1032,
    "jpeg": 8 * 64,
    "gif": 4096,
    "webp animation": 4096,
    "packbits": 8 * 64,
    "tiff_adobe_deflate": 8 * 1032,
    "tiff_deflate": 8 * 1032,
    "tiff_lzw": 8 * 4096,
    "zstd": 8 * 32768,
    "lzma": 8 * 8192,
}
_FAX: Final = {"group3", "group4", "tiff_ccitt"}
_HARMLESS_PIXELS: Final = 2_000_000
"""An image of this size needs so little memory that a lie may show when it is decoded."""

_SLOWNESS: Final = 16
"""For how many pixels one counts that Pillow decodes in Python, while no other thread can run."""


def plugin_for(start: bytes) -> type[ImageFile.ImageFile]:
    """What reads a file, by its first 512 bytes.

    Raises:
        ImageError: If it is no image of an accepted format.
    """
    # Not `Image.open`: its limit on pixels is a global that everybody shares.
    from PIL import (
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if _is_avif(start) and features.check("avif"):
        return AvifImagePlugin.AvifImageFile
    plugins: dict[tuple[bytes, ...], type[ImageFile.ImageFile]] = {
        (b"\xff\xd8\xff",): JpegImagePlugin.JpegImageFile,
        (b"\x89PNG\r\n\x1a\n",): PngImagePlugin.PngImageFile,
        (b"GIF87a", b"GIF89a"): GifImagePlugin.GifImageFile,
        (b"BM",): BmpImagePlugin.BmpImageFile,
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"): TiffImagePlugin.TiffImageFile,
        (b"P4", b"P5", b"P6"): PpmImagePlugin.PpmImageFile,
    }
    for signatures, plugin in plugins.items():
        if start.startswith(signatures):
            return plugin
    raise ImageError(f"It is not a {_ACCEPTED} image{_looks_like(start)}.")


def _is_avif(start: bytes) -> bool:
    # A box `ftyp`: its length, its name, the major brand, a version, the compatible brands.
    length = int.from_bytes(start[:4], "big")
    return start[4:8] == b"ftyp" and (start[8:12] in _AVIF_BRANDS or b"avif" in start[16:length])


def _looks_like(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return " but an HTML page"
    if text.startswith((b"<svg", b"<?xml")):
        return " but an SVG or XML file"
    if start[4:8] == b"ftyp":
        return " but a HEIC or video file: convert it"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return " but a text file"
    return ""


def refuse_lying_header(image: ImageFile.ImageFile, start: bytes, num_bytes: int) -> None:
    """Refuses an opened image that is larger than its file can hold.

    Args:
        image: Its header is read, its pixels are not.
        start: The first 512 bytes of the file.
        num_bytes: Size of the file.

    Raises:
        ImageError: If the header lies.
    """
    pixels = image.width * image.height
    if pixels > max(_HARMLESS_PIXELS, num_bytes * _pixels_per_byte(image, start)):
        raise ImageError(
            f"Its header promises {image.width} x {image.height} pixels, which {num_bytes} bytes cannot hold."
        )


def refuse_slow_decoding(image: ImageFile.ImageFile, max_pixels: int) -> None:
    """Refuses an opened image of a rare form that takes seconds to decode, and may be a hundred bytes long.

    These are BMP with run lengths, and PPM and PGM whose largest sample is neither 255 nor 65535.

    Args:
        image: Its header is read, its pixels are not.
        max_pixels: Largest width x height of other images.

    Raises:
        ImageError: If it has more than a sixteenth of that.
    """
    is_slow = any(tile.codec_name in Image.DECODERS for tile in image.tile)
    if is_slow and image.width * image.height * _SLOWNESS > max_pixels:
        raise ImageError(
            f"It has {image.width} x {image.height} pixels, more than the limit of "
            f"{max_pixels / _SLOWNESS / 1e6:g} megapixels for {image.format} files of its kind, which take "
            "long to decode: save it as PNG."
        )


def _pixels_per_byte(image: ImageFile.ImageFile, start: bytes) -> int:
    decoder = image.tile[0].codec_name if image.tile else "own"  # WebP, AVIF
    if decoder == "own" and start[12:16] == b"VP8X" and start[20] & 2:
        decoder = "webp animation"  # its canvas may be larger than its frames
    elif decoder == "libtiff":
        decoder = image.info["compression"]
    if decoder in _FAX:
        return 8 * image.width
    return _PIXELS_PER_BYTE.get(decoder, image.width * image.height)
