"""The protocols of `facespace evaluate` by name, each with the options that belong to it and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facespace.cli.asked import Asked, ProtocolName, Quality
from facespace.cli.options import DetectorName
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.judge.clustering import ClusteringProtocol
    from facespace.judge.galleries import GalleryProtocol
    from facespace.judge.groups import GroupTable
    from facespace.judge.identification import IdentificationProtocol
    from facespace.judge.protocols import PairProtocol
    from facespace.judge.readers.ijb import Kind
    from facespace.judge.retrieval import RetrievalProtocol

    AnyProtocol = PairProtocol | RetrievalProtocol | ClusteringProtocol | IdentificationProtocol | GalleryProtocol


MOST_PAIRS = 1_000_000
"""In a report."""


@dataclass(frozen=True)
class Row:
    """How a protocol is opened; `takes` are the options that belong to it, `needs` those it cannot do without."""

    opens: "Callable[[Asked], AnyProtocol]"
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()


def open_protocol(name: ProtocolName | None, asked: Asked) -> "AnyProtocol":
    """The named protocol; unnamed, a list of pairs means LFW's. UsageError for options that are not the protocol's."""
    name = name or (ProtocolName.lfw if asked.pairs else ProtocolName.folder)
    row, given = PROTOCOLS[name], asked.given()
    for option in sorted(row.needs - given):
        raise UsageError(f"the protocol {name.value} needs {option}", hint=f"add {option}")
    for option in sorted(given - row.takes - row.needs):
        others = ", ".join(key.value for key, other in PROTOCOLS.items() if option in other.takes | other.needs)
        hint = f"leave {option} out, or choose such a protocol"
        raise UsageError(f"{option} belongs to {others}, not to the protocol {name.value}", hint=hint)
    return row.opens(asked)


def detector_of(chosen: "AnyProtocol", name: DetectorName) -> DetectorName:
    """The detector that has to be opened: none need look, so none needs weights, where the set names the faces."""
    templates = getattr(chosen, "templates", None)
    return DetectorName.aligned if templates and templates.faces else name


def groups_of(chosen: "AnyProtocol") -> "GroupTable | None":
    """The groups into which the set itself divides its photos."""
    from facespace.judge.groups import GroupTable
    from facespace.judge.protocols import PairProtocol

    if not isinstance(chosen, PairProtocol) or chosen.groups is None:
        return None
    return GroupTable("photo", {"group": dict(zip(chosen.photos, chosen.groups, strict=True))})


def unmatched(chosen: "AnyProtocol", table: "GroupTable") -> str | None:
    """What of a table and of the photos of the data do not meet, in words; DataError where nothing does."""
    from facespace.judge.identification import IdentificationProtocol
    from facespace.judge.protocols import PairProtocol

    if isinstance(chosen, PairProtocol):
        return table.unmatched(chosen.photos, chosen.people_of_photos)
    assert isinstance(chosen, IdentificationProtocol)
    count = int((chosen.labels < chosen.own).sum())  # then come distractors, who never search
    return table.unmatched(chosen.photos[:count], chosen.people_of_photos[:count])


def require_few(chosen: "AnyProtocol") -> None:
    """UsageError where a report, which keeps the score of every pair, would be too large."""
    from facespace.judge.protocols import PairProtocol

    pairs = len(chosen.same) if isinstance(chosen, PairProtocol) else 0
    if pairs > MOST_PAIRS:
        what = f"a report keeps the score of every pair, and {pairs:,} are more than {MOST_PAIRS:,}"
        raise UsageError(what, hint="leave out --report; --json holds all figures")


def require_photos(chosen: "AnyProtocol") -> None:
    """UsageError where templates are compared, for what is done with single photos only."""
    if getattr(chosen, "templates", None):
        raise UsageError("two models are compared by photos, and this protocol has templates", hint="--protocol lfw")


def _lfw(asked: Asked) -> "AnyProtocol":
    from facespace.judge.protocols import lfw

    assert asked.pairs
    return lfw(asked.pairs, asked.data, asked.folds)


def _lfw_people(asked: Asked) -> "AnyProtocol":
    from facespace.judge.readers.lists import lfw_people

    assert asked.pairs
    return lfw_people(asked.pairs, asked.data, asked.seed)


def _csv(asked: Asked) -> "AnyProtocol":
    from facespace.judge.readers.lists import csv_pairs

    assert asked.pairs
    return csv_pairs(asked.pairs, asked.data)


def _bin(asked: Asked) -> "AnyProtocol":
    from facespace.judge.readers.bins import bin_pairs

    return bin_pairs(asked.data)


def _cfp(kind: Literal["FF", "FP"]) -> "Callable[[Asked], AnyProtocol]":
    def opens(asked: Asked) -> "AnyProtocol":
        from facespace.judge.readers.lists import cfp

        return cfp(asked.data, kind)

    return opens


def _rfw(asked: Asked) -> "AnyProtocol":
    from facespace.judge.readers.lists import rfw

    assert asked.pairs
    return rfw(asked.pairs, asked.data)


def _ijb(kind: "Kind") -> "Callable[[Asked], AnyProtocol]":
    def opens(asked: Asked) -> "AnyProtocol":
        from facespace.judge.readers.ijb import ijb

        return ijb(asked.data, kind, asked.quality is Quality.score)

    return opens


def _ijb_searches(kind: "Kind") -> "Callable[[Asked], AnyProtocol]":
    def opens(asked: Asked) -> "AnyProtocol":
        from facespace.judge.readers.ijb_searches import ijb_searches

        return ijb_searches(asked.data, kind, asked.quality is Quality.score)

    return opens


def _ytf(asked: Asked) -> "AnyProtocol":
    from facespace.judge.readers.ytf import ytf

    return ytf(asked.data, asked.frames, asked.average.value, asked.pairs)


def _tinyface(asked: Asked) -> "AnyProtocol":
    from facespace.judge.readers.tinyface import tinyface

    return tinyface(asked.data)


def _folder(asked: Asked) -> "AnyProtocol":
    from facespace.judge.protocols import folder

    return folder(asked.data, asked.seed)


def _retrieval(asked: Asked) -> "AnyProtocol":
    from facespace.judge.retrieval import retrieval

    return retrieval(asked.data)


def _clustering(asked: Asked) -> "AnyProtocol":
    from facespace.judge.clustering import clustering

    return clustering(asked.data)


def _identification(asked: Asked) -> "AnyProtocol":
    from facespace.judge.identification import identification

    return identification(asked.data, asked.enrolment, asked.distractors)


_LIST = frozenset({"--pairs"})
_QUALITY = frozenset({"--quality"})
_ENROLMENT = frozenset({"--enrol", "--pick", "--nonmates", "--rank", "--distractors"})

PROTOCOLS = {
    ProtocolName.lfw: Row(_lfw, takes=frozenset({"--folds"}), needs=_LIST),
    ProtocolName.lfw_people: Row(_lfw_people, needs=_LIST),
    ProtocolName.pairs: Row(_csv, needs=_LIST),
    ProtocolName.bin: Row(_bin),
    ProtocolName.cfp_ff: Row(_cfp("FF")),
    ProtocolName.cfp_fp: Row(_cfp("FP")),
    ProtocolName.rfw: Row(_rfw, needs=_LIST),
    ProtocolName.ijbb: Row(_ijb("ijbb"), takes=_QUALITY),
    ProtocolName.ijbc: Row(_ijb("ijbc"), takes=_QUALITY),
    ProtocolName.ijbb_1n: Row(_ijb_searches("ijbb"), takes=_QUALITY),
    ProtocolName.ijbc_1n: Row(_ijb_searches("ijbc"), takes=_QUALITY),
    ProtocolName.ytf: Row(_ytf, takes=_LIST | {"--frames", "--average"}),
    ProtocolName.tinyface: Row(_tinyface),
    ProtocolName.folder: Row(_folder),
    ProtocolName.retrieval: Row(_retrieval),
    ProtocolName.clustering: Row(_clustering),
    ProtocolName.identification: Row(_identification, takes=_ENROLMENT),
}
