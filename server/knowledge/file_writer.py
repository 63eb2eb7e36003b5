"""Changes of a knowledge file, each one transaction and one epoch: whole or not at all.

For one thread at a time.  A transaction that fails is rolled back, and the file is what it was.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from server.errors import InvalidRequest
from server.knowledge.cutting import Cut
from server.knowledge.file_faults import told_as_faults
from server.knowledge.reader import COLUMNS, SqliteView, passage_of
from server.knowledge.schema import open_to_write
from server.knowledge.words import indexed_text
from server.knowledge_domain import Document, Passage

REMOVED_KEPT = 1_000_000  # newest removals that are listed; an older one is only a vector that finds nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageVectors:
    """A passage's vectors as ``vectors.pack_rows`` writes them; ``scan`` None: there is nothing to encode in it."""

    scan: bytes | None
    close: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a change has done.

    Attributes:
        epoch: in which it is seen.
        version: of the document; 0: it is gone, or was not there.
        passages: of the document.
        created: it was not there before.
        changed: something is different now.
    """

    epoch: int
    version: int
    passages: int
    created: bool
    changed: bool


def document_hash(document: Document) -> str:
    """SHA-256 of everything that was put in, so that the same is known again."""
    parts = [
        document.id,
        document.text,
        document.format.value,
        document.title,
        document.language,
        document.url,
        sorted(document.metadata.items()),
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


class FileWriter:
    """The one writer of a knowledge file in this process."""

    def __init__(self, path: Path, now_unix_s: Callable[[], float]) -> None:
        """Open the file, or make it.

        Raises:
            KnowledgeFault: see ``schema.open_to_write``.
        """
        self.path = path
        self._now_unix_s = now_unix_s
        self._db = open_to_write(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        db = self._db
        with told_as_faults(self.path):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def use_encoder(self, name: str, dim: int) -> bool:
        """Let the vectors of one encoder count from now on; those of another are made anew by and by.

        Returns:
            Whether it was another one before.
        """
        with told_as_faults(self.path):
            if SqliteView(self._db).encoder == (name, dim):
                return False
        with self._change() as db:
            db.execute(
                "INSERT INTO encoders (name, dim) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET dim = excluded.dim",
                (name, dim),
            )
            db.execute("UPDATE state SET encoder = (SELECT id FROM encoders WHERE name = ?)", (name,))
            _next_epoch(db)
        return True

    def put(
        self,
        document: Document,
        cut: Cut,
        vectors: Sequence[PassageVectors] | None,
        encoder: str,
        expected: Callable[[int], None] = lambda version: None,
    ) -> Written:
        """Put a document in the place of what is under its id.

        Args:
            document: as it came.
            cut: its passages.
            vectors: one for each passage; None: they follow.
            encoder: that made them; they are left out where it is not the one that counts.
            expected: told the version that is there (0: none) before anything is changed; may raise.
        """
        digest = document_hash(document)
        with self._change() as db:
            was = db.execute(
                "SELECT key, version, hash, epoch, passages FROM documents WHERE id = ?", (document.id,)
            ).fetchone()
            expected(0 if was is None else was[1])
            if was is not None and was[2] == digest:
                return Written(epoch=was[3], version=was[1], passages=was[4], created=False, changed=False)
            epoch = _next_epoch(db)
            version = 1 if was is None else was[1] + 1
            if was is not None:
                _remove_passages(db, was[0], epoch)
                db.execute("DELETE FROM documents WHERE key = ?", (was[0],))
            key = db.execute(
                "INSERT INTO documents (id, version, epoch, hash, format, title, language, url, metadata, passages, chars, "
                "changed_unix_s, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    document.id,
                    version,
                    epoch,
                    digest,
                    document.format.value,
                    document.title,
                    document.language,
                    document.url,
                    msgspec.json.encode(dict(document.metadata)).decode(),
                    len(cut.passages),
                    len(document.text),
                    self._now_unix_s(),
                    document.text,
                ),
            ).lastrowid
            counts, name = db.execute(
                "SELECT encoder, coalesce(name, '') FROM state LEFT JOIN encoders ON encoders.id = encoder"
            ).fetchone()
            known = vectors is not None and name == encoder
            for at, passage in enumerate(cut.passages):
                own = vectors[at] if known and vectors is not None else None
                _insert_passage(db, key, epoch, counts if known else 0, passage, own)
        return Written(
            epoch=epoch, version=version, passages=len(cut.passages), created=was is None, changed=True
        )

    def delete(self, document_id: str, expected: Callable[[int], None] = lambda version: None) -> Written:
        """Take a document away; ``changed`` says whether it was there."""
        with self._change() as db:
            was = db.execute("SELECT key, version FROM documents WHERE id = ?", (document_id,)).fetchone()
            expected(0 if was is None else was[1])
            if was is None:
                return Written(
                    epoch=SqliteView(db).epoch, version=0, passages=0, created=False, changed=False
                )
            epoch = _next_epoch(db)
            _remove_passages(db, was[0], epoch)
            db.execute("DELETE FROM documents WHERE key = ?", (was[0],))
        return Written(epoch=epoch, version=0, passages=0, created=False, changed=True)

    def without_vectors(self, limit: int) -> list[tuple[int, Passage]]:
        """Passages that have no vector of the encoder that counts, the oldest first."""
        with told_as_faults(self.path):
            rows = self._db.execute(
                f"SELECT {COLUMNS} FROM passages JOIN documents ON documents.key = passages.document "
                "WHERE passages.encoder != (SELECT encoder FROM state) ORDER BY passages.id LIMIT ?",
                (limit,),
            ).fetchall()
        return [(row[0], passage_of(row)) for row in rows]

    def give_vectors(self, encoder: str, given: Sequence[tuple[int, PassageVectors]]) -> int:
        """Give passages their vectors, under new ids; those that are gone since are passed over.

        Returns:
            How many were still there.
        """
        done = 0
        with self._change() as db:
            by, name = db.execute(
                "SELECT encoder, coalesce(name, '') FROM state LEFT JOIN encoders ON encoders.id = encoder"
            ).fetchone()
            if name != encoder:
                return 0
            epoch = _next_epoch(db)
            for old, vectors in given:
                row = db.execute(
                    f"SELECT {COLUMNS}, passages.document FROM passages "
                    "JOIN documents ON documents.key = passages.document WHERE passages.id = ?",
                    (old,),
                ).fetchone()
                if row is None:
                    continue
                words = db.execute("SELECT head, body FROM word_index WHERE rowid = ?", (old,)).fetchone()
                _remove(db, [old], epoch)
                _insert_passage(db, row[-1], epoch, by, passage_of(row[:-1]), vectors, words)
                done += 1
            oldest = "(SELECT min(id) FROM (SELECT id FROM removed ORDER BY id DESC LIMIT ?))"
            db.execute(f"DELETE FROM removed WHERE id < {oldest}", (REMOVED_KEPT,))
        return done

    def check(self) -> list[str]:
        """Look for damage; sentences, none where all is well."""
        with told_as_faults(self.path):
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check (20)") if row[0] != "ok"]
            try:
                self._db.execute("INSERT INTO word_index (word_index) VALUES ('integrity-check')")
            except sqlite3.DatabaseError as error:
                found.append(f"the word index does not hold what it should: {error}; import an export anew")
            counts = self._db.execute(
                "SELECT (SELECT count(*) FROM passages), (SELECT count(*) FROM word_index), "
                "(SELECT coalesce(sum(passages), 0) FROM documents)"
            ).fetchone()
            if len(set(counts)) != 1:
                found.append(
                    f"{counts[0]} passages, but {counts[1]} in the word index and {counts[2]} of documents"
                )
            astray = self._db.execute(
                "SELECT documents.id, ordinal FROM passages JOIN documents ON documents.key = passages.document "
                "WHERE format IN ('markdown', 'text') "
                "AND substr(documents.text, starts + 1, ends - starts) != passages.text LIMIT 20"
            ).fetchall()
            found += [f"{document}, passage {at}: not a part of its document" for document, at in astray]
        return found


def _next_epoch(db: sqlite3.Connection) -> int:
    return int(db.execute("UPDATE state SET epoch = epoch + 1 RETURNING epoch").fetchone()[0])


def _remove_passages(db: sqlite3.Connection, key: int, epoch: int) -> None:
    _remove(db, [row[0] for row in db.execute("SELECT id FROM passages WHERE document = ?", (key,))], epoch)


def _remove(db: sqlite3.Connection, ids: Sequence[int], epoch: int) -> None:
    one = [(at,) for at in ids]
    db.executemany("DELETE FROM word_index WHERE rowid = ?", one)
    db.executemany("DELETE FROM passages WHERE id = ?", one)
    db.executemany("INSERT INTO removed VALUES (?, ?)", [(at, epoch) for at in ids])


def _insert_passage(
    db: sqlite3.Connection,
    key: int | None,
    epoch: int,
    encoder: int,
    passage: Passage,
    vectors: PassageVectors | None,
    words: tuple[str, str] | None = None,
) -> None:
    at = db.execute(
        "INSERT INTO passages (document, ordinal, epoch, encoder, title, headings, anchor, url, question, starts, ends, "
        "language, text, scan, close) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            passage.ordinal,
            epoch,
            encoder,
            passage.title,
            msgspec.json.encode(passage.headings).decode(),
            passage.anchor,
            passage.url,
            passage.question,
            passage.start,
            passage.end,
            passage.language,
            passage.text,
            None if vectors is None else vectors.scan,
            b"" if vectors is None else vectors.close,
        ),
    ).lastrowid
    head, body = words or searched_words(passage)
    db.execute("INSERT INTO word_index (rowid, head, body) VALUES (?, ?, ?)", (at, head, body))


def searched_words(passage: Passage) -> tuple[str, str]:
    """What the word index has of a passage: of its heads, and of itself."""
    heads = dict.fromkeys((passage.title, *passage.headings, passage.question))
    return indexed_text("\n".join(heads)), indexed_text(passage.text)


class VersionDiffers(InvalidRequest):
    """Another version of a document is there than the caller believes."""


class VersionExpected:
    """For ``expected``: what a caller believes to be there.

    Args:
        document_id: of the document.
        version: the caller has seen; 0: none must be there; -1: any must be there.
    """

    def __init__(self, document_id: str, version: int) -> None:
        self._document_id = document_id
        self._version = version

    def __call__(self, version: int) -> None:
        """Raise ``VersionDiffers`` where something else is there."""
        if version == self._version or (self._version < 0 and version):
            return
        there = f"version {version}" if version else "not there"
        wanted = (
            "any version" if self._version < 0 else f"version {self._version}" if self._version else "none"
        )
        raise VersionDiffers(
            f"document {self._document_id} is {there}, but {wanted} was expected; read it again, then decide",
            field="if-match" if self._version else "if-none-match",
            limit=wanted,
        )
