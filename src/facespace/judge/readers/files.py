"""Lists and photos of a published set, as files in a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

from facespace.errors import DataError


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text in UTF-8, numbered from 1; DataError where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from enumerate(file, 1)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"no readable list ({error})", file=path, hint="give the folder that the set unpacks to"
        ) from error


def photo_reader(root: Path) -> Callable[[str], bytes]:
    """Gives the bytes of a photo by its path below `root`; DataError where it cannot be read."""

    def read(name: str) -> bytes:
        try:
            return (root / name).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", file=root / name) from error

    return read
