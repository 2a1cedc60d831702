"""A generator of odd photo files: unusual but right ones, damaged ones, and ones made to harm.

`ODD_FILES` maps a name to a function that makes an `OddFile`: its bytes, and either the pixels that must come out or a
word that the refusal must contain. Nothing here uses the code under test; pixels are computed from the drawing itself.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class OddFile:
    """Bytes and what must become of them: `pixels` within `tolerance` (mean grey levels), or a refusal that `says`."""

    data: bytes
    pixels: Pixels | None = None
    tolerance: float = 0.0
    says: str = ""


ODD_FILES: dict[str, Callable[[], OddFile]] = {}


def odd(function: Callable[[], OddFile]) -> Callable[[], OddFile]:
    ODD_FILES[function.__name__] = function
    return function


def thin(photo: Pixels) -> Pixels:
    """At most about 100 x 100 of the pixels, so that results of large photos are cheap to hand over."""
    rows, columns = (max(1, side // 50) for side in photo.shape[:2])
    return np.ascontiguousarray(photo[::rows, ::columns])


def drawing(height: int = 48, width: int = 64) -> Pixels:
    """A picture without any symmetry, smooth enough to survive JPEG: another colour in each corner."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y, x = y / (height - 1), x / (width - 1)
    return np.round(np.stack([40 + 200 * x, 30 + 150 * y, 220 - 180 * x * y], -1)).astype(np.uint8)


