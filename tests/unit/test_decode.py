"""Each way an image file can mislead, with the pixels it has to become."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from query2label.decode import image_size, load_image
from query2label.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    # What EXIF says of the stored row 0 and column 0, undone.
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *, depth: int, colour: int, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def retagged(tiff: bytes, **tags: int) -> bytes:
    """A little-endian TIFF with other values in its first directory, by tag number (`t256=...`)."""
    data = bytearray(tiff)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if f"t{tag}" in tags:
            struct.pack_into("<HHII", data, entry, tag, 4, 1, tags[f"t{tag}"])
    return bytes(data)


def first_pixel(source: object) -> tuple[int, ...]:
    image = load_image(source)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_load_image__turns_each_orientation_exactly(format_name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encoded(Image.fromarray(PIXELS), format_name, exif=exif, **options)
    np.testing.assert_array_equal(np.asarray(load_image(data)), ORIENTATIONS[orientation](PIXELS))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_load_image__turns_jpeg_like_the_stored_pixels(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PIXELS), "JPEG", exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(load_image(data)), ORIENTATIONS[orientation](stored))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_image_size__is_that_of_the_displayed_image(
    tmp_path: Path, format_name: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} if format_name in {"JPEG", "PNG", "WEBP", "TIFF"} else {}
    path = tmp_path / "image"
    Image.new("RGB", (12, 7)).save(path, format_name, **options)
    image = load_image(path)
    assert image_size(path) == image_size(path.read_bytes()) == (image.height, image.width)
    assert {image.height, image.width} == {7, 12}


def test_image_size__reads_the_header_only(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.effect_noise((400, 300), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert image_size(path) == (300, 400)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError, match="It is not a JPEG"):
        image_size(path)
    with pytest.raises(ImageError, match="There is no such file"):
        image_size(tmp_path / "absent.jpg")


def test_load_image__turns_pil_images_and_leaves_them_as_they_were() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(load_image(image)), np.rot90(PIXELS, -1))
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
        turned = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(np.asarray(load_image(turned)), np.rot90(PIXELS, -1))  # not turned twice


def test_load_image__does_not_hand_back_the_callers_image() -> None:
    image = Image.fromarray(PIXELS)
    load_image(image).putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_load_image__scales_16_bit_grey_by_257() -> None:
    values = np.array([[0, 128, 129, 257 * 7, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 7, 128, 254, 255, 255]]
    for format_name in ("PNG", "TIFF"):
        loaded = np.asarray(load_image(encoded(Image.fromarray(values), format_name)))
        np.testing.assert_array_equal(loaded, np.stack([expected] * 3, axis=-1))
    wide = Image.fromarray(values.astype(np.int32))  # mode I, as older software makes of 16-bit files
    np.testing.assert_array_equal(np.asarray(load_image(wide))[..., 0], expected)


def test_load_image__inverts_16_bit_grey_where_white_is_zero() -> None:
    tiff = encoded(Image.fromarray(np.array([[257 * 10]], dtype=np.uint16)), "TIFF")
    assert first_pixel(retagged(tiff, t262=0)) == (245, 245, 245)


def test_load_image__scales_12_bit_grey() -> None:
    # Two samples of 12 bits: 4095 and 2048.
    tiff = encoded(Image.fromarray(np.zeros((1, 2), np.uint16)), "TIFF")
    (offset,) = [value for tag, value in tiff_tags(tiff) if tag == 273]
    data = bytearray(retagged(tiff, t258=12, t279=3))
    data[offset : offset + 3] = bytes([0xFF, 0xF8, 0x00])
    assert np.asarray(load_image(bytes(data)))[0, :, 0].tolist() == [255, 128]


def tiff_tags(tiff: bytes) -> list[tuple[int, int]]:
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, directory)
    entries = [struct.unpack_from("<HHII", tiff, directory + 2 + 12 * i) for i in range(count)]
    return [(tag, value) for tag, _, _, value in entries]


def test_load_image__scales_16_bit_colour() -> None:
    row = b"\0" + struct.pack(">6H", 65535, 0, 257 * 9, 257, 514, 65535)
    loaded = np.asarray(load_image(png(2, 1, row, depth=16, colour=2)))
    assert loaded.tolist() == [[[255, 0, 9], [1, 2, 255]]]


@pytest.mark.parametrize("with_marker", [True, False])
def test_load_image__reads_cmyk_jpeg_as_inverted(with_marker: bool) -> None:
    # Every known writer inverts, with Adobe's marker or without, and browsers read it so.
    data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    marker = data.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", data, marker + 2)
    assert data[marker + 4 : marker + 9] == b"Adobe"
    assert first_pixel(data if with_marker else data[:marker] + data[marker + 2 + length :]) == (0, 255, 255)


def test_load_image__reads_cmyk_tiff_as_it_is() -> None:
    assert first_pixel(encoded(Image.new("CMYK", (8, 8), (0, 255, 0, 51)), "TIFF")) == (204, 0, 204)


def test_load_image__lays_transparency_over_white() -> None:
    assert first_pixel(encoded(Image.new("RGBA", (2, 1), (100, 0, 200, 51)), "PNG")) == (224, 204, 244)
    assert first_pixel(encoded(Image.new("RGBA", (2, 1), (100, 0, 200, 255)), "PNG")) == (100, 0, 200)
    assert first_pixel(encoded(Image.new("LA", (2, 1), (0, 102)), "PNG")) == (153, 153, 153)
    assert first_pixel(Image.new("RGBA", (2, 1), (100, 200, 0, 51)).convert("RGBa")) == (224, 244, 204)
    assert first_pixel(Image.new("LA", (2, 1), (100, 51)).convert("La")) == (224, 224, 224)


def test_load_image__reads_palettes() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    for format_name in ("PNG", "GIF", "BMP", "TIFF"):
        loaded = np.asarray(load_image(encoded(image, format_name)))
        assert loaded.tolist() == [[[10, 20, 30], [200, 100, 0]]], format_name
    for transparency in (0, bytes([0, 255])):
        loaded = np.asarray(load_image(encoded(image, "PNG", transparency=transparency)))
        assert loaded.tolist() == [[[255, 255, 255], [200, 100, 0]]]
    assert np.asarray(load_image(encoded(image, "GIF", transparency=1))).tolist() == [
        [[10, 20, 30], [255, 255, 255]]
    ]


def test_load_image__reads_grey_and_black_and_white() -> None:
    assert first_pixel(encoded(Image.new("L", (2, 1), 77), "PNG")) == (77, 77, 77)
    assert first_pixel(encoded(Image.new("L", (2, 1), 77), "PNG", transparency=77)) == (255, 255, 255)
    for format_name, options in (("PNG", {}), ("TIFF", {"compression": "group4"}), ("BMP", {})):
        image = Image.fromarray(np.array([[255, 0]], np.uint8)).convert("1")
        loaded = np.asarray(load_image(encoded(image, format_name, **options)))
        assert loaded.tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(("format_name", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_load_image__takes_the_first_frame(format_name: str, options: dict[str, object]) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((200, 10, 10), (10, 200, 10))]
    data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert first_pixel(data) == (200, 10, 10)


def test_load_image__takes_all_kinds_of_sources(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    path = tmp_path / "photo.jpg"  # whose content is PNG: names are not believed
    image.save(path, "PNG")
    for source in (path, str(path), path.read_bytes(), image, PIXELS, np.asfortranarray(PIXELS)):
        np.testing.assert_array_equal(np.asarray(load_image(source)), PIXELS)
    np.testing.assert_array_equal(np.asarray(load_image(PIXELS[:, :, 0])), PIXELS[:, :, [0, 0, 0]])
    alpha = np.full((5, 7, 1), 0, dtype=np.uint8)
    assert (np.asarray(load_image(np.concatenate([PIXELS, alpha], axis=-1))) == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((4, 4, 3), dtype=np.int64),
        np.zeros((3, 4, 5), dtype=np.uint8),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((1, 4, 4, 3), dtype=np.uint8),
        np.zeros(4, dtype=np.uint8),
    ],
)
def test_load_image__refuses_other_arrays(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"must be uint8 of shape \(H, W\), .* not .* of \("):
        load_image(array)


def test_load_image__reads_avif_with_its_orientation() -> None:
    photo = Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.asarray(load_image(encoded(photo, "AVIF", quality=100, subsampling="4:4:4", exif=exif)))
    assert turned.shape == (56, 40, 3)
    difference = np.abs(turned.astype(int) - np.rot90(np.asarray(photo), -1))
    assert difference.mean() < 2


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "1"])
def test_load_image__reads_portable_anymaps(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.arange(0, 35 * 257, 257, dtype=np.uint16).reshape(5, 7))
        grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
        grey = np.asarray(image.convert("L"))
    expected = PIXELS if mode == "RGB" else np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(np.asarray(load_image(encoded(image, "PPM"))), expected)


def test_load_image__refuses_images_without_pixels() -> None:
    with pytest.raises(ImageError, match=r"no pixels \(0 x 5\)"):
        load_image(np.zeros((5, 0, 3), dtype=np.uint8))


def test_load_image__refuses_what_is_not_an_image_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for source, reason in {
        tmp_path / "missing.jpg": "There is no such file",
        tmp_path: "It is a folder",
        fifo: "It is not a regular file",
        str(tmp_path / ("x" * 300)): "cannot be opened: File name too long",
        "a\0b": "the name is not valid",
        b"": "The file is empty",
        b"<!DOCTYPE html><html>": "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM or PGM image but an HTML page",
        b"\n<HTML>": "but an HTML page",
        b"hello, world\n": "but a text file",
        b"<svg xmlns=''/>": "but an SVG or XML file",
        b"\0\0\0\x18ftypheic": "but a HEIC or video file: convert it",
        bytes(range(128)): "or PGM image[.]",
    }.items():
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(source)
        assert tmp_path.name not in str(caught.value)


def test_load_image__refuses_samples_without_a_known_range() -> None:
    floats = Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32))
    integers = Image.fromarray(np.array([[0, 65536]], dtype=np.int32))
    with pytest.raises(ImageError, match="floating-point numbers without a known range"):
        load_image(encoded(floats, "TIFF"))
    with pytest.raises(ImageError, match="32-bit integers without a known range"):
        load_image(encoded(integers, "TIFF"))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_load_image__refuses_files_that_are_cut_off(format_name: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format_name)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(data[: int(len(data) * share)])


def test_load_image__refuses_a_png_with_a_wrong_checksum() -> None:
    data = bytearray(encoded(Image.fromarray(PIXELS), "PNG"))
    data[data.index(b"IDAT") + 10] ^= 0xFF
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(bytes(data))


def lies(width: int, height: int) -> dict[str, bytes]:
    """Small files of each format whose headers promise this size."""
    small = Image.new("RGB", (8, 8))
    bmp = bytearray(encoded(small, "BMP"))
    struct.pack_into("<ii", bmp, 18, width, height)
    gif = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    struct.pack_into("<HH", gif, 6, width, height)
    jpeg = bytearray(encoded(small, "JPEG"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, height, width)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    webp = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    webp[24:30] = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    tags = {"t256": width, "t257": height, "t278": height}
    files = {
        "png": png(width, height, bytes(100), depth=8, colour=2),
        "png 1 bit": png(width, height, bytes(100), depth=1, colour=0),
        "bmp": bytes(bmp),
        "gif": bytes(gif),
        "jpeg": bytes(jpeg),
        "webp": bytes(webp),
        "ppm": b"P6 %d %d 255\n" % (width, height) + bytes(100),
        "tiff fax": retagged(encoded(small.convert("1"), "TIFF", compression="group4"), **tags),
    }
    for compression in ("raw", "tiff_adobe_deflate", "tiff_lzw", "packbits", "jpeg"):
        files[f"tiff {compression}"] = retagged(encoded(small, "TIFF", compression=compression), **tags)
    return files


@pytest.mark.parametrize("kind", lies(1, 1))
def test_load_image__refuses_bombs_and_lies_before_it_decodes(kind: str) -> None:
    bomb, lie = lies(16_000, 16_000)[kind], lies(13_000, 13_000)[kind]
    with pytest.raises(ImageError, match=r"limit of 50 megapixels|more pixels than may be read"):
        load_image(bomb, max_pixels=50_000_000)
    with pytest.raises(ImageError, match=r"promises 13000 x 13000 pixels, which \d+ bytes cannot hold"):
        load_image(lie)


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP file of 8 bits per pixel; its palette is grey."""
    palette = bytes(value for grey in range(256) for value in (grey, grey, grey, 0))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset) + header + palette + runs


