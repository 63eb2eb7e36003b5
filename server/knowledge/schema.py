"""The knowledge file: its tables, its version, and how it is opened.

One SQLite file in WAL mode: any number of processes read while one writes, and each reader sees one committed state.
``synchronous=FULL`` syncs the log at every commit, so that what is acknowledged survives a killed process and a lost
power supply alike.  The file knows what it is (``application_id``) and how it is laid out (``user_version``).

A passage's id is never used again, and ids ascend with the epoch in which a passage, or its vector, became what it is:
whoever follows the changes only ever appends.  A passage that gets its vector later, or another one, gets another id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from server.knowledge.file_faults import KnowledgeFault, told_as_faults
from server.knowledge.words import TOKENIZER

APPLICATION_ID = 0x56544B42  # "VTKB"
BUSY_S = 5.0  # how long another process's write is waited for
CACHE_KIB = 8192
WAL_LIMIT_BYTES = 64 << 20  # the log is cut back to this after a checkpoint


def _first(db: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE encoders (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL)",
        # One row. encoder: whose vectors count; 0: there are none.
        "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, encoder INTEGER NOT NULL)",
        "INSERT INTO state VALUES (1, 1, 0)",
        """CREATE TABLE documents (
            key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, epoch INTEGER NOT NULL,
            hash TEXT NOT NULL, format TEXT NOT NULL, title TEXT NOT NULL, language TEXT NOT NULL, url TEXT NOT NULL,
            metadata TEXT NOT NULL, passages INTEGER NOT NULL, chars INTEGER NOT NULL, changed_unix_s REAL NOT NULL,
            text TEXT NOT NULL)""",
        # encoder: who was asked for the vectors; 0: nobody yet. scan NULL with an encoder: there is nothing to encode.
        """CREATE TABLE passages (
            id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents (key),
            ordinal INTEGER NOT NULL, epoch INTEGER NOT NULL, encoder INTEGER NOT NULL, title TEXT NOT NULL,
            headings TEXT NOT NULL, anchor TEXT NOT NULL, url TEXT NOT NULL, question TEXT NOT NULL,
            starts INTEGER NOT NULL, ends INTEGER NOT NULL, language TEXT NOT NULL, text TEXT NOT NULL,
            scan BLOB, close BLOB NOT NULL)""",
        "CREATE INDEX passages_of ON passages (document, ordinal)",
        "CREATE INDEX passages_since ON passages (epoch)",
        "CREATE INDEX passages_by ON passages (encoder)",
        "CREATE TABLE removed (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL)",
        "CREATE INDEX removed_since ON removed (epoch)",
        f"CREATE VIRTUAL TABLE word_index USING fts5 (head, body, tokenize = '{TOKENIZER}')",
    ):
        db.execute(statement)


MIGRATIONS: Sequence[Callable[[sqlite3.Connection], None]] = (
    _first,
)  # each from the version of its place to the next
VERSION = len(MIGRATIONS)


def open_to_write(path: Path, *, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open the file, make it where it is not there, and bring it to ``VERSION`` in one transaction.

    The connection may be used by any thread, one at a time; transactions are begun by hand.

    Raises:
        KnowledgeFault: it is locked, damaged, read-only, something else, or of a newer version; says what to do.
    """
    with told_as_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            _check_kind(db, path)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            _migrate(db, path)
        except BaseException:
            db.close()
            raise
    return db


def open_to_read(path: Path, *, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open the file without the means to change it; one thread at a time.

    Raises:
        KnowledgeFault: it is not there, damaged, something else, or of another version; says what to do.
    """
    with told_as_faults(path):
        if not path.exists():
            raise KnowledgeFault(
                f"there is no knowledge file {path}; make it with python -m server.knowledge sync FOLDER "
                f"--knowledge {path}",
                retry_after_s=60.0,
            )
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=busy_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _check_kind(db, path)
            if _version(db) < VERSION:
                raise KnowledgeFault(
                    f"the knowledge file {path} is of version {_version(db)}, this program reads {VERSION}; open it once "
                    "with the means to write, for instance with python -m server.knowledge check",
                    retry_after_s=60.0,
                )
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except BaseException:
            db.close()
            raise
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_kind(db: sqlite3.Connection, path: Path) -> None:
    kind = int(db.execute("PRAGMA application_id").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if kind != APPLICATION_ID and (kind or tables):
        raise KnowledgeFault(
            f"{path} is an SQLite file, but not of this program; name another path for the knowledge file",
            retry_after_s=60.0,
        )
    if _version(db) > VERSION:
        raise KnowledgeFault(
            f"the knowledge file {path} is of version {_version(db)}, this program knows {VERSION} at most; serve it with the "
            "newer program, or put a file in its place that was exported there and imported here",
            retry_after_s=60.0,
        )


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    if _version(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        _check_kind(db, path)  # another process may have been faster
        for step in MIGRATIONS[_version(db) :]:
            step(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
