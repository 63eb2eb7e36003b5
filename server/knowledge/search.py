"""Questions to the knowledge base: one worker thread reads the file and ranks, the event loop only waits.

**A search sees one epoch.**  It opens one read transaction; if the file has moved on since the last search, the index
of vectors takes up what changed, from within the same transaction, before it is asked.  So a change is found by the
first search after it was acknowledged, also when another process made it, and nothing has to be told to anybody.

Work is bounded whatever is asked: ``MOST_QUERY_WORDS`` words, ``MOST_ROWS_BY_WORDS`` rows of the word index, ``KEPT_ROWS`` cosines,
``READ_PASSAGES`` passages read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple, TypeVar

import numpy as np

from server.errors import NotReady
from server.knowledge.postings import Postings
from server.knowledge.ranking import (
    WORDS_WEIGHT,
    Candidate,
    ranked,
    rarest_within,
    words_shares,
)
from server.knowledge.reading import EpochView, KnowledgeReader, StoredPassage
from server.knowledge.vectors import Floats, VectorIndex, dots, rows_in, unpack_rows
from server.knowledge.words import MOST_QUERY_WORDS, words
from server.knowledge_domain import SearchAsked, SearchFound

log = logging.getLogger(__name__)
T = TypeVar("T")

BY_VECTOR, BY_WORDS = 60, 60  # found by each side
READ_PASSAGES = 24  # of them, which are looked at closely; 4 for each hit where more hits are asked for
REMEMBERED_PASSAGES = 8192  # that were read last: shoppers ask about the same pages; 32 MiB of usual ones
MOST_ROWS_BY_WORDS = 1000  # of the word index for one question: a millisecond
MOST_ASKED_CHARS = 4096  # of a question that words are taken from
_FREQUENCY_DRIFT = 0.1  # change of the number of passages after which remembered frequencies are asked again
_MOST_FREQUENCIES = 50_000


@contextmanager
def _told_as_damage() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        told = f"the knowledge file's vectors are damaged: {error}; sync the pages again to encode them anew"
        raise NotReady(told) from error


class _ByWords(NamedTuple):
    shares: dict[int, float]
    ranks: dict[int, int]


class KnowledgeSearch:
    """``Knowledge`` over a knowledge file; see ``start``."""

    def __init__(
        self, open_reader: Callable[[], KnowledgeReader], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Search what ``open_reader`` opens; it is called on the worker thread."""
        self._open_reader = open_reader
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")
        self._reader: KnowledgeReader | None = None
        self._index = VectorIndex(0)
        self._encoder = ("", 0)
        self._epoch: int | None = None
        self._passages = 0
        self._frequencies: dict[str, int] = {}
        self._frequencies_at = 0
        # Of this epoch: words that no passage has, where the others stand, and passages that were read, those not asked for longest first.
        self._nowhere: set[str] = set()
        self._postings = Postings()
        self._read: dict[int, StoredPassage] = {}
        self._fault = "the knowledge base has not been read yet"
        self._closed = False

    async def start(self) -> None:
        """Read all vectors; 100,000 take about a second.

        Raises:
            NotReady: the file cannot be read; a later search tries again.
        """
        await self._on_thread(self._look)

    async def search(self, asked: SearchAsked) -> SearchFound:
        """Find passages; see ``Knowledge.search``."""
        return await self._on_thread(lambda: self._search(asked))

    def epoch(self) -> int:
        """Of what the last search saw; 0 before the first."""
        return self._epoch or 0

    def ready(self) -> tuple[bool, str]:
        """Whether it can be searched, and a sentence if not."""
        return not self._fault, self._fault

    @property
    def passages(self) -> int:
        """There are, as of the last search."""
        return self._passages

    @property
    def vectors(self) -> int:
        """Passages of them that have a vector."""
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Memory of the vectors."""
        return self._index.nbytes

    async def close(self) -> None:
        """Close the file after the search that runs."""
        if self._closed:
            return
        self._closed, self._fault = True, "the knowledge base is closed"
        reader = self._reader
        if reader is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, reader.close)
        self._thread.shutdown(wait=False)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise NotReady(self._fault)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            if self._reader is None:
                self._reader = self._open_reader()
            done = work()
        except NotReady as error:
            self._give_up(error.message)
            raise
        if not self._closed:
            self._fault = ""
        return done

    def _give_up(self, fault: str) -> None:
        """The next search opens the file anew: another one may have been put in its place."""
        reader, self._reader, self._epoch = self._reader, None, None
        if reader is not None:
            reader.close()
        if not self._closed:
            self._fault = fault

    def _look(self) -> None:
        assert self._reader is not None
        with self._reader.view() as view:
            self._take_up(view)

    def _search(self, asked: SearchAsked) -> SearchFound:
        assert self._reader is not None
        began_s = self._clock()
        with self._reader.view() as view:
            epoch = self._take_up(view)
            asked_words = tuple(words(asked.text[:MOST_ASKED_CHARS]))
            by_words = self._by_words(view, list(dict.fromkeys(asked_words))[:MOST_QUERY_WORDS])
            query_D = self._usable(asked.vector_D)
            candidates = self._candidates(view, by_words, query_D, max(READ_PASSAGES, 4 * asked.k))
        ids = np.array([candidate.id for candidate in candidates], np.int64)
        vectors = self._index.vectors(ids)
        known = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        hits = ranked(
            candidates,
            asked_words=asked_words,
            language=asked.language,
            k=asked.k,
            scan_vectors={int(ids[at]): vectors[at] for at in known},
        )
        return SearchFound(hits=hits, epoch=epoch, search_s=self._clock() - began_s)

    def _take_up(self, view: EpochView) -> int:
        if view.epoch == self._epoch and view.encoder == self._encoder:
            return view.epoch
        again = self._epoch is None or view.encoder != self._encoder or view.epoch < self._epoch
        self._nowhere.clear()
        self._postings.clear()
        self._read.clear()
        index = VectorIndex(view.encoder[1]) if again else self._index
        changes = view.changes(None if again else self._epoch)
        with _told_as_damage():
            self._index = index.with_changes(changes.added, changes.scan_vectors, changes.removed)
        self._passages = view.count()
        self._epoch, self._encoder = view.epoch, view.encoder
        return view.epoch

    def _usable(self, vector_D: Floats | None) -> Floats | None:
        if vector_D is None or not self._index.dim:
            return None
        if len(vector_D) != self._index.dim:
            log.warning("searching by words alone: the question's vector has another length than the pages'")
            return None
        return vector_D

    def _by_words(self, view: EpochView, asked_words: list[str]) -> _ByWords:
        frequencies = {word: self._frequency(view, word) for word in asked_words}
        chosen = rarest_within(frequencies, MOST_ROWS_BY_WORDS)
        if not chosen:
            return _ByWords({}, {})
        found = self._postings.best(view, chosen, [frequencies[word] for word in chosen], BY_WORDS)
        shares = words_shares(found, self._passages, frequencies.values())
        return _ByWords(shares, {at: rank for rank, (at, _) in enumerate(found, 1)})

    def _frequency(self, view: EpochView, word: str) -> int:
        """A common word costs milliseconds to count, and its count need not be of this very epoch."""
        if word in self._nowhere:
            return 0
        moved = abs(self._passages - self._frequencies_at)
        if moved > _FREQUENCY_DRIFT * self._frequencies_at or len(self._frequencies) > _MOST_FREQUENCIES:
            self._frequencies.clear()
            self._frequencies_at = self._passages
        known = self._frequencies.get(word)
        if known is None:
            known = view.frequency(word)
            if known:
                self._frequencies[word] = known
            elif len(self._nowhere) < _MOST_FREQUENCIES:  # until the next change, which may bring it
                self._nowhere.add(word)
        return known

    def _passages_of(self, view: EpochView, ids: list[int]) -> dict[int, StoredPassage]:
        """Read passages, or remember them of an earlier question to this epoch; ids that are not there are left out."""
        read = self._read
        found = {at: read.pop(at) for at in ids if at in read}
        if missing := [at for at in ids if at not in found]:
            found.update(view.passages(missing))
        read.update(found)
        while len(read) > REMEMBERED_PASSAGES:
            del read[next(iter(read))]
        return found

    def _candidates(
        self, view: EpochView, by_words: _ByWords, query_D: Floats | None, most: int
    ) -> list[Candidate]:
        ids = list(by_words.shares)
        if query_D is not None:
            near, _ = self._index.search(query_D, max(BY_VECTOR, 2 * most))
            ids = list(dict.fromkeys([*map(int, near), *ids]))
        id_C = np.array(ids, np.int64)
        cosine_C = (
            dots(self._index.vectors(id_C), query_D)
            if query_D is not None
            else np.full(len(ids), np.nan, np.float32)
        )
        share_C = np.array([by_words.shares.get(at, 0.0) for at in ids], np.float32)
        first_C = np.argsort(-(np.nan_to_num(cosine_C) + WORDS_WEIGHT * share_C), kind="stable")[:most]
        stored = self._passages_of(view, [ids[at] for at in first_C])
        there = [at for at in first_C if ids[at] in stored]
        close = self._closeness([stored[ids[at]].close_vectors for at in there], query_D)
        found = []
        for at, (near_S, common) in zip(there, close, strict=True):
            one = stored[ids[at]]
            found.append(
                Candidate(
                    id=ids[at],
                    passage=one.passage,
                    scan_cosine=float(cosine_C[at]),
                    close_cosines_S=near_S,
                    words_share=float(share_C[at]),
                    bm25_rank=by_words.ranks.get(ids[at]),
                    commonness=common if one.passage.question else 0.0,
                )
            )
        return found

    def _closeness(self, packed: list[bytes], query_D: Floats | None) -> list[tuple[list[float], float]]:
        """Cosines of each passage's close vectors with the question, and the commonness of its first one."""
        if query_D is None or not packed:
            return [([], 0.0)] * len(packed)
        dim, mean_D = self._index.dim, self._index.mean_D
        with _told_as_damage():
            rows = unpack_rows(b"".join(packed), dim)
        near = dots(
            rows, query_D
        ).tolist()  # a few numbers a passage, where numpy's own calls would be the cost
        common = (dots(rows, mean_D) - dots(mean_D[None], mean_D)).tolist()
        ends = list(accumulate(rows_in(one, dim) for one in packed))
        return [
            (near[start:end], common[start] if start < end else 0.0)
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
