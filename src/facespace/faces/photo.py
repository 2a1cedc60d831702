"""Bytes or a path to an upright RGB photo; everything that is not one is refused by name and reason.

The header (`faces.headers`) decides before a decoder runs; then exactly one decoder may try. No process-wide setting of
Pillow or OpenCV is read or changed.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facespace.core.contracts import Photo
from facespace.errors import BadImage
from facespace.faces.headers import Header, exif_orientation, read_header

MAX_BYTES = 64 << 20
"""Largest file that is read."""

_BYTES_PER_PIXEL = 6
"""Memory allowed for each pixel of `max_pixels`: 300 MB at the default of 50 million."""

_STRIP_PIXELS = 1 << 18
"""Pixels converted at once: few, so that only the decoded and the final picture stand in memory."""

_MODES = {"L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16L", "I;16B", "I;16N"}


def read_photo(source: bytes | str | Path, *, max_pixels: int = 50_000_000, name: str | None = None) -> Photo:
    """The photo of a file (path) or of its bytes, as RGB uint8 `(H, W, 3)`, turned upright as its EXIF says.

    JPEG, PNG, WebP, BMP, TIFF, AVIF, GIF, HEIC with the extra `heif`; told by content, whatever the file is called; the
    first picture of films and page stacks. Grey becomes three equal channels, 16 bits are scaled to 8, transparency
    lies on white, CMYK is converted, colour profiles are not applied. Raises BadImage for everything else: other
    formats, damaged or truncated files, more than `max_pixels` pixels, more memory than six bytes for each of
    `max_pixels`, files over 64 MiB, too many scans. `name` says what to call bytes in an error.
    """
    try:
        data = source if isinstance(source, bytes) else _read(Path(source))
        return _decode(data, max_pixels)
    except BadImage as error:
        error.file = name or (None if isinstance(source, bytes) else _printable(source))
        raise


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise BadImage("there is no such file")
        if not path.is_file():
            raise BadImage("this is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise BadImage(_too_large(path.stat().st_size))
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadImage(f"the file cannot be read ({error})") from error


def _printable(path: str | Path) -> str:
    """The path as text that can be printed, even where the name on disk is not valid UTF-8."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


def _too_large(size_bytes: int) -> str:
    return f"the file has {size_bytes / 2**20:.0f} MiB; at most {MAX_BYTES >> 20} are read"


def _decode(data: bytes, max_pixels: int) -> Photo:
    if len(data) > MAX_BYTES:
        raise BadImage(_too_large(len(data)))
    header = read_header(data)
    _check_limits(header, max_pixels)
    if header.plain:
        return _turned(_by_opencv(header), header.orientation)
    photo, orientation = _by_pillow(header)
    return _turned(photo, orientation)


def _check_limits(header: Header, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        size = f"{header.width} x {header.height} pixels"
        raise BadImage(f"{size} are more than {max_pixels / 1e6:g} million", hint="make the photo smaller")
    needed, allowed = pixels * header.cost, max_pixels * _BYTES_PER_PIXEL
    if needed > allowed:
        reason = f"decoding this {header.format} would take {needed / 1e6:.0f} MB of memory, over {allowed / 1e6:.0f}"
        raise BadImage(reason, hint="make the photo smaller, or save it as a plain JPEG")


def _by_opencv(header: Header) -> Photo:
    encoded = np.frombuffer(header.payload, np.uint8)
    try:
        photo = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadImage(f"the {header.format} is damaged") from error
    if photo is None or photo.shape[:2] != (header.height, header.width):
        raise BadImage(f"the {header.format} is damaged")
    return np.asarray(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB, dst=photo), np.uint8)


def _by_pillow(header: Header) -> tuple[Photo, int]:
    """The photo as stored, and its orientation."""
    try:
        with _opened(header) as image:
            if image.width * image.height > header.width * header.height:
                raise BadImage("the picture is larger than its header says")
            image.load()
            return _rgb(image), header.orientation if header.format != "AVIF" else _avif_orientation(image)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # a decoder fed by strangers raises whatever comes
        raise BadImage(f"the {header.format} is damaged ({error})") from error


def _opened(header: Header) -> Image.Image:
    if header.format != "HEIF":
        return Image.open(io.BytesIO(header.payload), formats=[header.format])
    try:
        import pillow_heif
    except ImportError:
        raise BadImage("HEIC photos need an extra", hint="pip install 'facespace[heif]'") from None
    image: Image.Image = pillow_heif.open_heif(header.payload).to_pillow()
    return image


def _avif_orientation(image: Image.Image) -> int:
    """What Pillow made of the turn and the mirror that an AVIF stores: it hands them on as EXIF."""
    exif: bytes = image.info.get("exif", b"")
    return exif_orientation(exif.removeprefix(b"Exif\0\0"))


def _rgb(image: Image.Image) -> Photo:
    """RGB uint8 `(H, W, 3)` of a loaded image, strip by strip."""
    if image.mode not in _MODES:
        raise BadImage(f"pixels of kind {image.mode!r} are not read", hint="save the photo with 8 or 16 bits a channel")
    out = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        out[top:bottom] = _strip_rgb(image.crop((0, top, image.width, bottom)))
    return out


def _strip_rgb(strip: Image.Image) -> NDArray[np.uint8]:
    """RGB of a few rows, or grey with a last axis of 1."""
    if strip.mode.startswith("I;16"):
        return (np.asarray(strip)[:, :, None] >> 8).astype(np.uint8)
    if strip.has_transparency_data:
        strip = strip.convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        strip = Image.alpha_composite(white, strip)
    return np.asarray(strip.convert("RGB"))


def _turned(photo: Photo, orientation: int) -> Photo:
    """The photo upright; EXIF 2.3, section 4.6.4 A, numbers where row 0 and column 0 of the stored photo belong."""
    match orientation:
        case 2:
            turned = cv2.flip(photo, 1)
        case 3:
            turned = cv2.flip(photo, -1)
        case 4:
            turned = cv2.flip(photo, 0)
        case 5:
            turned = cv2.transpose(photo)
        case 6:
            turned = cv2.rotate(photo, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.transpose(cv2.flip(photo, -1, dst=photo))
        case 8:
            turned = cv2.rotate(photo, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return photo
    return np.asarray(turned, np.uint8)