def coded(pixels: Pixels | Image.Image, format: str, **options: Any) -> bytes:
    """The picture in a format of Pillow's."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def jpeg(pixels: Pixels | Image.Image, **options: Any) -> bytes:
    return coded(pixels, "JPEG", **{"quality": 95, "subsampling": 0, **options})


def grey(pixels: Pixels) -> Pixels:
    return np.array(Image.fromarray(pixels).convert("L"))


def three(channel: Pixels) -> Pixels:
    return np.repeat(channel[:, :, None], 3, 2)


def over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[:, :, None] / 255
    return np.round(pixels * share + 255 * (1 - share)).astype(np.uint8)


def stored_for(orientation: int, upright: Pixels) -> Pixels:
    """The rows and columns as a camera stores them, from the table of EXIF 2.3: which side row 0 and column 0 are."""
    row_0, column_0 = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    stored = upright if row_0 in ("top", "bottom") else upright.swapaxes(0, 1)
    stored = stored[::-1] if row_0 in ("bottom", "right") else stored
    stored = stored[:, ::-1] if column_0 in ("bottom", "right") else stored
    return np.ascontiguousarray(stored)


def exif(orientation: int) -> bytes:
    """An EXIF block of one tag, as TIFF bytes."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments put behind its first two bytes."""
    return data[:2] + b"".join(segments) + data[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    """A PNG written out: `rows` with their filter bytes, `before` the chunks ahead of the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + pixels + chunk(b"IEND", b"")


def png_rows(values: NDArray[Any]) -> bytes:
    """Rows of a PNG without filters, 8 or 16 bits big-endian."""
    return b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values)


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks put behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def tiff(tags: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A TIFF of (tag, type, count, value) and some bytes behind."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + b"\0\0\0\0" + tail


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# ---------------------------------------------------------------------------------------------------- unusual but right


@odd
def jpeg_plain() -> OddFile:
    return OddFile(jpeg(drawing()), drawing(), 2)


@odd
def jpeg_subsampled() -> OddFile:
    return OddFile(jpeg(drawing(), subsampling=2), drawing(), 2.5)


@odd
def jpeg_progressive() -> OddFile:
    return OddFile(jpeg(drawing(), progressive=True), drawing(), 2)


@odd
def jpeg_grey() -> OddFile:
    return OddFile(jpeg(grey(drawing())), three(grey(drawing())), 2)


@odd
def jpeg_cmyk() -> OddFile:
    return OddFile(jpeg(Image.fromarray(drawing()).convert("CMYK")), drawing(), 3)


@odd
def jpeg_ycck() -> OddFile:
    """As Photoshop writes it: luminance and colour of 255 less the stored inks, themselves inverted; black is empty."""
    ycc = np.array(Image.fromarray(255 - drawing()).convert("YCbCr"))
    inks = 255 - np.dstack([ycc, np.full(ycc.shape[:2], 255, np.uint8)])  # Pillow inverts once more as it writes
    data = bytearray(jpeg(Image.fromarray(inks, "CMYK")))
    adobe = data.index(b"\xff\xee")
    data[adobe + 15] = 2  # the transform: YCCK
    return OddFile(bytes(data), drawing(), 3)


@odd
def jpeg_stored_as_rgb() -> OddFile:
    return OddFile(jpeg(drawing(), keep_rgb=True), drawing(), 2)


def _jpeg_oriented(orientation: int) -> Callable[[], OddFile]:
    def make() -> OddFile:
        return OddFile(jpeg(stored_for(orientation, drawing()), exif=exif(orientation)), drawing(), 2)

    return make


for _orientation in range(1, 9):
    ODD_FILES[f"jpeg_orientation_{_orientation}"] = _jpeg_oriented(_orientation)


@odd
def jpeg_orientation_big_endian() -> OddFile:
    block = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    return OddFile(jpeg(stored_for(6, drawing()), exif=block), drawing(), 2)


@odd
def jpeg_cmyk_orientation() -> OddFile:
    image = Image.fromarray(stored_for(8, drawing())).convert("CMYK")
    return OddFile(jpeg(image, exif=exif(8)), drawing(), 3)


@odd
def jpeg_orientation_99() -> OddFile:
    return OddFile(jpeg(drawing(), exif=exif(99)), drawing(), 2)


@odd
def jpeg_exif_damaged() -> OddFile:
    return OddFile(jpeg(drawing(), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f rubbish"), drawing(), 2)


@odd
def jpeg_exif_endless_directory() -> OddFile:
    return OddFile(jpeg(drawing(), exif=b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65535)), drawing(), 2)


@odd
def jpeg_exif_with_preview() -> OddFile:
    """A whole JPEG within the EXIF: its end is not the end."""
    preview = jpeg(drawing()[::4, ::4])
    return OddFile(with_segments(jpeg(drawing()), segment(0xE1, exif(1) + preview)), drawing(), 2)


@odd
def jpeg_with_profile() -> OddFile:
    return OddFile(jpeg(drawing(), icc_profile=profile()), drawing(), 2)


@odd
def jpeg_with_restarts() -> OddFile:
    return OddFile(jpeg(drawing(), restart_marker_blocks=1), drawing(), 2)


@odd
def jpeg_of_two_pictures() -> OddFile:
    """As telephones write them: a second picture behind the first."""
    second = Image.fromarray(drawing()[::-1])
    return OddFile(coded(drawing(), "MPO", save_all=True, append_images=[second], quality=95), drawing(), 3)


@odd
def jpeg_and_zip() -> OddFile:
    return OddFile(jpeg(drawing()) + b"PK\x03\x04" + b"\0" * 999, drawing(), 2)


@odd
def jpeg_and_web_page() -> OddFile:
    script = segment(0xFE, b"<html><script>alert(1)</script>")
    return OddFile(with_segments(jpeg(drawing()), script), drawing(), 2)


@odd
def jpeg_filled_with_ff() -> OddFile:
    return OddFile(with_segments(jpeg(drawing()), b"\xff" * 100_000), drawing(), 2)


@odd
def jpeg_with_64_scans() -> OddFile:
    return OddFile(repeated_scans(jpeg(drawing(), progressive=True), 64), drawing(), 2)


@odd
def png_plain() -> OddFile:
    return OddFile(coded(drawing(), "PNG"), drawing())


@odd
def png_grey() -> OddFile:
    return OddFile(coded(grey(drawing()), "PNG"), three(grey(drawing())))


@odd
def png_one_pixel() -> OddFile:
    return OddFile(coded(drawing()[:1, :1], "PNG"), drawing()[:1, :1])


@odd
def png_grey_16_bits() -> OddFile:
    """A ramp over all 16 bits, most of which a plain conversion clips to white."""
    ramp = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    return OddFile(png(64, 48, 16, 0, png_rows(ramp)), three((ramp // 256).astype(np.uint8)), 1)


@odd
def png_colour_16_bits() -> OddFile:
    deep = drawing().astype(np.uint16) * 257
    return OddFile(png(64, 48, 16, 2, png_rows(deep.reshape(48, -1))), drawing(), 1)


@odd
def png_alpha() -> OddFile:
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    return OddFile(coded(np.dstack([drawing(), alpha]), "PNG"), over_white(drawing(), alpha), 1)


@odd
def png_grey_alpha() -> OddFile:
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    data = coded(Image.fromarray(np.dstack([grey(drawing()), alpha]), "LA"), "PNG")
    return OddFile(data, over_white(three(grey(drawing())), alpha), 1)


@odd
def png_palette() -> OddFile:
    image = Image.fromarray(drawing()).quantize(64)
    return OddFile(coded(image, "PNG"), np.array(image.convert("RGB")))


@odd
def png_palette_alpha() -> OddFile:
    palette = bytes([200, 10, 20, 10, 200, 20])
    rows = png_rows(np.tile(np.array([0, 1], np.uint8), (4, 2)))
    data = png(4, 4, 8, 3, rows, chunk(b"PLTE", palette), chunk(b"tRNS", bytes([255, 0])))
    return OddFile(data, np.tile(np.array([[200, 10, 20], [255, 255, 255]], np.uint8), (4, 2, 1)))


@odd
def png_colour_key() -> OddFile:
    pixels = drawing().copy()
    pixels[10:20, 10:20] = 1, 2, 3
    data = png(64, 48, 8, 2, png_rows(pixels.reshape(48, -1)), chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    expected = pixels.copy()
    expected[10:20, 10:20] = 255
    return OddFile(data, expected)


@odd
def png_orientation_6() -> OddFile:
    return OddFile(coded(stored_for(6, drawing()), "PNG", exif=exif(6)[6:]), drawing())


@odd
def png_animated() -> OddFile:
    frames = [Image.fromarray(drawing()[::-1])]
    return OddFile(coded(drawing(), "PNG", save_all=True, append_images=frames), drawing())


@odd
def png_with_profile() -> OddFile:
    return OddFile(coded(drawing(), "PNG", icc_profile=profile()), drawing())


@odd
def png_with_text() -> OddFile:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "日本語" * 100, zip=True)
    return OddFile(coded(drawing(), "PNG", pnginfo=info), drawing())


@odd
def png_and_tail() -> OddFile:
    return OddFile(coded(drawing(), "PNG") + b"<script>alert(1)</script>" * 99, drawing())


@odd
def png_text_bombs() -> OddFile:
    """A hundred texts of 8 MB each, deflated to 8 kB."""
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20)))
    return OddFile(with_chunks(coded(drawing(), "PNG"), *[bomb] * 100), drawing())


@odd
def png_profile_bombs() -> OddFile:
    bomb = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(64 << 20)))
    return OddFile(with_chunks(coded(drawing(), "PNG"), *[bomb] * 20), drawing())


@odd
def png_large_and_grey() -> OddFile:
    """49 million pixels are allowed where they fit the memory."""
    rows = (b"\0" + b"\x50" * 7000) * 7000
    return OddFile(png(7000, 7000, 8, 0, rows), np.broadcast_to(np.uint8(0x50), (7000, 7000, 3)))


@odd
def gif_plain() -> OddFile:
    image = Image.fromarray(drawing()).quantize(64)
    return OddFile(coded(image, "GIF"), np.array(image.convert("RGB")))


@odd
def gif_animated() -> OddFile:
    image = Image.fromarray(drawing()).quantize(64)
    frames = [Image.fromarray(drawing()[::-1]).quantize(64)] * 3
    return OddFile(coded(image, "GIF", save_all=True, append_images=frames), np.array(image.convert("RGB")))


@odd
def gif_transparent() -> OddFile:
    image = Image.new("P", (4, 4))
    image.putpalette([200, 10, 20, 10, 200, 20])
    image.putdata([0, 1] * 8)
    expected = np.tile(np.array([[200, 10, 20], [255, 255, 255]], np.uint8), (4, 2, 1))
    return OddFile(coded(image, "GIF", transparency=1), expected)


@odd
def bmp_plain() -> OddFile:
    return OddFile(coded(drawing(), "BMP"), drawing())


@odd
def bmp_top_down() -> OddFile:
    head = struct.pack("<2sIII", b"BM", 54 + 48 * 64 * 3, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, 64, -48, 1, 24, 0, 0, 0, 0, 0, 0)
    return OddFile(head + drawing()[:, :, ::-1].tobytes(), drawing())


@odd
def bmp_palette() -> OddFile:
    image = Image.fromarray(drawing()).quantize(64)
    return OddFile(coded(image, "BMP"), np.array(image.convert("RGB")))


def _tiff_compressed(compression: str) -> Callable[[], OddFile]:
    return lambda: OddFile(coded(drawing(), "TIFF", compression=compression), drawing())


for _compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
    ODD_FILES[f"tiff_{_compression.removeprefix('tiff_')}"] = _tiff_compressed(_compression)


@odd
def tiff_grey_16_bits() -> OddFile:
    ramp = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    return OddFile(coded(Image.fromarray(ramp), "TIFF"), three((ramp // 256).astype(np.uint8)), 1)


@odd
def tiff_cmyk() -> OddFile:
    return OddFile(coded(Image.fromarray(drawing()).convert("CMYK"), "TIFF"), drawing(), 1)


@odd
def tiff_orientation_6() -> OddFile:
    return OddFile(coded(stored_for(6, drawing()), "TIFF", tiffinfo={274: 6}), drawing())


@odd
def tiff_of_pages() -> OddFile:
    pages = [Image.fromarray(drawing()[::-1])]
    return OddFile(coded(drawing(), "TIFF", save_all=True, append_images=pages), drawing())


@odd
def webp_lossy() -> OddFile:
    return OddFile(coded(drawing(), "WEBP", quality=95), drawing(), 4)


@odd
def webp_lossless() -> OddFile:
    return OddFile(coded(drawing(), "WEBP", lossless=True), drawing())


@odd
def webp_alpha() -> OddFile:
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    data = coded(np.dstack([drawing(), alpha]), "WEBP", lossless=True, exact=True)
    return OddFile(data, over_white(drawing(), alpha), 1)


@odd
def webp_orientation_6() -> OddFile:
    return OddFile(coded(stored_for(6, drawing()), "WEBP", lossless=True, exif=exif(6)), drawing())


@odd
def webp_animated() -> OddFile:
    frames = [Image.fromarray(drawing()[::-1])]
    return OddFile(coded(drawing(), "WEBP", lossless=True, save_all=True, append_images=frames), drawing())


@odd
def avif_plain() -> OddFile:
    return OddFile(coded(drawing(), "AVIF", quality=95, subsampling="4:4:4"), drawing(), 3)


@odd
def avif_orientation_6() -> OddFile:
    data = coded(stored_for(6, drawing()), "AVIF", quality=95, subsampling="4:4:4", exif=exif(6)[6:])
    return OddFile(data, drawing(), 3)


# ---------------------------------------------------------------------------------------------------- not photos at all


def _refused(data: bytes, says: str) -> Callable[[], OddFile]:
    return lambda: OddFile(data, says=says)


ODD_FILES |= {
    "nothing": _refused(b"", "empty"),
    "one_byte": _refused(b"\xff", "not an image"),
    "text": _refused(b"Ceci n'est pas une image." * 99, "not an image"),
    "web_page": _refused(b"<!doctype html><img src=x>", "not an image"),
    "svg": _refused(b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "not an image"),
    "pdf": _refused(b"%PDF-1.7\n" + bytes(999), "not an image"),
    "zip": _refused(b"PK\x03\x04" + bytes(999), "not an image"),
    "postscript": _refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "photoshop": _refused(b"8BPS\0\1" + bytes(99), "not an image"),
    "fits": _refused(b"SIMPLE  =                    T".ljust(2880), "not an image"),
    "zeros": _refused(bytes(100_000), "not an image"),
    "noise": _refused(np.random.default_rng(3).bytes(100_000), "not an image"),
    "film": _refused(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(99), "not an image"),
    "jpeg_only_magic": _refused(b"\xff\xd8\xff", "cut off"),
    "png_only_magic": _refused(b"\x89PNG\r\n\x1a\n", "cut off"),
    "gif_only_magic": _refused(b"GIF89a", "cut off"),
    "webp_only_magic": _refused(b"RIFF\x04\0\0\0WEBP", "cut off"),
    "tiff_only_magic": _refused(b"II*\0\x08\0\0\0", "cut off"),
    "bmp_only_magic": _refused(b"BM", "cut off"),
}


@odd
def jpeg_2000() -> OddFile:
    return OddFile(coded(drawing(), "JPEG2000"), says="not an image")


@odd
def icon() -> OddFile:
    return OddFile(coded(drawing(), "ICO"), says="not an image")


# ------------------------------------------------------------------------------------------------------------- damaged


def _cut(format: str, share: float = 0.6, **options: Any) -> Callable[[], OddFile]:
    def make() -> OddFile:
        whole = coded(drawing(), format, **options)
        return OddFile(whole[: int(len(whole) * share)], says="cut off|damaged")

    return make


for _format in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"):
    ODD_FILES[f"{_format.lower()}_truncated"] = _cut(_format)
ODD_FILES["jpeg_progressive_truncated"] = _cut("JPEG", 0.9, progressive=True)
ODD_FILES["tiff_deflate_truncated"] = _cut("TIFF", 0.4, compression="tiff_adobe_deflate")
ODD_FILES["jpeg_without_end"] = lambda: OddFile(jpeg(drawing())[:-2], says="cut off")
ODD_FILES["png_without_end"] = lambda: OddFile(coded(drawing(), "PNG")[:-12], says="cut off")


@odd
def png_wrong_checksum() -> OddFile:
    data = bytearray(coded(drawing(), "PNG"))
    data[29] ^= 1  # within the checksum of the header
    return OddFile(bytes(data), says="damaged")


@odd
def png_too_few_rows() -> OddFile:
    """Well-formed otherwise: the rest stays black, as viewers show it."""
    expected = drawing().copy()
    expected[20:] = 0
    return OddFile(png(64, 48, 8, 2, png_rows(drawing()[:20].reshape(20, -1))), expected)


@odd
def png_without_pixels() -> OddFile:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
    return OddFile(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""), says="damaged")


@odd
def png_header_late() -> OddFile:
    return OddFile(b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b"") + bytes(99), says="begin|cut off")


@odd
def png_no_pixels_wide() -> OddFile:
    return OddFile(png(0, 48, 8, 2, b""), says="0 x 48")


@odd
def jpeg_no_pixels_high() -> OddFile:
    return OddFile(with_frame(jpeg(drawing()), height=0), says="64 x 0")


@odd
def jpeg_without_picture() -> OddFile:
    return OddFile(b"\xff\xd8" + segment(0xFE, b"hello") + b"\xff\xd9", says="no picture")


@odd
def jpeg_two_frames() -> OddFile:
    data = jpeg(drawing())
    at = data.index(b"\xff\xc0")
    return OddFile(data[:at] + data[at : at + 19] + data[at:], says="several")


@odd
def jpeg_arithmetic() -> OddFile:
    return OddFile(jpeg(drawing()).replace(b"\xff\xc0", b"\xff\xc9", 1), says="arithmetic")


@odd
def jpeg_12_bits() -> OddFile:
    data = bytearray(jpeg(drawing()))
    data[data.index(b"\xff\xc0") + 4] = 12
    return OddFile(bytes(data), says="12 bits")


@odd
def png_one_bit() -> OddFile:
    return OddFile(png(8, 2, 1, 0, b"\0\x55\0\xaa"), says="'1'")


@odd
def tiff_of_floats() -> OddFile:
    return OddFile(coded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), says="'F'")


@odd
def gif_without_picture() -> OddFile:
    return OddFile(b"GIF89a\x09\0\x09\0\0\0\0;", says="no picture")


@odd
def webp_without_picture() -> OddFile:
    body = b"WEBPJUNK" + struct.pack("<I", 4) + b"junk"
    return OddFile(b"RIFF" + struct.pack("<I", len(body)) + body, says="no picture")


# -------------------------------------------------------------------------------------------------------- made to harm


def with_frame(data: bytes, *, width: int = 64, height: int = 48) -> bytes:
    """A JPEG whose header says another size."""
    at = next(data.index(bytes([0xFF, kind])) for kind in (0xC0, 0xC2) if bytes([0xFF, kind, 0, 17]) in data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def repeated_scans(data: bytes, scans: int) -> bytes:
    """A progressive JPEG whose second scan (of few bytes, and harmless twice) comes again until there are `scans`."""
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    second = data[starts[1] : data.index(b"\xff", starts[1] + 2)]
    return data[: starts[1]] + second * (scans - len(starts)) + data[starts[1] :]


def flat_progressive(side: int) -> bytes:
    return jpeg(np.full((side, side, 3), 90, np.uint8), progressive=True, quality=30)


@odd
def jpeg_400_scans_of_16_megapixels() -> OddFile:
    """Takes 7 s and a few dozen kB where nobody counts scans."""
    return OddFile(repeated_scans(flat_progressive(4000), 400), says="400 scans")


@odd
def jpeg_60_scans_of_16_megapixels() -> OddFile:
    return OddFile(repeated_scans(flat_progressive(4000), 60), says="60 scans")


@odd
def jpeg_65_scans() -> OddFile:
    return OddFile(repeated_scans(jpeg(drawing(), progressive=True), 65), says="65 scans")


@odd
def jpeg_progressive_of_49_megapixels() -> OddFile:
    return OddFile(with_frame(jpeg(drawing(), progressive=True), width=7000, height=7000), says="MB of memory")


@odd
def jpeg_4_gigapixels() -> OddFile:
    return OddFile(with_frame(jpeg(drawing()), width=65535, height=65535), says="million")


@odd
def jpeg_many_segments() -> OddFile:
    return OddFile(with_segments(jpeg(drawing()), segment(0xFE, b"") * 2_000_000), says="too many segments")


@odd
def jpeg_impossible_sampling() -> OddFile:
    data = bytearray(jpeg(drawing(), progressive=True))
    data[data.index(b"\xff\xc2") + 11] = 0
    return OddFile(bytes(data), says="sampling")


@odd
def jpeg_49_megapixels_of_nothing() -> OddFile:
    """A header within the limits and hardly any picture: grey at worst, and cheap."""
    return OddFile(with_frame(jpeg(drawing()), width=7000, height=7000)[:-2], says="cut off")


@odd
def png_144_megapixels() -> OddFile:
    """A real bomb: 144 MB out of 140 kB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(12_001 * 1000)) for _ in range(12)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0))
    return OddFile(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b""), says="million")


