"""RecordIO files: what a writer of our own packs is read alike; a damaged one is an error that names the record."""

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facespace.data.drawn import draw_crop, person
from facespace.data.folder import open_people
from facespace.data.records import MAX_RECORD_BYTES, Records
from facespace.errors import DataError

MAGIC = struct.pack("<I", 0xCED7230A)


def packed(image: bytes, label: float | list[float], number: int = 0) -> bytes:
    """A header and an image, as mxnet's `pack` writes them."""
    if isinstance(label, list):
        return struct.pack("<IfQQ", len(label), 0.0, number, 0) + struct.pack(f"<{len(label)}f", *label) + image
    return struct.pack("<IfQQ", 0, label, number, 0) + image


def record(content: bytes) -> bytes:
    """One record; at each aligned magic number within the content it is parted, as dmlc's writer does."""
    cuts = [at for at in range(0, len(content) - 3, 4) if content[at : at + 4] == MAGIC]
    starts, ends = [0, *(at + 4 for at in cuts)], [*cuts, len(content)]
    made = b""
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        flag = 0 if not cuts else 1 if i == 0 else 3 if i == len(cuts) else 2
        part = content[start:end]
        made += MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + bytes(-len(part) % 4)
    return made


def write(path: Path, records: dict[int, bytes]) -> Path:
    """`path` and the index beside it."""
    data, lines = b"", []
    for number, content in records.items():
        lines.append(f"{number}\t{len(data)}\n")
        data += record(content)
    path.write_bytes(data)
    path.with_suffix(".idx").write_text("".join(lines))
    return path


def insightface(images: list[tuple[int, bytes]], *, pair: bool = False) -> dict[int, bytes]:
    """Records as InsightFace's sets have them: 0 the ends, 1.. the images, then a record for each person."""
    people = sorted({label for label, _ in images})
    end = len(images) + 1
    records = {0: packed(b"", [float(end), float(end + len(people))])}
    for number, (label, image) in enumerate(images, 1):
        records[number] = packed(image, [float(label), 0.0] if pair else float(label), number)
    for number, label in enumerate(people, end):
        mine = [i for i, (other, _) in enumerate(images, 1) if other == label]
        records[number] = packed(b"", [float(mine[0]), float(mine[-1] + 1)], number)
    return records


IMAGES = [(label, bytes([label, i]) * (3 + i)) for label in range(3) for i in range(4)]


@pytest.mark.parametrize("pair", [False, True])
def test_a_set_of_insightface_is_a_source_of_people(tmp_path: Path, pair: bool) -> None:
    people = open_people(write(tmp_path / "train.rec", insightface(IMAGES, pair=pair)))
    assert people.names == ("0000000", "0000001", "0000002")
    assert people.labels.tolist() == [label for label, _ in IMAGES]
    assert [people.read(photo) for photo in people.photos] == [image for _, image in IMAGES]
    assert people.photos[5].name == "0000001/0000000006.jpg"
    assert people.only(frozenset({"0000002"})).photos == people.photos[8:]


def test_drawn_faces_come_back_byte_for_byte(tmp_path: Path) -> None:
    images = []
    for label in range(2):
        for photo in range(2):
            stream = io.BytesIO()
            Image.fromarray(draw_crop(person(0, label), photo)).save(stream, "JPEG")
            images.append((label, stream.getvalue()))
    people = open_people(write(tmp_path / "faces.rec", insightface(images)))
    assert [people.read(photo) for photo in people.photos] == [image for _, image in images]


def test_a_plain_rec_has_an_image_in_every_record_even_in_number_0(tmp_path: Path) -> None:
    records = {0: packed(b"a", 7.0), 5: packed(b"bb", 7.0), 2: packed(b"ccc", 1.0)}
    read = Records(write(tmp_path / "plain.rec", records))
    assert read.names == ["0000007/0000000000.jpg", "0000007/0000000005.jpg", "0000001/0000000002.jpg"]
    assert [read.read(name) for name in read.names] == [b"a", b"bb", b"ccc"]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_content_that_holds_the_magic_number_comes_back_whole(tmp_path: Path, times: int) -> None:
    """The header is 24 bytes, so these stand at multiples of 4; one more stands askew and is left alone."""
    image = b"abcd" + (MAGIC + b"efgh") * times + MAGIC + b"x" + MAGIC
    read = Records(write(tmp_path / "m.rec", {1: packed(image, 3.0)}))
    assert read.read("0000003/0000000001.jpg") == image
    at_once = Records(write(tmp_path / "n.rec", {1: packed(MAGIC * times, 3.0)}))
    assert at_once.read("0000003/0000000001.jpg") == MAGIC * times


