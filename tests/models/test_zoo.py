"""Fetching weights: pinned, atomic, continued; against a server of our own."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facespace.errors import DownloadFailed, ModelNotFound, Refused
from facespace.faces import detect
from facespace.models import shelf, zoo
from facespace.models.card import read_card
from tiny_onnx import save_tiny

HALF = 1 << 19


@dataclass
class Server:
    """A server of one file: what it holds, how it behaves, and what it was asked."""

    content: bytes
    url: str = ""
    status: int = 200
    cut: int | None = None
    ranges: bool = True
    wrong_range: bool = False
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(content=bytes(range(256)) * 4096)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.asked.append(wanted)
            start = int(wanted.split("=")[1].rstrip("-")) if wanted and state.ranges else 0
            body = state.content[start:]
            self.send_response(206 if start and state.status == 200 else state.status)
            self.send_header("Content-Length", str(len(body)))
            if start:
                first = 0 if state.wrong_range else start
                self.send_header("Content-Range", f"bytes {first}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            self.wfile.write(body if state.cut is None else body[: state.cut])

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        state.url = f"http://127.0.0.1:{web.server_port}/net.onnx"
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        web.shutdown()
        thread.join()


@pytest.fixture
def entry(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.Pullable:
    """A row of the zoo whose public home is the server."""
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path))
    digest = hashlib.sha256(server.content).hexdigest()
    card = replace(zoo.ZOO["sface"].card, name="net", file="net.onnx", sha256=digest)
    row = zoo.Pullable(card, server.url, len(server.content))
    monkeypatch.setitem(zoo.ZOO, "net", row)
    return row


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pull_brings_the_weights_and_their_card(server: Server, entry: zoo.Pullable, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    weights = zoo.pull("net", told=lambda here, whole: heard.append((here, whole)))
    assert weights == tmp_path / "models" / "net.onnx"
    assert weights.read_bytes() == server.content
    assert read_card(tmp_path / "models" / "net.card.json") == entry.card
    assert names(weights.parent) == ["net.card.json", "net.onnx"]
    assert heard[-1] == (len(server.content), len(server.content))


@pytest.mark.usefixtures("entry")
def test_what_is_here_is_not_fetched_again(server: Server) -> None:
    weights = zoo.pull("net")
    weights.with_name("net.card.json").unlink()
    assert zoo.pull("net") == weights
    assert len(server.asked) == 1
    assert weights.with_name("net.card.json").is_file()


@pytest.mark.usefixtures("entry")
def test_damaged_weights_are_fetched_again(server: Server) -> None:
    weights = zoo.pull("net")
    weights.write_bytes(b"half")
    assert zoo.pull("net").read_bytes() == server.content


@pytest.mark.usefixtures("entry")
def test_an_interrupted_download_has_no_name_and_is_continued(server: Server, tmp_path: Path) -> None:
    server.cut = HALF
    with pytest.raises(DownloadFailed, match="broke off"):
        zoo.pull("net")
    assert names(tmp_path / "models") == [".net.onnx.part"]
    server.cut = None
    assert zoo.pull("net").read_bytes() == server.content
    assert server.asked == [None, f"bytes={HALF}-"]


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize("manner", ["ranges", "wrong_range"])
def test_a_server_that_does_not_continue_is_read_from_the_start(server: Server, manner: str) -> None:
    """It answers with the whole file, or with a piece that does not fit: neither is appended blindly."""
    server.cut = HALF
    with pytest.raises(DownloadFailed):
        zoo.pull("net")
    server.cut = None
    setattr(server, manner, manner == "wrong_range")
    if manner == "wrong_range":
        with pytest.raises(DownloadFailed):
            zoo.pull("net")
        server.wrong_range = server.ranges = False
    assert zoo.pull("net").read_bytes() == server.content


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize("change", ["other", "longer", "page"])
def test_other_content_is_thrown_away(server: Server, tmp_path: Path, change: str) -> None:
    """A changed file of the same size, an endless one: no part of it stays."""
    right = server.content
    server.content = {"other": right[:-1] + b"x", "longer": right + b"x", "page": b"<html>" + right}[change]
    with pytest.raises(DownloadFailed, match="SHA-256"):
        zoo.pull("net")
    assert names(tmp_path / "models") == []
    server.content = right
    assert zoo.pull("net").read_bytes() == right


@pytest.mark.usefixtures("entry")
def test_a_stale_part_heals_in_two_runs(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "models" / ".net.onnx.part"
    part.parent.mkdir()
    part.write_bytes(b"stale")
    with pytest.raises(DownloadFailed, match="thrown away"):
        zoo.pull("net")
    assert zoo.pull("net").read_bytes() == server.content
    part.write_bytes(server.content + b"too long")
    zoo.pull("net").unlink()
    assert zoo.pull("net").read_bytes() == server.content


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_of_the_server_is_told(server: Server, status: int, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(DownloadFailed, match=str(status)):
        zoo.pull("net")
    assert names(tmp_path / "models") == []


@pytest.mark.usefixtures("entry")
def test_no_server_is_told() -> None:
    with pytest.raises(DownloadFailed, match="could not be fetched"):
        zoo.pull("net", source="http://127.0.0.1:9/net.onnx")


@pytest.mark.usefixtures("entry")
def test_a_local_copy_serves_as_the_source(server: Server, tmp_path: Path) -> None:
    copy = tmp_path / "cöpy of net"
    copy.write_bytes(server.content)
    assert zoo.pull("net", source=str(copy)).read_bytes() == server.content
    assert copy.read_bytes() == server.content
    assert server.asked == []


def test_a_local_file_that_is_another_is_told_apart(entry: zoo.Pullable, server: Server, tmp_path: Path) -> None:
    """By its size, then by its digest; what was fetched before stays, to go on with."""
    part, other = tmp_path / "models" / ".net.onnx.part", tmp_path / "note.txt"
    part.parent.mkdir()
    part.write_bytes(server.content[:HALF])
    for content, words in (
        (b"abc", "3 bytes instead of 1,048,576"),
        (server.content + b"x", "1,048,577 bytes instead of 1,048,576"),
        (server.content[:-1] + b"x", "SHA-256"),
    ):
        other.write_bytes(content)
        with pytest.raises(DownloadFailed, match=f"is not net: .*{words}") as caught:
            zoo.pull("net", source=str(other))
        assert caught.value.file == str(other)
        assert entry.url in caught.value.hint
        assert names(part.parent) == [part.name]
    for missing in (tmp_path / "nope.onnx", tmp_path):
        with pytest.raises(DownloadFailed, match="there is no such file") as caught:
            zoo.pull("net", source=str(missing))
        assert "Errno" not in str(caught.value)
    assert server.asked == []
    zoo.pull("net")
    assert server.asked == [f"bytes={HALF}-"]


def test_commercial_refuses_before_anything_is_fetched(
    server: Server, entry: zoo.Pullable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for says in (None, False):
        monkeypatch.setitem(zoo.ZOO, "net", replace(entry, card=replace(entry.card, commercial=says)))
        with pytest.raises(Refused):
            zoo.pull("net", commercial=True)
    assert server.asked == []


def test_commercial_use_of_weights_by_path_needs_a_card_or_a_known_digest(
    entry: zoo.Pullable, server: Server, tmp_path: Path
) -> None:
    unknown = save_tiny(tmp_path / "unknown.onnx")
    with pytest.raises(Refused, match="no card"):
        zoo.require_commercial_weights(unknown)
    known = tmp_path / "renamed.onnx"
    known.write_bytes(server.content)
    assert zoo.card_of(known) == entry.card
    zoo.require_commercial_weights(known)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFound) as caught:
        zoo.pull("nobody")
    assert "yunet" in caught.value.hint


def test_a_recogniser_that_can_be_pulled_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is here, or something else has its name."""
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert {name for name, row in zoo.ZOO.items() if row.card.dim} == set(shelf.PULLABLE)
    for name in shelf.PULLABLE:
        with pytest.raises(ModelNotFound, match="not here yet") as caught:
            shelf.find_weights(name)
        assert caught.value.hint == f"run `facespace model pull {name}`"
    for name in ("yunet", "nobody"):
        with pytest.raises(ModelNotFound, match="no model is called"):
            shelf.find_weights(name)
    weights = save_tiny(tmp_path / "models" / "sface.onnx")
    assert shelf.find_weights("sface") == weights


