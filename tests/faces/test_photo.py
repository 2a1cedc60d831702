"""Every odd file comes out right or is refused, within bounds; and what read_photo promises besides."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_files import ODD_FILES, OddFile, coded, drawing, exif, jpeg, stored_for, thin
from PIL import Image, ImageFile

from facespace.errors import BadImage
from facespace.faces.headers import exif_orientation, read_header
from facespace.faces.photo import MAX_BYTES, read_photo


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, OddFile], str]:
    """The folder in which all odd files were read by `bounded.py`, the files, and what it printed."""
    folder = tmp_path_factory.mktemp("odd")
    files = {name: make() for name, make in ODD_FILES.items()}
    for name, odd in files.items():
        (folder / f"{name}.bin").write_bytes(odd.data)
    command = [sys.executable, str(Path(__file__).with_name("bounded.py")), str(folder)]
    return folder, files, subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("name", ODD_FILES)
def test_an_odd_file_is_read_right_or_refused_within_1_s_and_300_mb(
    name: str, odd_folder: tuple[Path, dict[str, OddFile], str]
) -> None:
    folder, files, stderr = odd_folder
    odd, read, refusal = files[name], folder / f"{name}.npy", folder / f"{name}.txt"
    assert read.exists() or refusal.exists(), f"crashed or met a limit\n{stderr}"
    if odd.pixels is None:
        assert refusal.exists(), "should have been refused"
        text = refusal.read_text(encoding="utf-8")
        assert any(word in text for word in odd.says.split("|")), text
        assert f"{name}.bin" in text
    else:
        assert read.exists(), refusal.read_text(encoding="utf-8") if refusal.exists() else ""
        got, expected = np.load(read), thin(odd.pixels)
        assert got.dtype == np.uint8
        assert got.shape == expected.shape
        assert np.abs(got.astype(float) - expected).mean() <= odd.tolerance


def test_there_are_enough_odd_files() -> None:
    assert len(ODD_FILES) >= 100


@pytest.mark.parametrize(
    "name", ["bild.jpg", "照片.jpg", "صورة.jpg", "фото 1.JPG", "e\u0301 \u00e9.png", "😀", ".jpg", "a\nb"]
)
def test_a_file_may_have_any_name_and_ending(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(coded(drawing(), "PNG"))
    np.testing.assert_array_equal(read_photo(path), drawing())
    np.testing.assert_array_equal(read_photo(str(path)), drawing())


def test_a_name_that_is_not_utf8_is_read_and_can_be_printed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(jpeg(drawing()))
    assert read_photo(path).shape == drawing().shape
    path.write_bytes(b"no photo")
    with pytest.raises(BadImage) as caught:
        read_photo(path)
    assert str(caught.value).encode("utf-8")


def test_absent_files_folders_and_pipes_are_refused_by_name(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in ((tmp_path / "absent.jpg", "no such file"), (tmp_path, "not a file"), (pipe, "not a file")):
        with pytest.raises(BadImage, match=reason) as caught:
            read_photo(path)
        assert caught.value.file == str(path)
    with pytest.raises(BadImage, match=r"cannot be read|no such file"):
        read_photo("nul\0byte.jpg")


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)  # a hole: takes no room
    with pytest.raises(BadImage, match="64 are read"):
        read_photo(path)


def test_bytes_are_named_as_the_caller_says() -> None:
    with pytest.raises(BadImage, match=r"album.tar/3.jpg: .*not an image") as caught:
        read_photo(b"hello there", name="album.tar/3.jpg")
    assert caught.value.file == "album.tar/3.jpg"
    with pytest.raises(BadImage) as caught:
        read_photo(b"hello there")
    assert caught.value.file is None


def test_the_ceiling_of_pixels_is_the_callers() -> None:
    data = coded(drawing(), "PNG")
    height, width = drawing().shape[:2]
    assert read_photo(data, max_pixels=2 * height * width).shape == (height, width, 3)
    with pytest.raises(BadImage, match="million"):
        read_photo(data, max_pixels=height * width - 1)


def test_the_result_is_the_callers_own_and_contiguous() -> None:
    for data in (jpeg(drawing()), coded(drawing(), "PNG"), jpeg(stored_for(6, drawing()), exif=exif(6))):
        photo = read_photo(data)
        assert photo.flags.c_contiguous
        assert photo.flags.writeable


def test_both_decoders_give_the_same_pixels() -> None:
    """Which decoder takes a file must never show: an embedding would depend on it."""
    photo = np.random.default_rng(0).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            data = jpeg(photo, quality=80, subsampling=subsampling, progressive=progressive)
            assert read_header(data).plain
            with Image.open(io.BytesIO(data)) as image:
                np.testing.assert_array_equal(read_photo(data), np.asarray(image))


def test_nothing_beside_the_picture_reaches_the_decoder() -> None:
    secret = b"the place where this was taken"
    for name in ("jpeg_and_web_page", "jpeg_and_zip", "png_and_tail", "png_with_text", "png_with_profile"):
        odd = ODD_FILES[name]()
        assert len(read_header(odd.data).payload) < len(odd.data)
    assert secret not in read_header(jpeg(drawing(), exif=exif(1) + secret)).payload
    assert secret not in read_header(jpeg(drawing(), comment=secret)).payload


def test_settings_of_the_process_are_left_alone() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    for name in ("png_plain", "jpeg_cmyk", "png_truncated"):
        try:
            read_photo(ODD_FILES[name]().data)
        except BadImage:
            continue
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert after == before


@pytest.mark.parametrize(
    "name", ["jpeg_subsampled", "png_palette_alpha", "gif_animated", "webp_alpha", "tiff_lzw", "bmp_plain"]
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 0.05))
def test_a_file_with_bytes_changed_is_read_or_refused(name: str, seed: int, share: float) -> None:
    data = np.frombuffer(ODD_FILES[name]().data, np.uint8).copy()
    rng = np.random.default_rng(seed)
    hit = rng.random(len(data)) < share
    hit[: 12 if name.startswith("webp") else 4] = False  # the magic stays
    data[hit] = rng.integers(0, 256, hit.sum())
    try:
        photo = read_photo(data.tobytes(), max_pixels=1_000_000)
    except BadImage as error:
        reason, shape = error.message, (1, 1, 3)
    else:
        reason, shape = "read", photo.shape
    assert reason
    assert len(shape) == 3
    assert shape[2] == 3


@given(st.binary(max_size=200))
def test_any_bytes_as_exif_give_an_orientation(noise: bytes) -> None:
    assert 1 <= exif_orientation(noise) <= 8
    assert 1 <= exif_orientation(b"II*\0\x08\0\0\0" + noise) <= 8


def test_heic_is_read_with_its_extra_and_refused_with_a_hint_without() -> None:
    try:
        import pillow_heif
    except ImportError:
        brands = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
        with pytest.raises(BadImage, match="extra") as caught:
            read_photo(brands + b"ispe" + bytes(4) + b"\0\0\0\x40\0\0\0\x30")
        assert "facespace[heif]" in caught.value.hint
        return
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(drawing())).save(out, quality=95)
    assert np.abs(read_photo(out.getvalue()).astype(float) - drawing()).mean() < 5
