"""Pairs from `.bin` files, CSVs, LFW's people, CFP's splits and RFW's lists, each on a small set in its layout."""

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from facespace.cli import app
from facespace.data.drawn import draw_crop, person
from facespace.errors import DataError
from facespace.judge.protocols import PairProtocol
from facespace.judge.readers.bins import bin_pairs
from facespace.judge.readers.lists import cfp, csv_pairs, lfw_people, rfw
from tiny_onnx import save_tiny

PEOPLE, PHOTOS = 6, 3


@pytest.fixture(scope="module")
def faces() -> dict[tuple[int, int], bytes]:
    """JPEGs of drawn people by person and photo, both from 1."""
    made = {}
    for who in range(PEOPLE):
        for photo in range(PHOTOS):
            stream = io.BytesIO()
            Image.fromarray(draw_crop(person(0, who), photo)).save(stream, "JPEG")
            made[who + 1, photo + 1] = stream.getvalue()
    return made


def some_pairs() -> list[tuple[tuple[int, int], tuple[int, int], bool]]:
    """Twenty, genuine and impostor ones in turn."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(10):
        a, b = (rng.permutation(PEOPLE)[:2] + 1).tolist()
        i, j = (rng.permutation(PHOTOS)[:2] + 1).tolist()
        made += [((a, i), (a, j), True), ((a, i), (b, j), False)]
    return made


def contents(protocol: PairProtocol) -> list[tuple[bytes, bytes, bool, int]]:
    """The pairs as bytes, with their folds."""
    first, second = ([protocol.read(protocol.photos[i]) for i in side] for side in (protocol.first, protocol.second))
    assert len(set(protocol.photos)) == len(protocol.photos)
    return list(zip(first, second, protocol.same.tolist(), protocol.folds.tolist(), strict=True))


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("arrays", [False, True])
def test_a_bin_gives_its_pairs_byte_for_byte_in_ten_folds_in_order(
    tmp_path: Path, faces: dict[tuple[int, int], bytes], protocol: int, arrays: bool
) -> None:
    pairs = some_pairs()
    images = [faces[key] for a, b, _ in pairs for key in (a, b)]
    stored = [np.frombuffer(image, np.uint8) for image in images] if arrays else images
    path = tmp_path / "drawn.bin"
    path.write_bytes(pickle.dumps((stored, [same for _, _, same in pairs]), protocol))
    read = bin_pairs(path)
    wanted = [(faces[a], faces[b], same, i // 2 + 1) for i, (a, b, same) in enumerate(pairs)]
    assert contents(read) == wanted
    assert read.name == "drawn"
    assert read.people is None
    assert len(read.photos) == len(set(images)) < len(images)


@pytest.mark.parametrize(
    "value",
    [
        [],
        ([b"a", b"b"], [True]),
        ([b"a"] * 3, [True, False]),
        ([b"a"] * 4, [True, 2]),
        ([b"a"] * 4, [True, None]),
        ([b"a", b"b", b"c", "d"], [True, False]),
        ("ab", "cd"),
        ([b"a"] * 4, [True, False], []),
    ],
)
def test_a_bin_with_another_content_is_refused_by_name(tmp_path: Path, value: object) -> None:
    path = tmp_path / "wrong.bin"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=r"wrong\.bin"):
        bin_pairs(path)
    with pytest.raises(DataError, match="absent"):
        bin_pairs(tmp_path / "absent.bin")


def test_a_bin_that_would_run_is_refused(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> object:
            return os.system, (f"touch {tmp_path}/ran",)

    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(([b"a"] * 4, [True, Runs()])))
    with pytest.raises(DataError, match=r"asks for \w+\.system"):
        bin_pairs(path)
    assert not (tmp_path / "ran").exists()


def folder(root: Path, faces: dict[tuple[int, int], bytes]) -> Path:
    return write(root, {f"p{who}/p{who}_{photo:04d}.jpg": face for (who, photo), face in faces.items()})


@pytest.mark.parametrize("folds", [False, True])
def test_a_csv_of_pairs_is_read_with_its_folds_or_dealt_to_ten(
    tmp_path: Path, faces: dict[tuple[int, int], bytes], folds: bool
) -> None:
    data, pairs = folder(tmp_path / "d", faces), some_pairs()
    lines = [
        f"p{a[0]}/p{a[0]}_{a[1]:04d}.jpg,p{b[0]}/p{b[0]}_{b[1]:04d}.jpg,{int(same)}"
        + (f",{i // 10 + 1}" if folds else "")
        for i, (a, b, same) in enumerate(pairs)
    ]
    head = "a,b,same,fold\n" if folds else "\ufeffa,b,same\n"
    listed = write(tmp_path, {"pairs.csv": head + "\n".join(lines)}) / "pairs.csv"
    read = csv_pairs(listed, data)
    fold = [i // 10 + 1 if folds else i // 2 + 1 for i in range(20)]
    assert contents(read) == [(faces[a], faces[b], s, f) for (a, b, s), f in zip(pairs, fold, strict=True)]
    assert read.people == len({key[0] for a, b, _ in pairs for key in (a, b)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns a, b, same"),
        ("x,y\n", "columns a, b, same"),
        ("a,b,same\np1/p1_0001.jpg,p1/p1_0002.jpg,maybe\n", "line 2"),
        ("a,b,same\np1/p1_0001.jpg\n", "line 2"),
        ("a,b,same,fold\np1/p1_0001.jpg,p1/p1_0002.jpg,1,0\n", "line 2"),
        ("a,b,same\np1/p1_0001.jpg,../secret.jpg,1\n", "missing, first ../secret.jpg"),
    ],
)
def test_a_malformed_csv_is_an_error(tmp_path: Path, faces: dict[tuple[int, int], bytes], text: str, said: str) -> None:
    listed = write(tmp_path, {"pairs.csv": text}) / "pairs.csv"
    with pytest.raises(DataError, match=said):
        csv_pairs(listed, folder(tmp_path / "d", faces))


def cfp_folder(root: Path, faces: dict[tuple[int, int], bytes]) -> Path:
    """Of each person photos 1 and 2 are frontal, 3 is a profile."""
    kinds = {1: "frontal/01", 2: "frontal/02", 3: "profile/01"}
    place = {key: f"{key[0]:03d}/{kinds[key[1]]}.jpg" for key in faces}
    lists = {
        kind: "".join(
            f"{i} ../Data/Images/{place[key]}\n"
            for i, key in enumerate((key for key in place if kinds[key[1]].startswith(kind)), 1)
        )
        for kind in ("frontal", "profile")
    }
    files: dict[str, bytes | str] = {f"Data/Images/{place[key]}": face for key, face in faces.items()}
    files |= {"Protocol/Pair_list_F.txt": lists["frontal"], "Protocol/Pair_list_P.txt": lists["profile"]}
    for split in ("01", "02"):
        files |= {f"Protocol/Split/FF/{split}/same.txt": "1,2\n3,4\n", f"Protocol/Split/FF/{split}/diff.txt": "1,3\n"}
        files |= {f"Protocol/Split/FP/{split}/same.txt": "1,1\n4,2", f"Protocol/Split/FP/{split}/diff.txt": "1,2\r\n"}
    return write(root, files)


def test_the_splits_of_cfp_point_into_its_two_lists(tmp_path: Path, faces: dict[tuple[int, int], bytes]) -> None:
    root = cfp_folder(tmp_path, faces)
    frontal = cfp(root, "FF")
    one = [((1, 1), (1, 2), True), ((2, 1), (2, 2), True), ((1, 1), (2, 1), False)]
    assert contents(frontal) == [(faces[a], faces[b], same, fold) for fold in (1, 2) for a, b, same in one]
    one = [((1, 1), (1, 3), True), ((2, 2), (2, 3), True), ((1, 1), (2, 3), False)]
    profile = cfp(root, "FP")
    assert contents(profile) == [(faces[a], faces[b], same, fold) for fold in (1, 2) for a, b, same in one]
    assert (frontal.name, profile.name, profile.people, profile.names) == ("cfp-ff", "cfp-fp", 2, ("001", "002"))
    assert profile.people_of_photos == tuple(photo.split("/")[0] for photo in profile.photos)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Protocol/Pair_list_F.txt", "2 ../Data/Images/001/frontal/01.jpg\n"),
        ("Protocol/Pair_list_F.txt", "1 nowhere.jpg\n"),
        ("Protocol/Split/FF/01/same.txt", "1,99\n"),
        ("Protocol/Split/FF/01/same.txt", "0,1\n"),
        ("Protocol/Split/FF/01/same.txt", "1;2\n"),
    ],
)
def test_malformed_lists_of_cfp_are_errors(
    tmp_path: Path, faces: dict[tuple[int, int], bytes], file: str, text: str
) -> None:
    root = write(cfp_folder(tmp_path, faces), {file: text})
    with pytest.raises(DataError, match="line 1"):
        cfp(root, "FF")
    with pytest.raises(DataError):
        cfp(tmp_path / "absent", "FP")


def test_the_list_of_an_rfw_group_has_ten_folds_and_no_header(
    tmp_path: Path, faces: dict[tuple[int, int], bytes]
) -> None:
    pairs = some_pairs()
    lines = [f"p{a[0]}\t{a[1]}\t{b[1]}" if same else f"p{a[0]}\t{a[1]}\tp{b[0]}\t{b[1]}" for a, b, same in pairs]
    listed = write(tmp_path, {"African_pairs.txt": "\n".join(lines) + "\n"}) / "African_pairs.txt"
    read = rfw(listed, folder(tmp_path / "d", faces))
    assert contents(read) == [(faces[a], faces[b], same, i // 2 + 1) for i, (a, b, same) in enumerate(pairs)]
    assert read.name == "African_pairs"
    listed.write_text("p1\t1\n")
    with pytest.raises(DataError, match="line 1"):
        rfw(listed, tmp_path / "d")


GROUPS = ("African", "Asian")


@pytest.fixture
def rfw_folder(tmp_path: Path, faces: dict[tuple[int, int], bytes]) -> Path:
    """Two groups with a list each; people of both have the same names."""
    files: dict[str, bytes | str] = {}
    for at, group in enumerate(GROUPS):
        mine = {key: face for key, face in faces.items() if (key[0] > 3) == bool(at)}
        files |= {f"data/{group}/m.{(who - 1) % 3}/m.{(who - 1) % 3}_{i:04d}.jpg": mine[who, i] for who, i in mine}
        lines = [
            line
            for fold in range(10)
            for line in (f"m.{fold % 3}\t1\t{2 + fold % 2}", f"m.{fold % 3}\t1\tm.{(fold + 1) % 3}\t2")
        ]
        files[f"txts/{group}/{group}_pairs.txt"] = "\n".join(lines) + "\n"
    return write(tmp_path, files)


def test_all_groups_of_rfw_are_one_protocol_that_keeps_its_groups(rfw_folder: Path) -> None:
    together = rfw(rfw_folder / "txts", rfw_folder / "data")
    parts = [rfw(rfw_folder / f"txts/{g}/{g}_pairs.txt", rfw_folder / "data" / g) for g in GROUPS]
    assert contents(together) == contents(parts[0]) + contents(parts[1])
    assert (together.name, together.people) == ("rfw", 6)
    assert together.groups == tuple(photo.split("/")[0] for photo in together.photos)
    assert together.labels is not None
    assert together.people_of_photos == tuple("/".join(photo.split("/")[:2]) for photo in together.photos)
    with pytest.raises(DataError, match="1 lists of groups"):
        rfw(write(rfw_folder / "one", {"txts/Asian/Asian_pairs.txt": "x"}) / "txts", rfw_folder / "data")


def test_the_accuracy_of_each_group_is_that_of_the_group_judged_alone(rfw_folder: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny.onnx", card={}, dim=16)
    asked = ["evaluate", tmp_path / "tiny.onnx", "--protocol", "rfw", "--detector", "aligned", "--quiet"]
    folders = ["--data", rfw_folder / "data", "--pairs", rfw_folder / "txts"]
    done = CliRunner().invoke(app, [str(argument) for argument in (*asked, *folders, "--json")])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    rows = {row["group"]: row for row in document["accuracy_by_group"]}
    assert set(rows) == set(GROUPS)
    for group in GROUPS:
        alone = ["--data", rfw_folder / "data" / group, "--pairs", rfw_folder / f"txts/{group}/{group}_pairs.txt"]
        done = CliRunner().invoke(app, [str(argument) for argument in (*asked, *alone, "--json")])
        accuracy = json.loads(done.stdout)["accuracy"]
        assert "accuracy_by_group" not in json.loads(done.stdout)
        assert (rows[group]["accuracy"], rows[group]["ci95"]) == (accuracy["mean"], accuracy["ci95"])
    assert {(one["column"], one["error"]) for one in document["groups"]} == {("group", "FNMR"), ("group", "FMR")}
    printed = CliRunner().invoke(app, [str(argument) for argument in (*asked, *folders)]).stdout
    for word in ("accuracy by group", "African", "Asian", "FNMR by group", "worst / best"):
        assert word in printed


def test_pairs_of_the_people_of_lfw_are_made_in_its_folds(tmp_path: Path, faces: dict[tuple[int, int], bytes]) -> None:
    data = folder(tmp_path / "d", faces)
    listed = write(tmp_path, {"people.txt": "2\n3\np1\t3\np4\t3\np6\t2\n2\np2\t3\np3\t3\n"}) / "people.txt"
    made = lfw_people(listed, data)
    of_fold = {1: {"p1", "p4", "p6"}, 2: {"p2", "p3"}}
    for a, b, same, fold in zip(made.first, made.second, made.same, made.folds, strict=True):
        people = {made.photos[a].split("/")[0], made.photos[b].split("/")[0]}
        assert people <= of_fold[int(fold)]
        assert bool(same) == (len(people) == 1)
    assert made.name == "lfw-people"
    assert made.folds[made.same].tolist() == [1] * 9 + [2] * 6  # all pairs within each person
    again = lfw_people(listed, data, seed=0)
    np.testing.assert_array_equal(made.first, again.first)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 is no number"),
        ("ten\n", "line 1 is no number"),
        ("2\n1\np1 3\n", "line 4 is no number"),
        ("2\n1\np1 x\n1\np2 3\n", "line 3 is not: name, number"),
        ("2\n1\np1 3\n2\np2 3\n", "1 people from line 5 on, where 2"),
        ("2\n1\np1 3\n1\np1 3\n", "no list of people in folds"),
        ("2\n1\np1 3\n1\np2 3\np3 3\n", "no list of people in folds"),
        ("2\n1\np1 3\n1\np9 1\n", "1 of the 2 people of people.txt lack photos, first p9"),
        ("2\n1\np1 3\n1\np2 4\n", "1 of the 2 people of people.txt lack photos, first p2"),
    ],
)
def test_a_malformed_list_of_people_is_refused(
    tmp_path: Path, faces: dict[tuple[int, int], bytes], text: str, said: str
) -> None:
    listed = write(tmp_path, {"people.txt": text}) / "people.txt"
    with pytest.raises(DataError, match=said):
        lfw_people(listed, folder(tmp_path / "d", faces))


def test_each_protocol_goes_from_the_command_line_to_its_figures(
    tmp_path: Path, faces: dict[tuple[int, int], bytes]
) -> None:
    save_tiny(tmp_path / "tiny.onnx", card={}, dim=16)
    data, pairs = folder(tmp_path / "d", faces), some_pairs()
    images = [faces[key] for a, b, _ in pairs for key in (a, b)]
    names = [f"p{key[0]}/p{key[0]}_{key[1]:04d}.jpg" for a, b, _ in pairs for key in (a, b)]
    rows = [f"{a},{b},{int(s)}\n" for a, b, (_, _, s) in zip(names[::2], names[1::2], pairs, strict=True)]
    bins = pickle.dumps((images, [same for _, _, same in pairs]), 2)
    write(tmp_path, {"drawn.bin": bins, "pairs.csv": "a,b,same\n" + "".join(rows)})
    root = cfp_folder(tmp_path / "cfp", faces)
    asked = {
        "bin": ["--data", tmp_path / "drawn.bin"],
        "pairs": ["--data", data, "--pairs", tmp_path / "pairs.csv"],
        "cfp-fp": ["--data", root],
    }
    accuracies = {}
    for name, more in asked.items():
        arguments = ["evaluate", tmp_path / "tiny.onnx", "--protocol", name, *more, "--detector", "aligned", "--json"]
        done = CliRunner().invoke(app, [str(argument) for argument in (*arguments, "--quiet")])
        assert done.exit_code == 0, done.output
        accuracies[name] = json.loads(done.stdout)["accuracy"]["per_fold"]
    assert accuracies["bin"] == accuracies["pairs"]
    assert len(accuracies["cfp-fp"]) == 2
