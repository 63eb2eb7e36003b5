"""Views of a knowledge file, each of one epoch: what a search reads, and what is listed and given back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from server.knowledge.file_faults import told_as_faults
from server.knowledge.reading import Changes, StoredPassage
from server.knowledge.schema import open_to_read
from server.knowledge_domain import Document, DocumentFormat, Passage

COLUMNS = (
    "passages.id, documents.id, passages.ordinal, passages.title, passages.headings, passages.anchor, passages.url, "
    "passages.question, passages.text, passages.starts, passages.ends, passages.language"
)
_KEPT = (
    "id, version, epoch, hash, format, title, language, url, metadata, passages, chars, changed_unix_s, "
    "(SELECT count(*) FROM passages p WHERE p.document = documents.key "
    "AND p.encoder != (SELECT encoder FROM state))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDocument:
    """A document without its text.

    Attributes:
        id, format, title, language, url, metadata: as they were put in.
        version: 1 of the first text under this id, and one more with each change; a deleted id begins anew.
        epoch: in which this version came.
        hash: SHA-256 of everything that was put in.
        passages: it was cut into.
        waiting: passages of them that have no vector of the present encoder yet.
        chars: of its text.
        changed_unix_s: when this version came.
    """

    id: str
    version: int
    epoch: int
    hash: str
    format: DocumentFormat
    title: str
    language: str
    url: str
    metadata: Mapping[str, str]
    passages: int
    waiting: int
    chars: int
    changed_unix_s: float


def passage_of(row: Sequence[object]) -> Passage:
    """A passage of a row of ``COLUMNS``."""
    _, document_id, ordinal, title, headings, anchor, url, question, text, start, end, language = row
    return Passage(
        document_id=str(document_id),
        ordinal=int(str(ordinal)),
        title=str(title),
        headings=tuple(msgspec.json.decode(str(headings), type=list[str])),
        anchor=str(anchor),
        url=str(url),
        question=str(question),
        text=str(text),
        start=int(str(start)),
        end=int(str(end)),
        language=str(language),
    )


class SqliteView:
    """``EpochView`` of a knowledge file; see there."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Look through a connection that is within a read transaction."""
        self._db = db
        row = db.execute(
            "SELECT epoch, encoder, coalesce(name, ''), coalesce(dim, 0) FROM state "
            "LEFT JOIN encoders ON encoders.id = encoder"
        ).fetchone()
        self.epoch: int = row[0]
        self.encoder: tuple[str, int] = (row[2], row[3])
        self._encoder_id: int = row[1]

    def changes(self, since: int | None) -> Changes:
        """List what has changed since an epoch; see ``EpochView``."""
        by = (self._encoder_id,)
        if since is None:
            rows = self._db.execute(
                "SELECT id, scan FROM passages WHERE encoder = ? AND scan IS NOT NULL ORDER BY id", by
            ).fetchall()
            return Changes([row[0] for row in rows], [row[1] for row in rows], [])
        rows = self._db.execute(
            "SELECT id, scan FROM passages INDEXED BY passages_since "
            "WHERE epoch > ? AND encoder = ? AND scan IS NOT NULL ORDER BY id",
            (since, *by),
        ).fetchall()
        gone = self._db.execute("SELECT id FROM removed WHERE epoch > ?", (since,)).fetchall()
        return Changes([row[0] for row in rows], [row[1] for row in rows], [row[0] for row in gone])

    def count(self) -> int:
        """Count the passages."""
        return int(self._db.execute("SELECT coalesce(sum(passages), 0) FROM documents").fetchone()[0])

    def frequency(self, word: str) -> int:
        """Count the passages that have a word of ``words.words``."""
        asked = ('"' + word.replace('"', '""') + '"',)
        return int(
            self._db.execute("SELECT count(*) FROM word_index WHERE word_index MATCH ?", asked).fetchone()[0]
        )

    def match(self, expression: str, limit: int) -> Sequence[tuple[int, float]]:
        """Find passages by words: ids and BM25, higher is better."""
        return self._db.execute(
            "SELECT rowid, -bm25(word_index) AS score FROM word_index WHERE word_index MATCH ? "
            "ORDER BY score DESC LIMIT ?",  # ORDER BY rank goes through the index twice
            (expression, limit),
        ).fetchall()

    def passages(self, ids: Sequence[int]) -> Mapping[int, StoredPassage]:
        """Read passages; ids that are not there are left out."""
        rows = self._db.execute(
            f"SELECT {COLUMNS}, CASE WHEN passages.encoder = ? THEN passages.close ELSE x'' END "
            "FROM passages JOIN documents ON documents.key = passages.document "
            f"WHERE passages.id IN ({','.join('?' * len(ids))})",
            (self._encoder_id, *ids),
        ).fetchall()
        return {row[0]: StoredPassage(passage_of(row[:-1]), row[-1]) for row in rows}

    def waiting(self) -> int:
        """Passages that have no vector of the present encoder yet; 0 where there was never an encoder."""
        if not self._encoder_id:
            return 0
        count = "SELECT count(*) FROM passages WHERE encoder != ?"
        return int(self._db.execute(count, (self._encoder_id,)).fetchone()[0])

    def documents(self) -> int:
        """Count the documents."""
        return int(self._db.execute("SELECT count(*) FROM documents").fetchone()[0])

    def listed(self, after: str, limit: int) -> list[KeptDocument]:
        """Documents in the order of their ids, those after one."""
        rows = self._db.execute(
            f"SELECT {_KEPT} FROM documents WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        ).fetchall()
        return [_kept(row) for row in rows]

    def document(self, document_id: str) -> tuple[KeptDocument, Document] | None:
        """A document, with its text as it was put in."""
        row = self._db.execute(f"SELECT {_KEPT}, text FROM documents WHERE id = ?", (document_id,)).fetchone()
        if row is None:
            return None
        kept = _kept(row[:-1])
        return kept, Document(
            id=kept.id,
            text=row[-1],
            format=kept.format,
            title=kept.title,
            language=kept.language,
            url=kept.url,
            metadata=kept.metadata,
        )

    def passages_of(self, document_id: str) -> list[Passage]:
        """All passages of a document, in order."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM passages JOIN documents ON documents.key = passages.document "
            "WHERE documents.id = ? ORDER BY ordinal",
            (document_id,),
        ).fetchall()
        return [passage_of(row) for row in rows]


def _kept(row: Sequence[object]) -> KeptDocument:
    (at, version, epoch, digest, form, title, language, url, metadata, passages, chars, changed, waiting) = (
        row
    )
    return KeptDocument(
        id=str(at),
        version=int(str(version)),
        epoch=int(str(epoch)),
        hash=str(digest),
        format=DocumentFormat(str(form)),
        title=str(title),
        language=str(language),
        url=str(url),
        metadata=msgspec.json.decode(str(metadata), type=dict[str, str]),
        passages=int(str(passages)),
        waiting=int(str(waiting)),
        chars=int(str(chars)),
        changed_unix_s=float(str(changed)),
    )


class SqliteReader:
    """``KnowledgeReader`` of a file; one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            KnowledgeFault: see ``schema.open_to_read``.
        """
        self._path = path
        self._db = open_to_read(path)

    @contextmanager
    def view(self) -> Iterator[SqliteView]:
        """Look at the newest epoch."""
        with told_as_faults(self._path):
            self._db.execute("BEGIN")
            try:
                yield SqliteView(self._db)
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")  # nothing was written

    def close(self) -> None:
        """Close the file."""
        self._db.close()
