"""What a photo file says of itself, read before any decoder runs.

A decoder fed by strangers must not be asked to guess. So the format is told by content, against a short list; size,
scans and chunks are counted here; and of JPEG, PNG and GIF only what makes pixels goes on to the decoder: text, colour
profiles, previews, metadata and whatever hangs on behind the picture stay outside. The way up is read from EXIF here.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from facespace.errors import BadImage

MAX_SIDE = 65_535
MAX_SCANS = 64
MAX_SCAN_PIXELS = 640_000_000
"""Scans of a JPEG times its pixels: a scan visits every pixel, however few bytes it has (about 1 s at this limit)."""

_MAX_PARTS = 20_000
"""Chunks, segments or blocks of one file: walking more of them costs time and no camera writes them."""

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""A marker, not a stuffed byte nor one of the restarts that stand within a scan."""


@dataclass(frozen=True)
class Header:
    """A photo file understood but not decoded.

    `format` is Pillow's name of the one decoder that may run, `payload` the bytes it gets. `orientation` is that of
    EXIF, 1..8. `cost` is the greatest memory that decoding takes, in bytes per pixel, as measured. `plain` marks a file
    that OpenCV decodes to the same pixels as Pillow in less time.
    """

    format: str
    width: int
    height: int
    payload: bytes
    cost: float
    orientation: int = 1
    plain: bool = False


def read_header(data: bytes) -> Header:
    """The header of the bytes of a photo; raises BadImage where they are of no allowed format, damaged or cut off."""
    if not data:
        raise BadImage("the file is empty")
    reader = next((read for magic, read in _READERS if magic.match(data)), None)
    if reader is None:
        raise BadImage("not an image of a known format (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC)")
    try:
        header = reader(data)
    except (struct.error, IndexError):
        raise _cut_off() from None
    if not (1 <= header.width <= MAX_SIDE and 1 <= header.height <= MAX_SIDE):
        raise BadImage(f"the image says it has {header.width} x {header.height} pixels")
    return header


def _cut_off() -> BadImage:
    return BadImage("the file is cut off")


def _too_many(parts: str) -> BadImage:
    return BadImage(f"the file has too many {parts}")


def _jpeg(data: bytes) -> Header:
    frame, adobe, scans, orientation = b"", False, 0, 1
    payload, kept_until = [], 0
    for marker, begin, body, end in _jpeg_segments(data):
        content = data[body:end]
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            if frame or marker > 0xC2:
                raise BadImage("a JPEG of several pictures, or a lossless or arithmetic one, is not read")
            frame = bytes([marker]) + content
        scans += marker == 0xDA
        adobe |= marker == 0xEE
        if marker == 0xE1 and content.startswith(b"Exif\0\0") and orientation == 1:
            orientation = exif_orientation(content[6:])
        if marker in (*range(0xE1, 0xEE), 0xEF, 0xFE):  # all but JFIF and Adobe, which say what the colours mean
            payload.append(data[kept_until:begin])
            kept_until = end
    payload.append(data[kept_until:end])
    return _jpeg_header(frame, scans, adobe, orientation, b"".join(payload))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Marker, its begin, begin and end of its content, to the end of the first picture; scans without their pixels."""
    at = 2
    for _ in range(_MAX_PARTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            raise _cut_off()
        marker = found[1][0]
        if marker == 0xD9:
            yield marker, found.start(), found.end(), found.end()
            return
        at = found.end() + struct.unpack_from(">H", data, found.end())[0]
        if at > len(data):
            raise _cut_off()
        yield marker, found.start(), found.end() + 2, at
    raise _too_many("segments")


def _jpeg_header(frame: bytes, scans: int, adobe: bool, orientation: int, payload: bytes) -> Header:
    if not frame or not scans:
        raise BadImage("the JPEG has no picture in it")
    marker, bits, height, width, components = struct.unpack_from(">BBHHB", frame)
    if bits != 8 or components not in (1, 3, 4):
        raise BadImage(f"a JPEG of {components} channels of {bits} bits is not read")
    if scans > MAX_SCANS or (scans > 1 and scans * width * height > MAX_SCAN_PIXELS):
        raise BadImage(f"the JPEG has {scans} scans of {width} x {height} pixels")
    plain = components != 4 and not adobe
    cost = 3.0 if plain else 7.0
    if marker == 0xC2 or scans > 1:
        cost += 2 * _samples(frame[7:], components)
    if plain and orientation > 1:
        cost = max(cost, 6.0)
    return Header("JPEG", width, height, payload, cost, orientation, plain)


def _samples(table: bytes, components: int) -> float:
    """Coefficients per pixel that a JPEG of several scans keeps in memory: 1.5 for 4:2:0, 3 for 4:4:4."""
    factors = [(table[3 * i + 1] >> 4, table[3 * i + 1] & 15) for i in range(components)]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise BadImage("the JPEG has impossible sampling factors")
    largest = max(h for h, _ in factors) * max(v for _, v in factors)
    return sum(h * v for h, v in factors) / largest


def _png(data: bytes) -> Header:
    payload, orientation, at, kind = [data[:8]], 1, 8, b""
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise _cut_off()
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            payload.append(data[at:end])
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        at = end
        if kind == b"IEND":
            break
    else:
        raise _too_many("chunks")
    if payload[1][4:8] != b"IHDR":
        raise BadImage("the PNG does not begin with its header")
    width, height, _, colour = struct.unpack_from(">IIBB", payload[1], 8)
    cost = 5.0 if colour in (0, 3) else 7.0  # grey and palette stand in memory with one or two bytes a pixel
    return Header("PNG", width, height, b"".join(payload), cost, orientation)


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _gif_palette_bytes(flags)
    payload, subblocks = [data[:at]], 0
    while data[at] != 0x2C:
        if data[at] != 0x21:
            raise BadImage("the GIF has no picture in it")
        begin, label, at = at, data[at + 1], at + 2
        while data[at]:
            at += data[at] + 1
            subblocks += 1
            if subblocks > _MAX_PARTS:
                raise _too_many("blocks")
        at += 1
        if label == 0xF9:  # the control block, which names the transparent colour
            payload.append(data[begin:at])
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    return Header("GIF", width, height, b"".join([*payload, data[at:]]), 5.0)


def _gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _bmp(data: bytes) -> Header:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("BMP", width, height, data, 7.0)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3, 6):
        raise BadImage(f"a BMP compressed by method {compression} at {bits} bits is not read")
    return Header("BMP", width, abs(height), data, 7.0)


def _tiff(data: bytes) -> Header:
    tags = _tiff_tags(data)
    if tags.get(259, 1) not in (1, 5, 8, 32773, 32946):
        raise BadImage(f"a TIFF compressed by method {tags[259]} is not read (raw, LZW, deflate and PackBits are)")
    width, height = tags.get(256, 0), tags.get(257, 0)
    if tags.get(322, 0) * tags.get(323, 0) > max(width * height, 1 << 20):
        raise BadImage("the TIFF has tiles larger than its picture")
    return Header("TIFF", width, height, data, 8.0)  # Pillow obeys its orientation by itself


_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The first value of each whole-number tag of the first directory of a TIFF, which is also the form of EXIF.

    Raises BadImage where the tags claim more bytes than there are: Pillow would copy them for each tag that does.
    """
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, start)
    tags, claimed_bytes = {}, 0
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        size = _TIFF_TYPE_BYTES.get(kind, 1) * count
        claimed_bytes += size
        if kind in (3, 4) and count:
            place = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place)
    if claimed_bytes > len(data):
        raise BadImage("the TIFF directory claims more bytes than the file has")
    return tags