@odd
def png_4_gigapixels_wide() -> OddFile:
    return OddFile(png(2**31 - 1, 2, 8, 2, bytes(100)), says="2147483647 x 2")


@odd
def png_one_long_row() -> OddFile:
    return OddFile(png(49_000_000, 1, 8, 0, bytes(100)), says="49000000 x 1")


@odd
def png_49_megapixels_in_colour() -> OddFile:
    return OddFile(png(7000, 7000, 8, 2, bytes(100)), says="MB of memory")


@odd
def png_many_chunks() -> OddFile:
    return OddFile(with_chunks(coded(drawing(), "PNG"), chunk(b"tEXt", b"a\0b") * 1_000_000), says="too many chunks")


@odd
def png_many_pixel_chunks() -> OddFile:
    data = coded(drawing(), "PNG")
    return OddFile(data[:-12] + chunk(b"IDAT", b"") * 1_000_000 + data[-12:], says="too many chunks")


@odd
def gif_4_gigapixels() -> OddFile:
    data = bytearray(coded(drawing(), "GIF"))
    data[6:10] = b"\xff" * 4
    return OddFile(bytes(data), says="million")


@odd
def gif_frame_larger_than_screen() -> OddFile:
    data = bytearray(coded(Image.new("P", (9, 9)), "GIF"))
    at = data.index(b"\x2c", 13)
    data[at + 5 : at + 9] = b"\xff" * 4
    return OddFile(bytes(data), says="million|damaged")


