"""What a teacher said, on disk: asked once, found again after a kill, whatever order examples come in.

One SQLite file; an answer is there whole or not at all. The key has the teacher's identity and the example's own content in
it, so another teacher or changed data never meets old answers.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.errors import WorkspaceError

Arrays = dict[str, npt.NDArray[np.generic]]


class AnswerCache:
    """Arrays by example.

    Args:
        path: of the file; made when missing.
        teacher: identity of whoever answers.

    Raises:
        WorkspaceError: the file is no cache, or cannot be written.
    """

    def __init__(self, path: Path, teacher: str) -> None:
        self.path, self.teacher = path, teacher
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, arrays BLOB) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def __len__(self) -> int:
        """Answers kept, of any teacher."""
        return int(self._file.execute("SELECT count(*) FROM answers").fetchone()[0])

    def get(self, examples: Sequence[bytes]) -> list[Arrays | None]:
        """What is known of examples, by their content."""
        found = []
        for one in examples:
            row = self._file.execute("SELECT arrays FROM answers WHERE key = ?", (self._key(one),)).fetchone()
            found.append(None if row is None else _unpacked(row[0]))
        return found

    def put(self, answers: Mapping[bytes, Arrays]) -> None:
        """Keep answers, all of them or none.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        try:
            self._file.execute("BEGIN")
            self._file.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)",
                [(self._key(example), _packed(arrays)) for example, arrays in answers.items()],
            )
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise self._refused(error) from error

    def close(self) -> None:
        """Nothing more will be asked."""
        self._file.close()

    def _key(self, example: bytes) -> bytes:
        return hashlib.sha256(self.teacher.encode() + b"\0" + example).digest()

    def _refused(self, error: sqlite3.Error) -> WorkspaceError:
        return WorkspaceError(
            f"{self.path}: the teacher's answers cannot be kept ({error}); free some space, or delete the file"
        )


def _packed(arrays: Arrays) -> bytes:
    kept = io.BytesIO()
    np.savez(kept, allow_pickle=False, **arrays)
    return kept.getvalue()


def _unpacked(kept: bytes) -> Arrays:
    with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