def test_load_image__refuses_large_images_that_decode_slowly() -> None:
    small = run_length_bmp(3, 2, b"\x03\x07\0\0\x01\x09\0\0\0\x01")  # the lower row first
    assert np.asarray(load_image(small))[..., 0].tolist() == [[9, 0, 0], [7, 7, 7]]
    ends_of_lines = run_length_bmp(4_000_000, 9, bytes(18))  # each row is filled byte by byte
    seven = np.full((2, 2, 3), 7, dtype=np.uint8)
    odd = b"P6 %d %d 254\n" % (2, 2) + seven.tobytes()
    assert np.array_equal(np.asarray(load_image(odd)), seven)

    for content, size, kind in (
        (ends_of_lines, "4000000 x 9", "BMP"),
        (b"P6 2000 2000 254\n" + bytes(12_000_000), "2000 x 2000", "PPM"),
    ):
        message = (
            f"It has {size} pixels, more than the limit of 3.125 megapixels for {kind} files of its kind"
        )
        with pytest.raises(ImageError, match=message):
            load_image(content, max_pixels=50_000_000)


def test_load_image__needs_little_memory_to_refuse(tmp_path: Path) -> None:
    files = [*lies(16_000, 16_000).values(), *lies(13_000, 13_000).values()]
    real = png(30_000, 30_000, bytes(30_000 * 3751), depth=1, colour=0)  # 900 megapixels in 110 kB
    for number, data in enumerate([*files, real]):
        (tmp_path / str(number)).write_bytes(data)
    script = f"""
import resource
from pathlib import Path
from query2label.decode import load_image, ImageError
load_image({encoded(Image.new("RGB", (8, 8)), "TIFF")!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for path in Path({str(tmp_path)!r}).iterdir():
    try:
        load_image(path)
    except ImageError:
        refused += 1
print(refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    output = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, check=True)
    refused, megabytes = map(int, output.stdout.split())
    assert refused == len(files) + 1
    assert megabytes < 50
    assert output.stderr == b""


def test_load_image__counts_pixels_up_to_the_limit() -> None:
    data = encoded(Image.fromarray(PIXELS), "PNG")
    assert load_image(data, max_pixels=35).size == (7, 5)
    for source in (data, PIXELS, Image.fromarray(PIXELS)):
        with pytest.raises(ImageError, match=r"It has 7 x 5 pixels, more than the limit of 3\.4e-05"):
            load_image(source, max_pixels=34)


def test_load_image__reads_above_pillows_own_limit_without_moving_it() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    side = int((2 * limit) ** 0.5) + 1
    image = load_image(png(side, side, bytes(side * (-(-side // 8) + 1)), depth=1, colour=0))
    assert image.size == (side, side)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("megabytes", [100, 300])
def test_load_image__says_when_memory_runs_out(megabytes: int) -> None:
    # 169 megapixels need 169 MB, and 676 MB more as RGB: more than the process may have.
    side = 13_000
    data = png(side, side, bytes(side * (side // 8 + 1)), depth=1, colour=0)
    script = f"""
