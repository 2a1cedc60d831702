"""One command in several processes of this machine, as torchrun would start them, but with our exit status."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from facespace.cli.options import counted
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.train.recipe import Recipe

POLL_S = 0.1
GRACE_S = 10
"""How long the others may take to notice that one has failed, and to say so."""


def check_number(processes: int, recipe: "Recipe") -> None:
    """UsageError for more processes than there are cores, or than a batch gives equal parts of two photos or more.

    To be asked before any is started: each holds the whole of torch, and too many of them all memory.
    """
    from facespace.judge.embedding import available_cores
    from facespace.train.distributed import World

    cores, batch = available_cores(), recipe.sampler.batch
    most = min(cores, batch // 2)
    if processes > most:
        message = f"{processes} processes, but {counted(cores, 'core')} and a batch of {batch}"
        raise UsageError(message, hint=f"--processes {most}, or fewer" if most > 1 else "leave out --processes")
    World(size=processes).check(recipe)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `facespace ARGUMENTS` in so many processes; 0 where all ended well, else the status of the first to fail.

    Where one fails the others end too, by themselves or in the end by a signal.
    """
    port = _free_port()
    children = [_start(arguments, rank, processes, port) for rank in range(processes)]
    try:
        while True:
            ended = [child.poll() for child in children]
            if any(ended) or None not in ended:
                status = next(filter(None, ended), 0)
                return status if status >= 0 else 128 - status  # a signal, as a shell says it
            time.sleep(POLL_S)
    finally:
        for child in children:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _start(arguments: Sequence[str], rank: int, processes: int, port: int) -> "subprocess.Popen[bytes]":
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | {name: str(value) for name, value in place.items()}
    return subprocess.Popen([sys.executable, "-m", "facespace", *arguments], env=environment)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
