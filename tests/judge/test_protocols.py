"""Protocols: LFW's list read strictly, and pairs made from any people."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from facespace.data.folder import People, PhotoRef
from facespace.errors import DataError, UsageError
from facespace.judge import protocols

LIST = "2\t1\nAda\t1\t2\nAda\t1\tBo\t1\nBo\t1\t2\nBo\t2\tCy d\t12\n"


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def photos_of_list() -> list[str]:
    return [f"{n}/{n}_{i:04d}.jpg" for n, i in [("Ada", 1), ("Ada", 2), ("Bo", 1), ("Bo", 2), ("Cy d", 12), ("Dee", 1)]]


def people(sizes: dict[str, int]) -> People:
    photos = tuple(PhotoRef(name, f"{name}/{i:04d}.jpg") for name, size in sizes.items() for i in range(size))
    return People(Path(), photos, lambda name: name.encode())


def listed(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return path


def named(protocol: protocols.PairProtocol) -> list[tuple[str, str, bool, int]]:
    first, second = ([protocol.photos[i] for i in side] for side in (protocol.first, protocol.second))
    return list(zip(first, second, protocol.same.tolist(), protocol.folds.tolist(), strict=True))


def test_the_list_of_lfw_gives_its_pairs_in_order_and_reads_each_photo_by_name(tmp_path: Path) -> None:
    protocol = protocols.lfw(listed(tmp_path, LIST), tree(tmp_path / "d", photos_of_list()))
    ada1, ada2, bo1, bo2, cy12, _ = photos_of_list()
    assert named(protocol) == [
        (ada1, ada2, True, 1),
        (ada1, bo1, False, 1),
        (bo1, bo2, True, 2),
        (bo2, cy12, False, 2),
    ]
    assert sorted(protocol.photos) == sorted([ada1, ada2, bo1, bo2, cy12])
    assert protocol.people == 3
    assert protocol.read(cy12) == cy12.encode()


def test_chosen_folds_keep_their_numbers_and_need_only_their_photos(tmp_path: Path) -> None:
    text = "3\t1\n" + LIST.split("\n", 1)[1] + "Eve\t1\t2\nEve\t1\tBo\t1\n"
    protocol = protocols.lfw(listed(tmp_path, text), tree(tmp_path / "d", photos_of_list()), "1-2")
    assert protocol.folds.tolist() == [1, 1, 2, 2]
    with pytest.raises(DataError, match="2 of the 7 photos"):
        protocols.lfw(listed(tmp_path, text), tmp_path / "d")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Ada\t1\t2", "Ada\t1", "line 2"),
        ("Ada\t1\t2", "Ada\tone\t2", "line 2"),
        ("Ada\t1\t2", "Ada\t1\tBo\t2", "line 2"),
        ("Ada\t1\tBo\t1", "Ada\t1\t1", "line 3"),
        ("Bo\t1\t2", "", "line 4"),
        ("Bo\t2\tCy d\t12", "Bo\t2\tCy d\t-1", "line 5"),
        ("Bo\t2\tCy d\t12", "Bo\t2\tCy d\t12\t3", "line 5"),
        ("Bo\t2\tCy d\t12\n", "", "3 pairs"),
        ("2\t1\n", "", "line 1"),
        ("2\t1\n", "0\t1\n", "line 1"),
        ("2\t1\n", "2\t1\t1\n", "line 1"),
        ("2\t1\n", "ten\t1\n", "line 1"),
    ],
)
def test_a_malformed_line_is_an_error_that_names_it(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in LIST
    with pytest.raises(DataError, match=said):
        protocols.read_lfw_pairs(listed(tmp_path, LIST.replace(old, new, 1)))


def test_a_csv_in_place_of_the_list_is_sent_to_its_own_protocol(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1 is no header") as refused:
        protocols.read_lfw_pairs(listed(tmp_path, "a,b,same\nAda/1.jpg,Bo/1.jpg,0\n"))
    assert "--protocol pairs" in str(refused.value.hint)


def test_an_empty_absent_or_binary_list_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (listed(tmp_path, ""), tmp_path / "absent.txt", binary):
        with pytest.raises(DataError):
            protocols.read_lfw_pairs(path)


def test_a_list_with_one_number_in_its_header_is_one_fold(tmp_path: Path) -> None:
    """As in LFW's pairsDevTest.txt, with the line ends of Windows."""
    folds = protocols.read_lfw_pairs(listed(tmp_path, "1\r\nAda\t1\t2\r\nAda\t1\tBo\t1\r\n"))
    assert folds == [[("Ada/Ada_0001", "Ada/Ada_0002", True), ("Ada/Ada_0001", "Bo/Bo_0001", False)]]


