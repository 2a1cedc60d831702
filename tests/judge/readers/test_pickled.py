"""The restricted reader of pickles: what pickle writes it reads alike; whatever would run is refused and does not."""

import os
import pickle
import pickletools
import random
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facespace.errors import DataError
from facespace.judge.readers.pickled import plain, unpickled

TRICKY = [b"", b"\n", b"'\"\\", bytes(range(256)), b"\xff\xd8\xff" + b"x" * 300, "é\u20ac".encode()]


def seen(value: Any) -> Any:
    """The value with its bytes as bytes, arrays filled in."""
    value = plain(value)
    if isinstance(value, memoryview):
        return bytes(value)
    return type(value)(map(seen, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("protocol", range(6))
def test_all_protocols_of_python_3_are_read_as_pickle_reads_them(protocol: int) -> None:
    value = (
        TRICKY * 2,
        [True, False] * 3,
        [0, 1, 255, 256, 65536, -1, 2**40, -(2**40)],
        "tëxt\n\\u00e9",
        (),
        (1, 2, 3),
    )
    data = pickle.dumps(value, protocol)
    assert seen(unpickled(data)) == pickle.loads(data) == value


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numpy_are_read_without_numpy_being_asked(protocol: int) -> None:
    value = ([np.frombuffer(b"abc\xff", np.uint8), np.arange(5, dtype=np.uint8)], [np.True_, np.False_])
    images, same = unpickled(pickle.dumps(value, protocol))
    assert [seen(image) for image in images] == [b"abc\xff", bytes(range(5))]
    assert same == [True, False]
    array = unpickled(pickle.dumps(np.array([True, False, True]), protocol))
    assert plain(array) == [True, False, True]


def python_2(images: list[bytes], same: list[bool], protocol: int) -> bytes:
    """As Python 2 pickled (list of str, list of bool), operation by operation."""
    if protocol == 0:
        rows = b"".join(b"S" + repr_2(image) + b"\np%d\na" % i for i, image in enumerate(images, 2))
        truths = b"".join(b"I%02d\na" % truth for truth in same)
        return b"((lp1\n" + rows + b"(lp%d\n" % (len(images) + 2) + truths + b"tp0\n."
    rows = b"".join(b"T" + struct.pack("<I", len(i)) + i if len(i) > 255 else b"U%c" % len(i) + i for i in images)
    truths = b"".join(b"I%02d\n" % t if protocol == 1 else b"\x88" if t else b"\x89" for t in same)
    head = b"" if protocol == 1 else b"\x80\x02"
    lists = b"]q\x01(" + rows + b"e]q\x02(" + truths + b"e"
    return head + (b"(" + lists + b"tq\x00." if protocol == 1 else lists + b"\x86q\x00.")


def repr_2(text: bytes) -> bytes:
    """The repr of a Python 2 str: printable ASCII as it is, the rest escaped, in the quotes that are not inside."""
    return repr(text)[1:].encode()


@pytest.mark.parametrize("protocol", range(3))
def test_files_of_python_2_are_read(protocol: int) -> None:
    data = python_2(TRICKY, [True, False, True], protocol)
    assert pickle.loads(data, encoding="bytes") == (TRICKY, [True, False, True])
    assert seen(unpickled(data)) == (TRICKY, [True, False, True])


def test_an_array_of_python_2_is_read() -> None:
    state = b"(I1\n(I3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'a\\xffb'\ntb."
    assert (
        seen(unpickled(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR" + state)) == b"a\xffb"
    )


class Runs:
    """Pickled, it is a call."""

    def __init__(self, call: Any, *arguments: object) -> None:
        self.called = (call, arguments)

    def __reduce__(self) -> Any:
        return self.called


def attacks(canary: Path) -> list[bytes]:
    """Pickles that make a file appear if they are run."""
    touch = f"open({str(canary)!r}, 'w').close()"
    calls = [
        Runs(os.system, f"touch {canary}"),
        Runs(eval, touch),
        Runs(exec, touch),
        Runs(open, str(canary), "w"),
        Runs(getattr, Runs(__import__, "os"), "system"),
        Runs(Path.touch, canary),
    ]
    made = [pickle.dumps(([call], [True]), protocol) for call in calls for protocol in range(6)]
    command = f"touch {canary}"
    by_hand = [
        b"cos\nsystem\n(S'%s'\ntR." % command.encode(),
        b"(S'%s'\nios\nsystem\n." % command.encode(),
        b"(cos\nsystem\nS'%s'\no." % command.encode(),
        b"\x80\x02cos\nsystem\nS'%s'\n\x85\x81." % command.encode(),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c%c%s\x85R." % (len(command), command.encode()),
        b"\x80\x02\x82\x01.",
        b"Pid\n.",
        b"\x80\x05\x97.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\nS'%s'\ntR." % command.encode(),
        b"c_codecs\nencode\n(cos\nsystem\nS'latin1'\ntR.",
    ]
    return made + by_hand


def test_whatever_would_run_is_refused_and_does_not(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    harmful = attacks(canary)
    for data in harmful:
        with pytest.raises(DataError):
            unpickled(data)
    assert not canary.exists()
    pickle.loads(harmful[1])  # the control: pickle itself runs them
    assert canary.exists()


def test_a_refusal_names_what_the_file_asks_for() -> None:
    with pytest.raises(DataError, match=r"asks for (posix|nt|os)\.system"):
        unpickled(pickle.dumps(Runs(os.system, "true")))
    with pytest.raises(DataError, match="EMPTY_DICT"):
        unpickled(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match="BINFLOAT"):
        unpickled(pickle.dumps([0.5]))
    with pytest.raises(DataError, match="none \\(0xff\\)"):
        unpickled(b"\xff")


def test_no_operation_that_could_reach_a_class_is_known() -> None:
    from facespace.judge.readers.pickled import _OPERATIONS

    names = {operation.name for operation in pickletools.opcodes if ord(operation.code) in _OPERATIONS}
    assert len(names) == len(_OPERATIONS)
    assert not names & {
        "INST",
        "OBJ",
        "NEWOBJ",
        "NEWOBJ_EX",
        "PERSID",
        "BINPERSID",
        "EXT1",
        "EXT2",
        "EXT4",
        "NEXT_BUFFER",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"(",
        b"(.",
        b"K\x01K\x02.",
        b"K\x01.K",
        b"]",
        b"a.",
        b"]K\x01e.",
        b"(a.",
        b"K\x01K\x02a.",
        b"t.",
        b"h\x00.",
        b"g5\n.",
        b"gx\n.",
        b"q\x00.",
        b"I" + b"9" * 5000 + b"\n.",
        b"Lx\n.",
        b"\x8a\xff" + b"1" * 255 + b".",
        b"T\xff\xff\xff\xff.",
        b"\x8e" + b"\xff" * 8 + b".",
        b"S'a\n.",
        b"S'\\q'\n.",
        b"S'\\'\n.",
        b"V\\u00\n.",
        b"X\x01\x00\x00\x00\xff.",
        b"K\x01R.",
        b"K\x01)R.",
        b"\x80",
        b"R.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"c_codecs\nencode\n(V\\u20ac\nVlatin1\ntR.",
        b"c_codecs\nencode\n(K\x05Vlatin1\ntR.",
        b"c__builtin__\nbytes\n(K\xfftR.",
        b"c__builtin__\nbytes\n(]tR.",
        b"cnumpy\nndarray\n)R.",
        b"cnumpy\ndtype\n(S'O'\ntR.",
        b"cnumpy\ndtype\n(J\x00\x00\x00\x7ftR.",
        b"cnumpy\ndtype\n(]tR.",
    ],
)
def test_what_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        unpickled(data)


def test_an_array_of_another_shape_or_type_is_refused() -> None:
    wrong = [np.zeros((2, 2), np.uint8), np.zeros(3, np.float32), np.array([None]), np.array(["a"]), np.float64(1)]
    for array in wrong:
        for protocol in range(6):
            with pytest.raises(DataError):
                unpickled(pickle.dumps(array, protocol))
    lying = pickle.dumps(np.zeros(3, bool), 2).replace(b"\x00\x00\x00", b"\x00\x02\x00")
    with pytest.raises(DataError):
        unpickled(lying)


def test_repetition_makes_nothing_large() -> None:
    """A text of 1 MB encoded a thousand times; lists that hold each other; operations without end."""
    text = b"V" + b"x" * 1_000_000 + b"\np0\n"
    again = b"(" + text + b"c_codecs\nencode\np1\nVlatin1\np2\n" + b"g1\n(g0\ng2\ntR" * 1000 + b"l."
    with pytest.raises(DataError, match="copy more"):
        unpickled(again)
    itself = unpickled(b"]q\x00h\x00a.")
    assert itself[0] is itself
    with pytest.raises(DataError, match="operations"):
        unpickled(b"N" * 1_000_001)


PUT_IN = [b"cos\nsystem\n", b"(Vtrue\ntR", b"\x81", b"R", b"b", b"(", b"\x93", b"\xff\xff\xff\x7f"]


def mutants(data: bytes, count: int, seed: int) -> Any:
    """The data with bytes changed, cut out, doubled or put in, most of them where the operations are."""
    rng = random.Random(seed)
    codes = [ord(operation.code) for operation in pickletools.opcodes]
    for _ in range(count):
        made = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(made))
            match rng.randrange(5):
                case 0:
                    made[at] = rng.randrange(256)
                case 1:
                    made[at] = rng.choice(codes)
                case 2:
                    del made[at : at + rng.randint(1, 20)]
                case 3:
                    made[at:at] = made[rng.randrange(len(made)) :][: rng.randint(1, 40)]
                case _:
                    made[at:at] = rng.choice(
                        [b"cos\nsystem\n", b"\x81", b"R", b"b", b"(", b"\x93", b"\xff\xff\xff\x7f"]
                    )
            made = made or bytearray(b".")
        yield bytes(made)


HEARD: list[str] = []
"""What the interpreter was asked for while a reader ran."""
_listening = False


def listen(event: str, _: object) -> None:
    if _listening and event in (
        "import",
        "exec",
        "compile",
        "open",
        "os.system",
        "subprocess.Popen",
        "pickle.find_class",
    ):
        HEARD.append(event)


sys.addaudithook(listen)


def fuzz(count: int) -> None:
    """Read so many mutants: each is read or refused, and none makes the interpreter import, open, compile or run."""
    global _listening
    images, same = [bytes([i]) * (5 + i) for i in range(6)], [True, False, True]
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    seeds = [pickle.dumps((images, same), protocol) for protocol in range(6)]
    seeds += [pickle.dumps((arrays, np.array(same)), protocol) for protocol in (2, 4, 5)]
    seeds += [python_2(images, same, protocol) for protocol in range(3)]
    for number, data in enumerate(seeds):
        for mutant in mutants(data, -(-count // len(seeds)), number):
            _listening = True
            try:
                unpickled(mutant)
            except DataError:
                continue
            finally:
                _listening = False
    assert HEARD == []


def test_mutated_pickles_are_read_or_refused() -> None:
    fuzz(600)


@pytest.mark.nightly
def test_ten_thousand_mutated_pickles_are_read_or_refused_in_little_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    fuzz(10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
