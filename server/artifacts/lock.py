"""One holder at a time, across processes: ``flock`` on a file that is never removed.

The kernel lets go when the holder dies, however it dies, so there is no stale lock to clean up. The file's
text only tells a human who holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from server.artifacts.errors import RepositoryBusy

_PAUSE_S = 0.05


@contextlib.contextmanager
def exclusive(
    path: Path,
    *,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the lock for the length of a ``with`` block.

    Args:
        path: the lock file; made when missing.
        wait_s: how long to wait for another holder; 0 asks once.
        clock: seconds, monotonic.
        pause: how to let time pass between attempts.
        on_wait: called once when it has to wait.

    Raises:
        RepositoryBusy: still held after ``wait_s``; names the holder.
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        give_up_at = clock() + wait_s
        asked = False
        while not _try_lock(descriptor):
            if not asked and wait_s > 0:
                on_wait()
            asked = True
            if clock() >= give_up_at:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                raise RepositoryBusy(path, holder, wait_s)
            pause(_PAUSE_S)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop a rollback
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
