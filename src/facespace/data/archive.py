"""Tar files read in place: an index of the members, then random access to their bytes, nothing unpacked."""

import tarfile
from pathlib import Path

from facespace.errors import DataError


class Tar:
    """Random access to the regular files of an uncompressed tar; safe to share between threads.

    Raises DataError where the file is not such a tar, or holds links, devices or names that climb out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = _index(path)

    @property
    def names(self) -> list[str]:
        """Names of the regular files, in the order of the archive."""
        return list(self._index)

    def read(self, name: str) -> bytes:
        """The bytes of a member; DataError where there is none of that name, or the archive ends early."""
        if name not in self._index:
            raise DataError(f"the archive holds no file {name!r}", file=self.path)
        offset, size = self._index[name]
        try:
            with self.path.open("rb") as file:  # a position of its own for every reader
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", file=self.path) from error
        if len(content) != size:
            raise DataError(f"the archive ends inside {name!r}", file=self.path, hint="copy it anew")
        return content


def _index(path: Path) -> dict[str, tuple[int, int]]:
    """Name to (offset, size) of every regular file.

    Of two members with one name the later counts, as when the archive is unpacked.
    """
    index: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # tarfile would keep a kilobyte for each of millions of photos
                if not member.isdir():
                    index[_checked_name(member, path)] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        hint = "an uncompressed tar is needed (random access); unpack a .tar.gz or make it anew with tar cf"
        raise DataError(f"not a readable tar ({error})", file=path, hint=hint) from error
    return index


def _checked_name(member: tarfile.TarInfo, path: Path) -> str:
    """The member's name as a folder's listing would give it; DataError for what is no plain file inside the archive."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if not member.isreg() or member.issparse():
        raise DataError(
            f"{member.name!r} is not a regular file (a link or device)", file=path, hint="pack the photos themselves"
        )
    if member.name.startswith("/") or ".." in parts or not parts:
        raise DataError(f"{member.name!r} points outside the archive", file=path, hint="make it anew with tar cf")
    if member.size < 0:  # tarfile of Python before 3.11.14 would go back and read it for ever
        raise DataError(f"{member.name!r} has a negative size", file=path, hint="copy it anew")
    return "/".join(parts)
