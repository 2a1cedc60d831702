"""RecordIO files read in place, without mxnet: the `.idx` names the records, each gives a label and an image.

A record is a magic number, a word of 3 bits flag and 29 bits length, and that many bytes, filled up to a multiple of 4.
Content that holds the magic number itself is stored in parts without it. The bytes begin with a header (flag, label,
two ids; 24 bytes) and, where the flag is above 0, with so many float32 labels; the rest is the image. The record 0 of
InsightFace's sets holds no image: its two labels are where the images end, and where the people's own records do.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO

from facespace.errors import DataError

MAX_RECORD_BYTES = 1 << 26
"""Of one record; a face of 112 pixels takes a few kilobytes."""
_MAGIC = struct.pack("<I", 0xCED7230A)
_HEADER = struct.Struct("<IfQQ")
_MAX_LABELS = 1 << 16
_HINT = "copy the .rec and its .idx anew, together"


class Records:
    """The images of `NAME.rec` by name, `0000012/0000003456.jpg` being record 3456 of person 12; safe between threads.

    `NAME.idx` must lie beside it: a line for each record, its number and where it begins. Raises DataError where either
    is missing or malformed, naming the record. Opening reads every record's first bytes, not its image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets = _read_index(path.with_suffix(".idx"))
        try:
            with path.open("rb") as file:
                self._size = file.seek(0, 2)
                labels = {number: self._label(file, number) for number in self._image_numbers(file)}
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", file=path) from error
        self._numbers = {f"{label:07d}/{number:010d}.jpg": number for number, label in labels.items()}

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order of the index."""
        return list(self._numbers)

    def read(self, name: str) -> bytes:
        """The encoded bytes of an image; DataError where there is none of that name, or the record is damaged."""
        if name not in self._numbers:
            raise DataError(f"the records hold no image {name!r}", file=self.path)
        try:
            with self.path.open("rb") as file:  # a position of its own for every reader
                content = self._content(file, self._numbers[name])
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", file=self.path) from error
        return content[_HEADER.size + 4 * self._labels_in(content, self._numbers[name]) :]

    def _image_numbers(self, file: BinaryIO) -> list[int]:
        """Record numbers of images: all, or in InsightFace's sets those before the end that record 0 names."""
        if 0 not in self._offsets:
            return list(self._offsets)
        labels = self._labels(file, 0)
        if len(labels) != 2:
            return list(self._offsets)  # an ordinary record
        end = _whole(labels[0])
        if end is None or end - 1 not in self._offsets:
            raise self._bad(0, f"names {labels[0]:g} as the end of the images, and the index has no record before it")
        return [number for number in self._offsets if 0 < number < end]

    def _label(self, file: BinaryIO, number: int) -> int:
        """The person of a record: its label, or the first of several."""
        label = _whole(self._labels(file, number)[0])
        if label is None:
            raise self._bad(number, "its label is no whole number from 0")
        return label

    def _labels(self, file: BinaryIO, number: int) -> tuple[float, ...]:
        head = self._content(file, number, _HEADER.size)
        if not (count := self._labels_in(head, number)):
            return (_HEADER.unpack_from(head)[1],)
        content = self._content(file, number, _HEADER.size + 4 * count)
        return struct.unpack_from(f"<{count}f", content, _HEADER.size)

    def _labels_in(self, content: bytes, number: int) -> int:
        """How many labels follow the header; 0 where the header has the only one."""
        if len(content) < _HEADER.size:
            raise self._bad(number, f"{len(content)} bytes hold no header")
        count = int(_HEADER.unpack_from(content)[0])
        if count > _MAX_LABELS:
            raise self._bad(number, f"claims {count:,} labels")
        return count

    def _content(self, file: BinaryIO, number: int, first: int | None = None) -> bytes:
        """The bytes of a record, or its `first` ones; its parts joined by the magic number that stood between them."""
        at, size = self._offsets[number], 0
        parts: list[bytes] = []
        while True:
            flag, length = self._part(file, at, number)
            size += length + len(_MAGIC)
            if size > MAX_RECORD_BYTES:
                raise self._bad(number, f"is larger than {MAX_RECORD_BYTES >> 20} MiB")
            if flag not in ((0, 1) if not parts else (2, 3)):
                raise self._bad(number, f"part {len(parts) + 1} has the flag {flag}")
            wanted = length if first is None else min(length, first)
            content = file.read(wanted)
            if len(content) < wanted:
                raise self._bad(number, "the file ends inside it")
            parts.append(content)
            if flag in (0, 3) or (first is not None and length >= first):
                return self._enough(_MAGIC.join(parts), number, first)
            at += 8 + length + -length % 4

    def _enough(self, content: bytes, number: int, first: int | None) -> bytes:
        if first is not None and len(content) < first:
            raise self._bad(number, f"{len(content)} bytes hold no header with its labels")
        return content[:first]

    def _part(self, file: BinaryIO, at: int, number: int) -> tuple[int, int]:
        """Flag and length of the part that begins at a byte of the file, which then stands behind them."""
        if not 0 <= at <= self._size - 8:
            raise self._bad(number, f"begins at byte {at}, behind the end of the file")
        file.seek(at)
        magic, word = file.read(4), int.from_bytes(file.read(4), "little")
        if magic != _MAGIC:
            raise self._bad(number, f"byte {at} begins no record")
        return word >> 29, word & (1 << 29) - 1

    def _bad(self, number: int, why: str) -> DataError:
        return DataError(f"record {number}: {why}", file=self.path, hint=_HINT)


def _whole(label: float) -> int | None:
    return int(label) if math.isfinite(label) and label >= 0 and label == int(label) else None


def _read_index(path: Path) -> dict[int, int]:
    """Record number to the byte where it begins, in the order of the file."""
    try:
        with path.open("rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        hint = "the .idx of a .rec lies beside it, under the same name"
        raise DataError(f"cannot be read ({error.strerror})", file=path, hint=hint) from error
    offsets: dict[int, int] = {}
    for at, line in enumerate(lines, 1):
        fields = line.split()
        if len(fields) != 2 or not all(field.isdigit() and len(field) <= 18 for field in fields):
            raise DataError(
                f"line {at} is not: number, byte", file=path, hint="copy the .rec and its .idx anew, together"
            )
        number, offset = int(fields[0]), int(fields[1])
        if number in offsets:
            raise DataError(f"line {at} names record {number} a second time", file=path)
        offsets[number] = offset
    if not offsets:
        raise DataError("names no record", file=path)
    return offsets
