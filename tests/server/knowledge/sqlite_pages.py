"""Passages in an SQLite file, as plainly as can be, for tests of searching: what the store promises and no more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from server.knowledge.reading import Changes, StoredPassage
from server.knowledge.vectors import Floats, pack_rows
from server.knowledge.words import TOKENIZER, indexed_text
from server.knowledge_domain import Passage

_SCHEMA = f"""
CREATE TABLE meta (epoch INTEGER, encoder TEXT, dim INTEGER);
CREATE TABLE passages (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER, fields TEXT, scan BLOB, close BLOB);
CREATE TABLE gone (id INTEGER, epoch INTEGER);
CREATE VIRTUAL TABLE word_index USING fts5(head, body, tokenize='{TOKENIZER}');
"""


def passage(text: str, **fields: object) -> Passage:
    """A passage of a page."""
    given: dict[str, object] = {
        "document_id": "page",
        "ordinal": 0,
        "title": "",
        "headings": (),
        "anchor": "",
        "url": "",
        "question": "",
        "start": 0,
        "end": len(text),
        "language": "en",
    }
    return Passage(text=text, **{**given, **fields})  # type: ignore[arg-type]


class Pages:
    """A file of passages; writes and reads on connections of their own."""

    def __init__(self, path: str, dim: int, encoder: str = "test/1") -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)
        self._db.execute("INSERT INTO meta VALUES (1, ?, ?)", (encoder, dim))

    def change(
        self,
        added: Sequence[tuple[Passage, Floats | None, Floats | None]] = (),
        removed: Sequence[int] = (),
        encoder: str = "",
    ) -> list[int]:
        """One transaction and one epoch; vectors are the scan vector and the close ones."""
        db, ids = self._db, []
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE meta SET epoch = epoch + 1")
        if encoder:
            db.execute("UPDATE meta SET encoder = ?", (encoder,))
        (epoch,) = db.execute("SELECT epoch FROM meta").fetchone()
        for one in removed:
            db.execute("DELETE FROM passages WHERE id = ?", (one,))
            db.execute("DELETE FROM word_index WHERE rowid = ?", (one,))
            db.execute("INSERT INTO gone VALUES (?, ?)", (one, epoch))
        for kept, scan_D, close_SD in added:
            fields = {name: getattr(kept, name) for name in kept.__slots__}
            scan = None if scan_D is None else pack_rows(scan_D[None])
            close = b"" if close_SD is None else pack_rows(close_SD)
            row = (epoch, json.dumps(fields), scan, close)
            at = db.execute(
                "INSERT INTO passages (epoch, fields, scan, close) VALUES (?, ?, ?, ?)", row
            ).lastrowid
            head = indexed_text(" ".join((kept.title, *kept.headings, kept.question)))
            db.execute(
                "INSERT INTO word_index (rowid, head, body) VALUES (?, ?, ?)",
                (at, head, indexed_text(kept.text)),
            )
            assert at is not None
            ids.append(at)
        db.execute("COMMIT")
        return ids

    def reader(self) -> PagesReader:
        return PagesReader(self.path)


class PagesReader:
    """``KnowledgeReader`` of ``Pages``."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    @contextmanager
    def view(self) -> Iterator[PagesView]:
        self._db.execute("BEGIN")
        try:
            yield PagesView(self._db)
        finally:
            self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class PagesView:
    """``EpochView`` of ``Pages``."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.epoch, encoder, dim = db.execute("SELECT epoch, encoder, dim FROM meta").fetchone()
        self.encoder = (encoder, dim)

    def changes(self, since: int | None) -> Changes:
        rows = self._db.execute(
            "SELECT id, scan FROM passages WHERE epoch > ? AND scan IS NOT NULL ORDER BY id", (since or 0,)
        ).fetchall()
        gone = self._db.execute("SELECT id FROM gone WHERE epoch > ?", (since or 0,)).fetchall()
        return Changes([at for at, _ in rows], [scan for _, scan in rows], [at for (at,) in gone])

    def count(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM passages").fetchone()
        return int(count)

    def frequency(self, word: str) -> int:
        asked = (f'"{word}"',)
        (count,) = self._db.execute(
            "SELECT count(*) FROM word_index WHERE word_index MATCH ?", asked
        ).fetchone()
        return int(count)

    def match(self, expression: str, limit: int) -> Sequence[tuple[int, float]]:
        return self._db.execute(
            "SELECT rowid, -bm25(word_index) FROM word_index WHERE word_index MATCH ? ORDER BY bm25(word_index) LIMIT ?",
            (expression, limit),
        ).fetchall()

    def passages(self, ids: Sequence[int]) -> Mapping[int, StoredPassage]:
        marks = ",".join("?" * len(ids))
        rows = self._db.execute(f"SELECT id, fields, close FROM passages WHERE id IN ({marks})", list(ids))
        return {at: StoredPassage(_read(fields), close) for at, fields, close in rows}


def _read(fields: str) -> Passage:
    found = json.loads(fields)
    return Passage(**{**found, "headings": tuple(found["headings"])})