def test_the_list_shows_what_is_here_what_is_not_and_what_is_wrong(
    entry: zoo.Pullable, server: Server, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "models" / "mine.onnx", card={})
    save_tiny(tmp_path / "models" / "bare.onnx")
    before = {row.name: row for row in zoo.listed()}
    assert before["net"].path is None
    assert before["net"].size_bytes == len(server.content)
    assert before["mine"].card is not None
    assert before["mine"].path == tmp_path / "models" / "mine.onnx"
    assert before["bare"].card is None
    assert "no card" in before["bare"].problem
    weights = zoo.pull("net")
    after = [row for row in zoo.listed() if row.name == "net"]
    assert [row.path for row in after] == [weights]
    assert after[0].as_json()["card"]["licence"] == entry.card.licence


def test_every_row_of_the_zoo_is_pinned_and_licensed() -> None:
    for name, row in zoo.ZOO.items():
        assert row.card.name == name
        assert len(row.card.sha256) == 64
        assert set(row.card.sha256) <= set("0123456789abcdef")
        assert row.url.startswith("https://")
        assert row.size_bytes > 1000
        assert row.card.licence != "not stated"
        assert row.card.commercial is True
    assert zoo.ZOO["yunet"].card.file == detect.WEIGHTS


@pytest.mark.shared
def test_the_pinned_detector_is_the_published_one(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`model pull yunet` leaves the file where the detector looks for it."""
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path))
    zoo.pull("yunet", source=str(shared / "models" / "face_detection_yunet_2023mar.onnx"), commercial=True)
    assert detect.YuNet().source == "yunet@640"
