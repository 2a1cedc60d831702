"""Reads each photo of a folder in a process of its own, within 1 s of processor time and 300 MB more than before.

Run as `python bounded.py FOLDER`: beside each file `name.bin` comes `name.npy` (every n-th pixel) or `name.txt` (the
refusal); neither where the process crashed or met a limit. A fork is cheap where an interpreter for each file is not.
"""

import os
import resource
import sys
import traceback
from pathlib import Path

import cv2
import numpy as np
from odd_files import thin

from facespace.errors import BadImage
from facespace.faces.photo import read_photo

MORE_BYTES = 300_000_000
SECONDS = 1


def limit() -> None:
    """The limits of this process; the address space as it is now, and 300 MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    address_space = pages * os.sysconf("SC_PAGE_SIZE") + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))


def read_bounded(path: Path) -> None:
    limit()
    try:
        photo = read_photo(path)
    except BadImage as error:
        path.with_suffix(".txt").write_text(str(error), encoding="utf-8")
    else:
        np.save(path.with_suffix(".npy"), thin(photo))


def main(folder: Path) -> None:
    cv2.setNumThreads(1)  # a pool of threads does not survive a fork
    for path in sorted(folder.glob("*.bin")):
        child = os.fork()
        if child == 0:
            try:
                read_bounded(path)
            except Exception:  # noqa: BLE001  whatever it is, the parent must not run on in the child
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
