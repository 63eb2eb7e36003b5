"""What a search reads of the knowledge file, always within one epoch; the store implements it over SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from server.knowledge_domain import Passage


@dataclass(frozen=True, slots=True)
class Changes:
    """How an epoch's passages differ from those of an earlier one.

    Attributes:
        added: ids of passages with a scan vector, ascending; ids are never used again.
        scan_vectors: one for each, as ``vectors.pack_rows`` wrote it.
        removed: ids of passages that are gone; others may be among them.
    """

    added: Sequence[int]
    scan_vectors: Sequence[bytes]
    removed: Sequence[int]


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage and its close vectors, as ``vectors.pack_rows`` wrote them; empty: it has none yet."""

    passage: Passage
    close_vectors: bytes


class EpochView(Protocol):
    """A knowledge file as it is at one epoch: a read transaction. One thread at a time."""

    @property
    def epoch(self) -> int:
        """Of everything that is read through this view."""

    @property
    def encoder(self) -> tuple[str, int]:
        """Who made the vectors ("name/version"), and their dimensions; ("", 0): there are none.

        When it changes, every vector of before is worthless: a searcher then asks for ``changes(since=None)``.
        """

    def changes(self, since: int | None) -> Changes:
        """List what has changed since an epoch; None: since the file was empty."""

    def count(self) -> int:
        """Count the passages."""

    def frequency(self, word: str) -> int:
        """Count the passages that have a word of ``words.words``."""

    def match(self, expression: str, limit: int) -> Sequence[tuple[int, float]]:
        """Find passages by an expression of ``words.match_expression``: ids and BM25 (higher is better), best first.

        ``limit`` of them at most; below 0: all.
        """

    def passages(self, ids: Sequence[int]) -> Mapping[int, StoredPassage]:
        """Read passages; ids that are not there are left out."""


class KnowledgeReader(Protocol):
    """Opens views of a knowledge file; belongs to one thread."""

    def view(self) -> AbstractContextManager[EpochView]:
        """Look at the newest epoch.

        Raises:
            NotReady: the file cannot be read; says why and what to do.
        """

    def close(self) -> None:
        """Close the file."""
