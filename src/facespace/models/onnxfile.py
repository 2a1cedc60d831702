"""What an ONNX file may hold before ONNX Runtime sees it: one plain graph that carries all of its own weights.

Refused are external data (a path chosen by the file), operators of other domains, control flow and other subgraphs,
local functions, and more nodes than any recogniser has. The file is read as protocol-buffer fields (protobuf.dev,
"Encoding") whose numbers are those of onnx.proto: the package `onnx` is not needed to use a model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from facespace.errors import ModelError

SPLIT = "facespace.split"
"""Key in the file's metadata of a group-aware model: where the group part of a vector begins."""
MOST_NODES = 5000
_MOST_FIELDS = 2_000_000  # bounds the time a crafted file can take
_STANDARD = ("", "ai.onnx")


def check_onnx(content: bytes, path: Path) -> None:
    """Raise ModelError, with the reason, unless the bytes are an ONNX model of the kind described above."""
    _Check(path).model(memoryview(content))


class _Check:
    """Walks the messages that can name files or hold programs; each method is one message of onnx.proto."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields_left = _MOST_FIELDS
        self.nodes = 0

    def model(self, message: memoryview) -> None:
        graphs = 0
        for field, value in self.messages(message):
            if field == 7:
                graphs += 1
                self.graph(value)
            elif field == 20:
                self.refuse("it holds a training program")
            elif field == 25:
                self.refuse("it holds functions of its own")
        if not graphs or not self.nodes:
            raise self.damage()

    def graph(self, message: memoryview) -> None:
        for field, value in self.messages(message):
            if field == 1:
                self.node(value)
            elif field == 5:
                self.tensor(value)
            elif field == 15:
                self.sparse_tensor(value)

    def node(self, message: memoryview) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            self.refuse(f"it has more than {MOST_NODES} nodes")
        for field, value in self.messages(message):
            if field == 7 and (domain := bytes(value).decode(errors="replace")) not in _STANDARD:
                self.refuse(f"it uses operators of the domain {domain!r}")
            elif field == 5:
                self.attribute(value)

    def attribute(self, message: memoryview) -> None:
        for field, value in self.messages(message):
            if field in (5, 10):
                self.tensor(value)
            elif field in (6, 11):
                self.refuse("it holds a subgraph (If, Loop, Scan)")
            elif field in (22, 23):
                self.sparse_tensor(value)

    def sparse_tensor(self, message: memoryview) -> None:
        for field, value in self.messages(message):
            if field in (1, 2):
                self.tensor(value)

    def tensor(self, message: memoryview) -> None:
        for field, value in self.fields(message):
            if field == 13 or (field == 14 and value != 0):
                self.refuse("its weights lie in another file (external data)")

    def messages(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Number and content of the fields that have a length: messages, texts, bytes."""
        for field, value in self.fields(message):
            if isinstance(value, memoryview):
                yield field, value

    def fields(self, message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
        """Number and value of every field; 4 and 8 byte values count as content."""
        position = 0
        while position < len(message):
            self.fields_left -= 1
            if self.fields_left < 0:
                self.refuse("it has more fields than any recogniser")
            tag, position = self.varint(message, position)
            wire = tag & 7
            if wire == 0:
                value, position = self.varint(message, position)
                yield tag >> 3, value
                continue
            if wire == 2:
                length, position = self.varint(message, position)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise self.damage()
            if position + length > len(message):
                raise self.damage()
            yield tag >> 3, message[position : position + length]
            position += length

    def varint(self, message: memoryview, position: int) -> tuple[int, int]:
        """A number of seven bits a byte, and the position after it."""
        value = shift = 0
        while position < len(message) and shift < 70:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
            shift += 7
        raise self.damage()

    def damage(self) -> ModelError:
        return ModelError("not an ONNX model, or damaged", file=self.path, hint="fetch the file again, whole")

    def refuse(self, why: str) -> NoReturn:
        raise ModelError(
            f"this ONNX model is not run: {why}",
            file=self.path,
            hint="export the network alone, weights inside the file (torch.onnx.export with external_data=False)",
        )
