"""A reader of the few pickles that hold data only: lists, tuples, texts, bytes, truth values and whole numbers.

A pickle is a program for a small machine with a stack. This machine knows the operations that plain data need, of all
protocols from 0 to 5 and of Python 2 and 3. It imports nothing and calls nothing: names in the file are compared with
the short list below, and what Python and numpy would do for those is done here, on bytes. Everything else is refused
by its name. The sizes are bounded: bytes stay slices of the file, and an operation adds no more than a small object.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn

from facespace.errors import DataError

MAX_OPERATIONS = 1_000_000
"""A set of 6,000 pairs takes 40,000 to 150,000. Each may leave a small object, about 200 bytes at most."""

_STOP = ord(".")
_MARK = object()
_ALLOWED = {
    "_codecs encode": "encode",
    "builtins bytes": "bytes",
    "__builtin__ bytes": "bytes",
    "builtins bytearray": "bytes",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    **{
        f"numpy.{core}.{name}": kind
        for core in ("core", "_core")
        for name, kind in (
            ("multiarray _reconstruct", "reconstruct"),
            ("multiarray scalar", "scalar"),
            ("numeric _frombuffer", "frombuffer"),
        )
    },
}
"""Names that are understood. Python 3 writes bytes in the protocols 0 to 2 as a call of the first; numpy its arrays."""


class _Name:
    """A name that stands for what is done here; never the thing it names elsewhere."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Dtype:
    """A numpy type of one byte: `u1` or `b1`."""

    def __init__(self, code: str) -> None:
        self.code = code


class _Array:
    """A numpy array, whose content comes after it."""

    content: Any = None


def unpickled(data: bytes) -> Any:
    """The data in a pickle: lists, tuples, str, memoryview (for bytes), bool and int.

    A Python 2 text is a memoryview too: there, texts were bytes. A numpy array may be an object of this room, see
    `plain`. Raises DataError for an operation or a name that plain data have no need of, for a file that is damaged or
    ends early, and for more than `MAX_OPERATIONS`. Nothing in the file is ever run.
    """
    return _Machine(data).run()


def plain(value: Any) -> Any:
    """A value of `unpickled`; in place of a numpy array, in one dimension, of uint8 a memoryview, of bool a list.

    Not those within it: a list may hold itself.
    """
    return value.content if isinstance(value, _Array) else value


