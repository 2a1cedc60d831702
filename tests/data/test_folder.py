"""A folder of people and a tar of it are the same people; what is not a plain tree of photos is refused."""

import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from facespace.data.archive import Tar
from facespace.data.folder import open_people
from facespace.errors import DataError

PHOTOS = {
    "anna/1.jpg": b"a1",
    "anna/2.JPEG": b"a2",
    "Jürgen Müller/porträt.png": b"j1",
    "李小龙/照片.webp": b"l1",
    "שרה/תמונה.jpg": b"s1",
    "Ольга/1.bmp": b"o1",
}
BESIDE = {"anna/notes.txt": b"", "anna/.1.jpg": b"x", ".hidden/1.jpg": b"x", "readme.md": b"x", "loose.jpg": b"x"}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_tar(path: Path, files: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def tar_of(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.addfile(member, io.BytesIO(b"\0" * max(member.size, 0)))
    return path


@pytest.mark.parametrize("wrapper", ["", "all/", "all/of it/"], ids=["bare", "wrapped", "wrapped twice"])
@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_a_folder_and_a_tar_of_it_give_the_same_people(wrapper: str, prefix: str, format: int, tmp_path: Path) -> None:
    beside = BESIDE if not wrapper else {k: v for k, v in BESIDE.items() if k != "loose.jpg"}
    files = {wrapper + name: content for name, content in (PHOTOS | beside).items()}
    folder = open_people(write_tree(tmp_path / "tree", files))
    packed = [(prefix + name, content) for name, content in reversed(files.items())]
    tar = open_people(write_tar(tmp_path / "tree.tar", packed, format))

    assert folder.photos == tar.photos
    assert [photo.name for photo in folder.photos] == sorted(PHOTOS)
    assert folder.names == tar.names == tuple(sorted({name.split("/")[0] for name in PHOTOS}))
    assert [folder.names[label] for label in folder.labels] == [photo.person for photo in folder.photos]
    assert [folder.read(photo) for photo in folder.photos] == [PHOTOS[name] for name in sorted(PHOTOS)]
    assert [tar.read(photo.name) for photo in tar.photos] == [PHOTOS[name] for name in sorted(PHOTOS)]
    assert folder.digest == tar.digest


def test_the_digest_tells_contents_and_names_apart(tmp_path: Path) -> None:
    files = {"a/1.jpg": b"x", "b/1.jpg": b"y"}
    changed = [files, files | {"b/1.jpg": b"z"}, files | {"b/2.jpg": b"y"}, {"a/1.jpg": b"y", "b/1.jpg": b"x"}]
    digests = [open_people(write_tree(tmp_path / str(i), tree)).digest for i, tree in enumerate(changed)]
    assert len(set(digests)) == len(digests)


def test_names_that_are_no_text_are_read_too(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only there can a name be any bytes")
    write_tree(tmp_path / "tree", {"a/1.jpg": b"x"})
    os.mkdir(os.fsencode(tmp_path / "tree") + b"/\xff\xfe")  # noqa: PTH102 (bytes)
    Path(os.fsdecode(os.fsencode(tmp_path / "tree") + b"/\xff\xfe/1.jpg")).write_bytes(b"y")
    folder = open_people(tmp_path / "tree")
    with tarfile.open(tmp_path / "tree.tar", "w") as tar:
        tar.add(tmp_path / "tree", arcname=".")
    assert folder.digest == open_people(tmp_path / "tree.tar").digest
    assert folder.read(folder.photos[-1]) == b"y"


def test_some_people_only_are_labelled_from_nought(tmp_path: Path) -> None:
    some = open_people(write_tree(tmp_path, PHOTOS)).only(frozenset({"anna", "Ольга"}))
    assert some.names == ("anna", "Ольга")
    np.testing.assert_array_equal(some.labels, [0, 0, 1])
    assert some.read(some.photos[2]) == b"o1"


def test_a_sample_is_spread_over_all_photos(tmp_path: Path) -> None:
    people = open_people(write_tree(tmp_path, {f"p{i}/{j}.jpg": b"x" for i in range(5) for j in range(4)}))
    assert [photo.name for photo in people.sample(5).photos] == [f"p{i}/0.jpg" for i in range(5)]
    assert people.sample(99).photos == people.photos
    assert people.sample(0).photos == ()
    assert len(people.sample(7).names) == 5


def test_a_folder_of_links_is_read_and_a_circle_ends(tmp_path: Path) -> None:
    write_tree(tmp_path / "store", {"x/1.jpg": b"x", "y/1.jpg": b"y"})
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "ann").symlink_to(tmp_path / "store" / "x")
    (chosen / "ben").symlink_to(tmp_path / "store" / "y")
    (tmp_path / "store" / "x" / "back").symlink_to(chosen)
    assert [photo.name for photo in open_people(chosen).photos] == ["ann/1.jpg", "ben/1.jpg"]


@pytest.mark.parametrize(
    "files", [{}, {"1.jpg": b"x"}, {"anna/notes.txt": b"x"}, {".hidden/1.jpg": b"x"}, {"anna/.1.jpg": b"x"}]
)
def test_without_a_photo_in_a_folder_of_a_person_it_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(DataError, match="no photo"):
        open_people(write_tree(tmp_path / "tree", files))


def test_a_missing_path_and_a_photo_that_vanished_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        open_people(tmp_path / "nowhere")
    people = open_people(write_tree(tmp_path, {"a/1.jpg": b"x"}))
    (tmp_path / "a" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"1\.jpg"):
        people.read(people.photos[0])


def test_of_two_members_of_one_name_the_later_counts(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [("a/1.jpg", b"old"), ("b/1.jpg", b"b"), ("./a//1.jpg", b"newer")])
    people = open_people(path)
    assert [photo.name for photo in people.photos] == ["a/1.jpg", "b/1.jpg"]
    assert people.read("a/1.jpg") == b"newer"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("a/1.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(DataError, match="not a regular file"):
        Tar(tar_of(tmp_path / "t.tar", member))


@pytest.mark.parametrize("name", ["../a/1.jpg", "a/../../1.jpg", "/a/1.jpg", "a/.."])
def test_names_that_climb_out_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside"):
        Tar(write_tar(tmp_path / "t.tar", [(name, b"x")]))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused_with_the_way_out(mode: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("a/1.jpg"))
    with pytest.raises(DataError) as refusal:
        Tar(tmp_path / "t.tar")
    assert "uncompressed" in refusal.value.hint


def test_a_negative_size_does_not_lead_round_in_circles(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a/1.jpg")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # base 256, two's complement: -256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "t.tar").write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(DataError):
        Tar(tmp_path / "t.tar")


def test_damaged_archives_are_refused_never_crash(tmp_path: Path) -> None:
    """Cut anywhere, or with bytes changed, an archive is refused or read; nothing else is raised."""
    whole = write_tar(tmp_path / "t.tar", [(f"p{i}/1.jpg", b"x" * 700) for i in range(3)]).read_bytes()
    rng = np.random.default_rng(0)
    cuts = [whole[:length] for length in (0, 1, 100, 511, 512, 513, 1000, 1200, 2000)]
    flips = []
    for _ in range(150):
        changed = bytearray(whole)
        for at in rng.integers(0, 512, 3):
            changed[at] = rng.integers(0, 256)
        flips.append(bytes(changed))
    path = tmp_path / "damaged.tar"
    for content in cuts + flips + [rng.bytes(5000)]:
        path.write_bytes(content)
        try:
            tar = Tar(path)
            for name in tar.names:
                tar.read(name)
        except DataError as refusal:
            assert "damaged.tar" in str(refusal)  # noqa: PT017 (either end is right)


def test_an_archive_cut_short_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [("a/1.jpg", b"x" * 5000)])
    tar = Tar(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="ends inside"):
        tar.read("a/1.jpg")
    with pytest.raises(DataError, match="no file"):
        tar.read("b/1.jpg")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        tar.read("a/1.jpg")