import resource
from query2label.decode import load_image, ImageError
load_image({encoded(Image.new("RGB", (8, 8)), "PNG")!r})
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes}_000_000, resource.RLIM_INFINITY))
try:
    load_image({data!r})
except ImageError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert output.stdout == "There is not enough memory to decode it.\n"


def test_load_image__ignores_broken_metadata_and_pillows_warnings() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    whole = exif.tobytes()
    image = Image.fromarray(PIXELS)
    damaged = [encoded(image, "PNG", exif=whole[:length]) for length in range(7, len(whole))]
    damaged.append(encoded(image, "WEBP", lossless=True, exif=b"no exif at all"))
    frameless = chunk(b"acTL", struct.pack(">II", 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    damaged.append(png(7, 5, rows, depth=8, colour=2, extra=frameless))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        for data in damaged:
            np.testing.assert_array_equal(np.asarray(load_image(data)), PIXELS)
        assert warnings.filters == filters
    with pytest.warns(UserWarning, match="Invalid APNG"):  # what there was to be quiet about
        Image.open(io.BytesIO(damaged[-1])).load()


def test_load_image__survives_a_reset_of_the_warning_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(*_: object) -> None:
        warnings.resetwarnings()

    monkeypatch.setattr("query2label.decode.refuse_lying_header", reset)
    with warnings.catch_warnings():
        assert load_image(encoded(Image.fromarray(PIXELS), "PNG")).size == (7, 5)


def test_load_image__leaves_the_warning_filters_alone_in_threads() -> None:
    filters = list(warnings.filters)
    data = encoded(Image.fromarray(PIXELS), "TIFF")
    threads = [threading.Thread(target=lambda: [load_image(data) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters


def test_load_image__closes_the_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(PIXELS).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    before = len(list(Path("/proc/self/fd").iterdir()))
    load_image(good)
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(bad)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_load_image__agrees_with_pillow_on_real_photos(ccp: Path) -> None:
    for path in sorted((ccp / "photos").iterdir())[:20]:
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(load_image(path)), expected)