def exif_orientation(exif: bytes) -> int:
    """The orientation 1..8 of an EXIF block (TIFF bytes, without `Exif\\0\\0`); 1 where it is absent or damaged."""
    try:
        orientation = _tiff_tags(exif).get(274, 1) if _TIFF_MAGIC.match(exif) else 1
    except (struct.error, IndexError, BadImage):
        return 1  # a photo is not refused for its metadata
    return orientation if 1 <= orientation <= 8 else 1


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    data = data[: size + 8]
    if len(data) < size + 8:
        raise _cut_off()
    chunks = list(_webp_chunks(data))
    kind, body, _ = chunks[0]
    width, height, alpha = _webp_size(data, kind, body)
    exif = next((data[begin:end] for kind, begin, end in chunks if kind == b"EXIF"), b"")
    plain = not alpha and not any(kind == b"ANMF" for kind, _, _ in chunks)
    orientation = exif_orientation(exif.removeprefix(b"Exif\0\0"))
    return Header("WEBP", width, height, data, 8.0 if plain else 17.0, orientation, plain)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each chunk."""
    at = 12
    for _ in range(_MAX_PARTS):
        if at >= len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8, at + 8 + size
        at += 8 + size + size % 2
    raise _too_many("chunks")


def _webp_size(data: bytes, kind: bytes, at: int) -> tuple[int, int, bool]:
    """Width, height and whether there may be transparency, of the three kinds of first chunk."""
    match kind:
        case b"VP8X":
            flags, w, h = data[at], data[at + 4 : at + 7], data[at + 7 : at + 10]
            return int.from_bytes(w, "little") + 1, int.from_bytes(h, "little") + 1, bool(flags & 0x10)
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, at + 1)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, at + 6)
            return width & 0x3FFF, height & 0x3FFF, False
    raise BadImage("the WebP has no picture in it")


def _isobmff(data: bytes) -> Header:
    """AVIF and HEIC: boxes within boxes. The largest size that any of their pictures claims counts."""
    (size,) = struct.unpack_from(">I", data)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(size, 256), 4))}
    if not brands & {b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}:
        raise BadImage("not an image of a known format (a film or a sound?)")
    claims = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(rb"ispe", data)]
    if not claims:
        raise BadImage("the file does not say how large its picture is")
    width, height = max(claims, key=lambda claim: claim[0] * claim[1])
    return Header("AVIF" if brands & {b"avif", b"avis"} else "HEIF", width, height, data, 12.0)


_TIFF_MAGIC = re.compile(rb"II\*\0|MM\0\*")
_READERS: list[tuple[re.Pattern[bytes], Callable[[bytes], Header]]] = [
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"BM", re.DOTALL), _bmp),
    (_TIFF_MAGIC, _tiff),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"....ftyp", re.DOTALL), _isobmff),
]