@odd
def gif_many_comments() -> OddFile:
    data = coded(Image.new("P", (9, 9)), "GIF")
    at = data.index(b"\x2c", 13)
    return OddFile(data[:at] + b"\x21\xfe" + b"\x01a" * 2_000_000 + b"\0" + data[at:], says="too many blocks")


@odd
def bmp_4_gigapixels() -> OddFile:
    data = bytearray(coded(drawing(), "BMP"))
    data[18:26] = struct.pack("<ii", 65535, -65535)
    return OddFile(bytes(data), says="million")


@odd
def bmp_run_lengths() -> OddFile:
    data = bytearray(coded(Image.fromarray(drawing()).quantize(9), "BMP"))
    data[30:34] = struct.pack("<I", 1)
    return OddFile(bytes(data), says="method 1")


@odd
def webp_268_megapixels() -> OddFile:
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xfe\x3f\0" * 2 + b"VP8 " + bytes(20)
    return OddFile(b"RIFF" + struct.pack("<I", len(body)) + body, says="million")


@odd
def webp_alpha_of_25_megapixels() -> OddFile:
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0x10) + b"\x87\x13\0" * 2 + b"VP8 " + bytes(20)
    return OddFile(b"RIFF" + struct.pack("<I", len(body)) + body, says="MB of memory")