def broken(tmp_path: Path, records: dict[int, bytes], *, old: bytes = b"", new: bytes = b"") -> Path:
    path = write(tmp_path / "b.rec", records)
    path.write_bytes(path.read_bytes().replace(old, new, 1) if old else path.read_bytes())
    return path


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({1: b""}, "record 1: 0 bytes hold no header"),
        ({1: b"x" * 23}, "record 1: 23 bytes hold no header"),
        ({1: packed(b"", float("nan"))}, "no whole number"),
        ({1: packed(b"", float("inf"))}, "no whole number"),
        ({1: packed(b"", -1.0)}, "no whole number"),
        ({1: packed(b"", 0.5)}, "no whole number"),
        ({1: struct.pack("<IfQQ", 3, 0, 0, 0) + b"12345678"}, "no header with its labels"),
        ({1: struct.pack("<IfQQ", 1 << 31, 0, 0, 0)}, "claims 2,147,483,648 labels"),
        ({0: packed(b"", [9.0, 10.0]), 1: packed(b"a", 0.0)}, "record 0: names 9"),
        ({0: packed(b"", [float("nan"), 10.0]), 1: packed(b"a", 0.0)}, "record 0"),
    ],
)
def test_a_malformed_record_is_an_error_that_names_it(tmp_path: Path, records: dict[int, bytes], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Records(write(tmp_path / "b.rec", records))


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    whole = {1: packed(b"a" * 40, 0.0), 2: packed(b"b" * 40, 1.0)}
    path = write(tmp_path / "d.rec", whole)
    data = path.read_bytes()
    for cut in (0, 4, 30, len(data) // 2 + 10):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match="record"):
            Records(path)
    path.write_bytes(data[:-8])
    with pytest.raises(DataError, match="record 2: the file ends inside it"):
        Records(path).read("0000001/0000000002.jpg")
    path.write_bytes(b"\0" + data[1:])
    with pytest.raises(DataError, match="byte 0 begins no record"):
        Records(path)
    path.write_bytes(MAGIC + struct.pack("<I", (1 << 29) - 1) + data[8:])
    with pytest.raises(DataError, match=f"larger than {MAX_RECORD_BYTES >> 20} MiB"):
        Records(path)
    path.write_bytes(MAGIC + struct.pack("<I", 2 << 29 | 64) + data[8:])
    with pytest.raises(DataError, match="part 1 has the flag 2"):
        Records(path)


@pytest.mark.parametrize(
    "index", ["", "1\n", "1\t2\t3\n", "a\t0\n", "1\t-4\n", "1\t0\n1\t0\n", f"1\t{'9' * 30}\n", "1\t99999\n"]
)
def test_a_malformed_index_is_an_error(tmp_path: Path, index: str) -> None:
    path = write(tmp_path / "i.rec", {1: packed(b"a", 0.0)})
    path.with_suffix(".idx").write_text(index)
    with pytest.raises(DataError):
        Records(path)


def test_a_missing_file_or_name_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.rec", {1: packed(b"a", 0.0)})
    with pytest.raises(DataError, match="no image"):
        Records(path).read("0000000/0000000002.jpg")
    path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=r"x\.idx"):
        open_people(path)


def fuzz(tmp_path: Path, count: int) -> None:
    """Mutants of both files; every image of those that open is read."""
    path = write(tmp_path / "f.rec", insightface([*IMAGES, (3, b"abcd" + MAGIC + b"efgh" + MAGIC)], pair=True))
    data, index = path.read_bytes(), path.with_suffix(".idx").read_bytes()
    rng = random.Random(0)
    magics = [at for at in range(len(data)) if data[at : at + 4] == MAGIC]
    for _ in range(count):
        made, lines = bytearray(data), bytearray(index)
        for _ in range(rng.randint(1, 4)):
            match rng.randrange(6):
                case 0:
                    made[rng.randrange(len(made))] = rng.randrange(256)
                case 1:
                    at = min(rng.choice(magics) + rng.randrange(4, 12), len(made) - 1)
                    made[at] = rng.choice([0, 1, 0x20, 0x40, 0x60, 0x7F, 0x80, 0xFF])
                case 2:
                    at = rng.randrange(len(made))
                    del made[at : at + rng.randint(1, 30)]
                case 3:
                    at = rng.randrange(len(made))
                    made[at:at] = rng.choice([MAGIC, b"\xff" * 4, made[: rng.randint(1, 40)]])
                case 4:
                    lines[rng.randrange(len(lines))] = rng.choice(b"0123456789\t\n -x")
                case _:
                    del made[rng.randrange(len(made) // 2, len(made)) :]
        path.write_bytes(made)
        path.with_suffix(".idx").write_bytes(lines)
        try:
            people = open_people(path)
            for photo in people.photos:
                people.read(photo)
        except DataError:
            continue


def test_mutated_records_are_read_or_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, 200)


@pytest.mark.nightly
def test_ten_thousand_mutated_records_are_read_or_refused_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    tracemalloc.start()
    fuzz(tmp_path, 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_several_threads_read_the_same(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    images = [(i % 5, rng.bytes(int(rng.integers(1, 3000)))) for i in range(50)]
    people = open_people(write(tmp_path / "t.rec", insightface(images)))
    wanted = list(people.photos) * 4
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(people.read, wanted))
    by_number = {number: image for number, (_, image) in enumerate(images, 1)}
    assert got == [by_number[int(photo.name[8:18])] for photo in wanted]
