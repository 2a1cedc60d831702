"""Tar files read in place: an index of the members, then random access to their bytes, nothing unpacked."""

import os
import tarfile
from pathlib import Path

from facespace.errors import DataError


class Tar:
    """Random access to the regular files of an uncompressed tar; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = _index(path)
        self._file = os.open(path, os.O_RDONLY)

    @property
    def names(self) -> list[str]:
        """Names of the regular files, in the order of the archive."""
        return list(self._index)

    def read(self, name: str) -> bytes:
        """The bytes of a member; DataError where there is none of that name, or the archive ends early."""
        if name not in self._index:
            raise DataError(f"the archive holds no file {name!r}", file=self.path)
        offset, size = self._index[name]
        content = os.pread(self._file, size, offset)
        if len(content) != size:
            raise DataError(f"the archive ends inside {name!r}", file=self.path, hint="copy it anew")
        return content

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


def _index(path: Path) -> dict[str, tuple[int, int]]:
    """Name to (offset, size) of every regular file; links, devices and climbing paths are refused.

    Of two members with one name the later counts, as when the archive is unpacked.
    """
    index: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = _checked_name(member, path)
                index[name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        hint = "an uncompressed tar is needed (random access); unpack a .tar.gz or make it anew with tar cf"
        raise DataError(f"not a readable tar ({error})", file=path, hint=hint) from error
    return index


def _checked_name(member: tarfile.TarInfo, path: Path) -> str:
    name = member.name.removeprefix("./")
    if not member.isreg() or member.issparse():
        raise DataError(f"{name!r} is not a regular file (a link or device)", file=path, hint="pack the photos themselves")
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"{name!r} points outside the archive", file=path)
    return name