@odd
def webp_many_chunks() -> OddFile:
    data = coded(drawing(), "WEBP", lossless=True)
    body = data[8:] + (b"JUNK" + bytes(4)) * 100_000
    return OddFile(b"RIFF" + struct.pack("<I", len(body)) + body, says="too many chunks")


@odd
def tiff_4_gigapixels() -> OddFile:
    size = [(256, 4, 1, 65535), (257, 4, 1, 65535)]
    return OddFile(tiff([*size, (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1)]), says="million")


@odd
def tiff_tags_that_overlap() -> OddFile:
    """A thousand tags that all claim the same megabyte, which would be copied a thousand times."""
    size = [(256, 4, 1, 64), (257, 4, 1, 48)]
    claims = [(40000 + i, 7, 1 << 20, 100) for i in range(1000)]
    return OddFile(tiff(size + claims, bytes(1 << 20)), says="claims more bytes")


@odd
def tiff_giant_tile() -> OddFile:
    size = [(256, 4, 1, 64), (257, 4, 1, 48), (322, 4, 1, 60000), (323, 4, 1, 60000)]
    return OddFile(tiff([*size, (258, 3, 1, 8), (262, 3, 1, 1), (324, 4, 1, 8)]), says="tiles")


@odd
def tiff_jpeg_within() -> OddFile:
    return OddFile(coded(drawing(), "TIFF", compression="jpeg"), says="method 7")


@odd
def tiff_endless_directory() -> OddFile:
    return OddFile(b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(99), says="cut off")


@odd
def avif_4_gigapixels() -> OddFile:
    data = bytearray(coded(drawing(), "AVIF"))
    at = data.index(b"ispe")
    data[at + 8 : at + 16] = struct.pack(">II", 65535, 65535)
    return OddFile(bytes(data), says="million")


@odd
def avif_of_no_size() -> OddFile:
    return OddFile(b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(99), says="how large")
