"""What is wrong with a knowledge file, as a sentence that says what to do; for people, not for programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.errors import NotReady

_PRIMARY = 0xFF  # the low byte of an extended result code


class KnowledgeFault(NotReady):
    """The knowledge file cannot be read or written; nothing that was acknowledged is lost by it."""


def fault_of(error: sqlite3.Error | OSError, path: Path) -> KnowledgeFault:
    """Say what an error of SQLite means for whoever keeps the file."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY
    text = str(error)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return KnowledgeFault(
            f"the knowledge file {path} is locked by another process; end the command or the backup that holds it, "
            "then try again",
            retry_after_s=5.0,
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return KnowledgeFault(
            f"the knowledge file {path} is damaged ({text}); put a backup in its place, or remove it and sync the pages "
            "again, and look at it with python -m server.knowledge check",
            retry_after_s=60.0,
        )
    if primary == sqlite3.SQLITE_FULL:
        return KnowledgeFault(
            f"the disk of the knowledge file {path} is full; make room, then try again: what was acknowledged is kept",
            retry_after_s=30.0,
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return KnowledgeFault(
            f"the knowledge file {path} can only be read; allow writing to it and to its folder, then try again",
            retry_after_s=60.0,
        )
    if primary == sqlite3.SQLITE_CANTOPEN:
        return KnowledgeFault(
            f"the knowledge file {path} cannot be opened; it must be a file that this user may read, in a folder that "
            "is there",
            retry_after_s=60.0,
        )
    if primary == sqlite3.SQLITE_IOERR:
        return KnowledgeFault(
            f"the disk of the knowledge file {path} fails ({text}); look at the disk, then try again",
            retry_after_s=30.0,
        )
    return KnowledgeFault(f"the knowledge file {path} cannot be used: {text}", retry_after_s=30.0)


@contextmanager
def told_as_faults(path: Path) -> Iterator[None]:
    """Raise ``KnowledgeFault`` for what SQLite raises in the block."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
        raise fault_of(error, path) from error
