"""Memory of a mapped file, given back while native code reads it: so that what is resident stays far below the file.

Pages of a mapped file are the kernel's to take back at any time, but until it does they count as resident.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.002
DONTNEED = 4  # of Linux' madvise; on a file's mapping: read the page again when it is touched


@contextmanager
def given_back(path: Path) -> Iterator[None]:
    """Give back the pages of all mappings of ``path`` again and again, until the block ends; on Linux, elsewhere nothing.

    The mappings must stay as they are meanwhile and nobody may write to them: addresses are looked up once.
    """
    ranges = _mappings(path)
    if not ranges:
        yield
        return
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    done = threading.Event()

    def give_back() -> None:
        while not done.wait(EVERY_S):
            for start, stop in ranges:
                madvise(start, stop - start, DONTNEED)

    thread = threading.Thread(target=give_back, name="pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _mappings(path: Path) -> list[tuple[int, int]]:
    if sys.platform != "linux":
        return []
    wanted = path.stat()
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or int(fields[4]) != wanted.st_ino or fields[5] != str(path.resolve()):
            continue
        start, stop = (int(one, 16) for one in fields[0].split("-"))
        found.append((start, stop))
    return found