def test_folds_are_numbers_and_ranges() -> None:
    assert protocols.parse_folds("1-3", 10) == [1, 2, 3]
    assert protocols.parse_folds("9, 1,3-4,3", 10) == [1, 3, 4, 9]


@pytest.mark.parametrize("text", ["", "0-2", "3-1", "9-11", "1;2", "a", "1-", "-3", "4", "2-2"])
def test_folds_that_are_none_or_only_one_are_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        protocols.parse_folds(text, 10)


def test_made_pairs_share_no_person_between_folds_and_are_what_they_say() -> None:
    protocol = protocols.made_pairs(people({f"p{i:02d}": 1 + i % 7 for i in range(80)}).photos, str.encode)
    folds_of_person: dict[str, set[int]] = {}
    for first, second, same, fold in named(protocol):
        assert (first.split("/")[0] == second.split("/")[0]) == same
        assert first != second
        for name in (first, second):
            folds_of_person.setdefault(name.split("/")[0], set()).add(fold)
    assert all(len(folds) == 1 for folds in folds_of_person.values())
    assert set(protocol.folds) == set(range(1, 11))
    assert len({frozenset(pair[:2]) for pair in named(protocol)}) == len(protocol.same)
    for fold in range(1, 11):
        assert protocol.same[protocol.folds == fold].mean() == 0.5


def test_made_pairs_depend_on_names_and_seed_alone() -> None:
    some = people({f"p{i:02d}": 5 for i in range(30)})
    shuffled = [some.photos[i] for i in np.random.default_rng(0).permutation(len(some.photos))]
    assert named(protocols.made_pairs(some.photos, some.read)) == named(protocols.made_pairs(shuffled, some.read))
    assert named(protocols.made_pairs(some.photos, some.read)) != named(
        protocols.made_pairs(some.photos, some.read, seed=1)
    )


def test_no_person_outweighs_the_others_and_a_fold_has_at_most_300_pairs_of_a_kind() -> None:
    """One person with 200 photos beside 39 with 6: pairs are taken in turn."""
    protocol = protocols.made_pairs(people({"a": 200, **{f"p{i:02d}": 6 for i in range(39)}}).photos, str.encode)
    genuine = Counter(first.split("/")[0] for first, _, same, _ in named(protocol) if same)
    assert set(genuine.values()) == {15, 255}  # of six photos all 15 pairs; "a" fills its fold of four people up to 300
    assert genuine["a"] == 300 - 3 * 15
    counts = Counter((same, fold) for _, _, same, fold in named(protocol))
    assert max(counts.values()) == 300


def test_few_people_give_fewer_folds_and_all_their_impostor_pairs() -> None:
    protocol = protocols.made_pairs(people({"a": 3, "b": 3, "c": 1, "d": 1}).photos, str.encode)
    assert set(protocol.folds) == {1, 2}
    assert [int((protocol.same & (protocol.folds == f)).sum()) for f in (1, 2)] == [3, 3]
    assert [int((~protocol.same & (protocol.folds == f)).sum()) for f in (1, 2)] == [3, 3]


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"a": 9}, "1 person gives no two folds: 1 with two photos"),
        ({"a": 9, "b": 9, "c": 9}, "3 people give no two folds: 3 with"),
        ({"a": 9, "b": 1, "c": 1, "d": 1}, "4 people give no two folds: 1 with"),
    ],
)
def test_too_few_people_are_refused(sizes: dict[str, int], says: str) -> None:
    with pytest.raises(DataError, match=says):
        protocols.made_pairs(people(sizes).photos, str.encode)


@pytest.mark.shared
def test_the_official_list_has_ten_folds_of_300_and_300(shared: Path) -> None:
    folds = protocols.read_lfw_pairs(shared / "data" / "lfw" / "pairs.txt")
    assert [sum(same for *_, same in fold) for fold in folds] == [300] * 10
    assert [len(fold) for fold in folds] == [600] * 10
    protocol = protocols.lfw(shared / "data" / "lfw" / "pairs.txt", shared / "data" / "lfw" / "lfw-crops.tar")
    assert (len(protocol.photos), len(protocol.same)) == (7701, 6000)