class _Machine:
    """The stack, the memo and the place in the file."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self) -> Any:
        for _ in range(MAX_OPERATIONS):
            code = self.take(1)[0]
            if code == _STOP:
                break
            operation = _OPERATIONS.get(code)
            if operation is None:
                self.refuse(f"the operation {_named(code)} has no place in plain data")
            try:
                operation(self)
            except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error):
                self.refuse(f"the operation {_named(code)} makes no sense there")
        else:
            self.refuse(f"more than {MAX_OPERATIONS:,} operations")
        if len(self.stack) != 1 or self.stack[0] is _MARK or self.at != len(self.data):
            self.refuse(f"{len(self.stack)} values and {len(self.data) - self.at} further bytes at the end")
        return self.stack[0]

    def spend(self, values: tuple[Any, ...]) -> None:
        """Refuse to copy more than the file holds: what it has once must not be made into much by repetition."""
        self.copied += sum(len(value) for value in values if isinstance(value, str | memoryview))
        if self.copied > 2 * len(self.data):  # an array comes as a text, then as the array's content
            self.refuse("its calls copy more than the file holds")

    def refuse(self, why: str) -> NoReturn:
        raise DataError(f"byte {self.at}: {why}", hint="only pickles of lists of bytes and truth values are read")

    def take(self, count: int) -> memoryview:
        """The next bytes, not copied."""
        if count > len(self.data) - self.at:
            self.refuse("the pickle ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> int:
        """The next whole number, as `struct` would read it."""
        return int(struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0])

    def line(self, longest: int = 1 << 26) -> bytes:
        """The bytes up to the end of the line."""
        found = _NEWLINE.search(self.data, self.at, min(len(self.data), self.at + longest))
        if not found:
            self.refuse("a line without an end")
        line = bytes(self.data[self.at : found.start()])
        self.at = found.end()
        return line

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def to_mark(self) -> list[Any]:
        """The values above the topmost mark, which goes with them."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise IndexError

    def pop(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError
        return self.stack.pop()

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError
        return self.stack[-1]


_NEWLINE = re.compile(rb"\n")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[\\'\"abfnrtv])|(\\)", re.DOTALL)
_ESCAPED = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _quoted(line: bytes) -> memoryview:
    """A Python 2 text as its protocol 0 has it: in quotes, with escapes."""
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError

    def plain(found: re.Match[bytes]) -> bytes:
        escape = found[1]
        if escape is None:
            raise ValueError
        return bytes([int(escape[1:], 16)]) if escape[:1] == b"x" else _ESCAPED.get(escape, escape)

    return memoryview(_ESCAPE.sub(plain, line[1:-1]))


def _integer(machine: _Machine) -> None:
    """INT of protocol 0, whose `00` and `01` are truth values, and LONG."""
    text = machine.line(32)
    if text in (b"00", b"01"):
        machine.push(text == b"01")
    else:
        machine.push(int(text.removesuffix(b"L")))


def _append(machine: _Machine) -> None:
    value = machine.pop()
    _list_on(machine).append(value)


def _appends(machine: _Machine) -> None:
    values = machine.to_mark()
    _list_on(machine).extend(values)


def _list_on(machine: _Machine) -> list[Any]:
    if not isinstance(machine.top(), list):
        raise TypeError
    found: list[Any] = machine.top()
    return found


def _long(machine: _Machine) -> None:
    length = machine.number("B")
    if length > 8:
        raise OverflowError
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _tuple_of(count: int) -> "_Operation":
    def operation(machine: _Machine) -> None:
        machine.push(tuple([machine.pop() for _ in range(count)][::-1]))

    return operation


def _name(machine: _Machine, module: str, name: str) -> None:
    """The name, where it is on the list."""
    kind = _ALLOWED.get(f"{module} {name}")
    if kind is None:
        machine.refuse(f"asks for {module[:60]}.{name[:60]}, which has no place in plain data")
    machine.push(_Name(kind))


def _global(machine: _Machine) -> None:
    module, name = machine.line(256).decode(), machine.line(256).decode()
    _name(machine, module, name)


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(module, str) and isinstance(name, str)):
        raise TypeError
    _name(machine, module, name)


def _reduce(machine: _Machine) -> None:
    """What a call of a name on the list gives, made here."""
    arguments, name = machine.pop(), machine.pop()
    if not (isinstance(name, _Name) and isinstance(arguments, tuple)):
        raise TypeError
    machine.spend(arguments)
    machine.push(_MADE[name.kind](*arguments))


def _encoded(text: Any, encoding: Any) -> memoryview:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError
    return memoryview(text.encode("latin-1"))


def _bytes_of(content: Any = "", encoding: Any = "latin1") -> memoryview:
    return content if isinstance(content, memoryview) else _encoded(content, encoding)


def _dtype(code: Any, *_: Any) -> _Dtype:
    text = bytes(code).decode() if isinstance(code, memoryview) else code
    if text not in ("u1", "b1"):
        raise ValueError
    return _Dtype(text)


def _array_of(content: Any, kind: Any, shape: Any, order: Any = "C") -> Any:
    """One row of uint8 as bytes, one of bool as a list."""
    if not (isinstance(kind, _Dtype) and isinstance(content, memoryview)) or shape != (len(content),):
        raise ValueError
    return content if kind.code == "u1" else _truths(content)


def _truths(content: memoryview) -> list[bool]:
    if not set(content) <= {0, 1}:
        raise ValueError
    return [value == 1 for value in content]


def _scalar(kind: Any, content: Any) -> int | bool:
    if not (isinstance(kind, _Dtype) and isinstance(content, memoryview)) or len(content) != 1:
        raise ValueError
    return content[0] if kind.code == "u1" else _truths(content)[0]


def _build(machine: _Machine) -> None:
    """The state of an array, or of its type, which has none that matters."""
    state, target = machine.pop(), machine.top()
    if isinstance(target, _Array) and target.content is None and isinstance(state, tuple):
        machine.spend(state)
        _, shape, kind, _, content = state
        target.content = _array_of(content, kind, shape)
    elif not isinstance(target, _Dtype):
        raise TypeError


def _put(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.top()


_MADE: dict[str, Callable[..., Any]] = {
    "encode": _encoded,
    "bytes": _bytes_of,
    "dtype": _dtype,
    "reconstruct": lambda kind, shape, code: _Array(),
    "scalar": _scalar,
    "frombuffer": _array_of,
}

_Operation = Callable[[_Machine], object]
_OPERATIONS: dict[int, _Operation] = {
    0x80: lambda m: m.take(1),  # PROTO: what a protocol may hold is seen when it comes
    0x95: lambda m: m.take(8),  # FRAME: only a hint for buffers
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): _integer,
    ord("L"): _integer,
    ord("J"): lambda m: m.push(m.number("i")),
    ord("K"): lambda m: m.push(m.number("B")),
    ord("M"): lambda m: m.push(m.number("H")),
    0x8A: _long,
    ord("S"): lambda m: m.push(_quoted(m.line())),
    ord("T"): lambda m: m.push(m.take(m.number("I"))),
    ord("U"): lambda m: m.push(m.take(m.number("B"))),
    ord("B"): lambda m: m.push(m.take(m.number("I"))),
    ord("C"): lambda m: m.push(m.take(m.number("B"))),
    0x8E: lambda m: m.push(m.take(m.number("Q"))),
    0x96: lambda m: m.push(m.take(m.number("Q"))),
    ord("V"): lambda m: m.push(m.line().decode("raw-unicode-escape")),
    ord("X"): lambda m: m.push(str(m.take(m.number("I")), "utf-8", "surrogatepass")),
    0x8C: lambda m: m.push(str(m.take(m.number("B")), "utf-8", "surrogatepass")),
    0x8D: lambda m: m.push(str(m.take(m.number("Q")), "utf-8", "surrogatepass")),
    ord("]"): lambda m: m.push([]),
    ord("l"): lambda m: m.push(m.to_mark()),
    ord("a"): _append,
    ord("e"): _appends,
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.to_mark())),
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("p"): lambda m: _put(m, int(m.line(32))),
    ord("q"): lambda m: _put(m, m.number("B")),
    ord("r"): lambda m: _put(m, m.number("I")),
    0x94: lambda m: _put(m, len(m.memo)),
    ord("g"): lambda m: m.push(m.memo[int(m.line(32))]),
    ord("h"): lambda m: m.push(m.memo[m.number("B")]),
    ord("j"): lambda m: m.push(m.memo[m.number("I")]),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    ord("b"): _build,
}
"""By the byte that names them; as in `pickletools` of the standard library."""


def _named(code: int) -> str:
    """The operation's name in the standard library's own list, for whoever made the file."""
    import pickletools  # a table of names, loaded only for a refusal

    found = next((operation.name for operation in pickletools.opcodes if operation.code == chr(code)), "")
    return f"{found or 'none'} ({code:#04x})"
