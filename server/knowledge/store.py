"""The knowledge base of a process: documents in and out, each change durable before it is acknowledged.

One thread writes, in the order in which changes to a document came; others read.  A document is cut and encoded before
its transaction, so that the file is held for milliseconds only.  Where the encoder is away, or a document is long, words
find it at once and its vectors follow, from a task that goes on after a restart where it stood: what has no vector yet is
written in the file.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from server.errors import NotReady, ServeError
from server.knowledge.cutting import cut
from server.knowledge.document_limits import DocumentLimits, check_id
from server.knowledge.file_writer import FileWriter, PassageVectors, VersionExpected, Written
from server.knowledge.passage_encoding import encode_passages, encoder_name
from server.knowledge.reader import KeptDocument, SqliteReader, SqliteView
from server.knowledge_domain import Document, Passage
from server.sentence_encoder import SentenceEncoder

log = logging.getLogger("vitrine.knowledge")
T = TypeVar("T")

ENCODED_AT_ONCE = 32  # passages of a document that its acknowledgment waits for; of more, the vectors follow
FOLLOW_AT_ONCE = 16  # passages of a transaction of the vectors that follow
ENCODE_WAIT_S = 0.5  # longest wait for the encoder before words alone are acknowledged
RETRY_S = 2.0  # how often an encoder that is away is asked again
LOOK_S = 30.0  # how often another encoder version, or another process's documents, are looked for


class KnowledgeStore:
    """Documents of one knowledge file; for the event-loop thread.

    Args:
        path: of the file; made where it is not there.
        encoder: None: words alone.
        limits: of a document.
        now_unix_s: clock of ``changed_unix_s``.
        sleep: for tests.
    """

    def __init__(
        self,
        path: Path,
        encoder: SentenceEncoder | None,
        limits: DocumentLimits | None = None,
        *,
        now_unix_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = path
        self.limits = limits or DocumentLimits()
        self._encoder = encoder
        self._now_unix_s = now_unix_s
        self._sleep = sleep
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="knowledge write")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="knowledge read")
        self._cut_thread = ThreadPoolExecutor(1, thread_name_prefix="knowledge cut")
        self._writer: FileWriter | None = None
        self._reader: SqliteReader | None = None
        self._turns: dict[str, _Turn] = {}
        self._more = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._closed = False
        self._fault = ""
        self._counts_by = ("", 0)

    def open_reader(self) -> SqliteReader:
        """Open the file for a search; see ``KnowledgeSearch``."""
        return SqliteReader(self.path)

    async def start(self, *, follow: bool = True) -> None:
        """Open the file.

        Args:
            follow: encode what has no vector yet, in the background.

        Raises:
            KnowledgeFault: it cannot be used; a later call tries again.
        """
        try:
            await self._write(lambda writer: None)
        finally:
            if follow and self._encoder is not None and self._following is None:
                self._following = asyncio.create_task(self._follow(), name="knowledge vectors")

    async def close(self) -> None:
        """End the change that runs, and close the file; what waits for vectors waits in the file."""
        if self._closed:
            return
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        self._closed = True
        loop = asyncio.get_running_loop()
        for thread, file in ((self._write_thread, self._writer), (self._read_thread, self._reader)):
            if file is not None:
                await loop.run_in_executor(thread, file.close)
            thread.shutdown(wait=False)
        self._cut_thread.shutdown(wait=False)

    def ready(self) -> tuple[bool, str]:
        """Whether documents could be written last time, and a sentence if not."""
        return not self._fault, self._fault

    async def put(self, document: Document, *, expected_version: int | None = None) -> Written:
        """Put a document in; when this returns, it is on the disk, and the next search sees all of it.

        Putting in the same again changes nothing, not even the epoch.

        Args:
            document: see there.
            expected_version: see ``VersionExpected``; None: whatever is there.

        Raises:
            InvalidRequest: the document, or what was expected, is wrong.
            KnowledgeFault: the file cannot be written; nothing has changed.
        """
        self.limits.check(document)
        async with self._turn(document.id):
            made = await self._on(self._cut_thread, lambda: cut(document))
            vectors: list[PassageVectors] | None = None
            name = ""
            if self._encoder is not None and len(made.passages) <= ENCODED_AT_ONCE:
                try:
                    async with asyncio.timeout(ENCODE_WAIT_S):
                        name, dim = self._encoder_now(self._encoder)
                        vectors = await encode_passages(self._encoder, made.passages)
                    if self._encoder_now(self._encoder) != (name, dim):
                        vectors = None  # its next version came meanwhile: these may be of either
                    else:
                        await self._count_by(name, dim)
                except TimeoutError:
                    vectors = None
                except ServeError as error:
                    if self._fault_of_file(error):
                        raise
                    vectors = None
            expected = _expected(document.id, expected_version)
            written = await self._write(lambda writer: writer.put(document, made, vectors, name, expected))
        if vectors is None:
            self._more.set()
        return written

    async def delete(self, document_id: str, *, expected_version: int | None = None) -> Written:
        """Take a document away; ``changed`` is False where it was not there. Raises what ``put`` does."""
        check_id(document_id)
        async with self._turn(document_id):
            expected = _expected(document_id, expected_version)
            return await self._write(lambda writer: writer.delete(document_id, expected))

    async def get(self, document_id: str) -> tuple[KeptDocument, Document] | None:
        """A document as it was put in; None: it is not there."""
        return await self._read(lambda view: view.document(document_id))

    async def passages_of(self, document_id: str) -> list[Passage]:
        """A document's passages, in order."""
        return await self._read(lambda view: view.passages_of(document_id))

    async def listed(self, after: str = "", limit: int = 100) -> tuple[int, list[KeptDocument]]:
        """The epoch, and documents of it in the order of their ids, those after one."""
        return await self._read(lambda view: (view.epoch, view.listed(after, limit)))

    async def standing(self) -> tuple[int, int, int, int]:
        """Epoch, documents, passages, and passages that wait for a vector."""
        return await self._read(lambda view: (view.epoch, view.documents(), view.count(), view.waiting()))

    async def check(self) -> list[str]:
        """Look for damage; sentences, none where all is well."""
        return await self._write(lambda writer: writer.check())

    async def encode_waiting(self) -> AsyncIterator[tuple[int, int]]:
        """Give vectors to all passages that have none of the present encoder, with progress: done, and still waiting.

        Raises:
            ServeError: the encoder is away, or the file cannot be written; what is done stays done.
        """
        encoder = self._encoder
        if encoder is None:
            return
        done = 0
        while True:
            by = self._encoder_now(encoder)
            await self._count_by(*by)
            batch = await self._write(lambda writer: writer.without_vectors(FOLLOW_AT_ONCE))
            if not batch:
                return
            vectors = await encode_passages(encoder, [passage for _, passage in batch])
            if self._encoder_now(encoder) != by:
                continue  # its next version came meanwhile: these may be of either
            done += await self._give(by[0], [(at, own) for (at, _), own in zip(batch, vectors, strict=True)])
            yield done, await self._read(lambda view: view.waiting())

    async def _follow(self) -> None:
        told = ""
        while True:
            wait_s = LOOK_S
            self._more.clear()
            self._counts_by = ("", 0)  # another process may have said otherwise
            try:
                last = 0
                async for done, waiting in self.encode_waiting():
                    if done // 1000 != last // 1000 or not waiting:
                        log.info("encoding passages", extra={"done": done, "waiting": waiting})
                    last = done
                told = ""
            except ServeError as error:
                wait_s = RETRY_S
                if error.message != told:
                    told = error.message
                    log.warning("pages wait for their vectors", extra={"reason": told})
            except (
                Exception
            ) as error:  # a task that ends in silence would leave pages without vectors for ever
                log.error("encoding passages failed", exc_info=error)
            if wait_s == RETRY_S:
                await self._sleep(RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._more.wait()

    @staticmethod
    def _encoder_now(encoder: SentenceEncoder) -> tuple[str, int]:
        info = encoder.info()
        return encoder_name(info), info.dim

    async def _count_by(self, name: str, dim: int) -> None:
        if self._counts_by != (name, dim):
            await self._write(lambda writer: writer.use_encoder(name, dim))
            self._counts_by = (name, dim)

    async def _give(self, name: str, given: list[tuple[int, PassageVectors]]) -> int:
        return await self._write(lambda writer: writer.give_vectors(name, given))

    @contextlib.asynccontextmanager
    async def _turn(self, document_id: str) -> AsyncIterator[None]:
        """One change of a document at a time, in the order in which they came."""
        turn = self._turns.setdefault(document_id, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[document_id]

    def _fault_of_file(self, error: ServeError) -> bool:
        return bool(self._fault) and error.message == self._fault

    async def _write(self, work: Callable[[FileWriter], T]) -> T:
        def run() -> T:
            try:
                if self._writer is None:
                    self._writer = FileWriter(self.path, self._now_unix_s)
                done = work(self._writer)
            except NotReady as error:
                self._fault = error.message
                if self._writer is not None:
                    self._writer.close()
                    self._writer = None  # opened anew by the next change: the file may have been put in order
                raise
            self._fault = ""
            return done

        # A change that has begun is ended and acknowledged, or not, whoever leaves.
        return await asyncio.shield(self._on(self._write_thread, run))

    async def _read(self, work: Callable[[SqliteView], T]) -> T:
        def run() -> T:
            try:
                if self._reader is None:
                    self._reader = SqliteReader(self.path)
                with self._reader.view() as view:
                    return work(view)
            except NotReady:
                if self._reader is not None:
                    self._reader.close()
                    self._reader = None
                raise

        return await self._on(self._read_thread, run)

    async def _on(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._closed:
            raise NotReady("the knowledge base is closed")
        return await asyncio.get_running_loop().run_in_executor(thread, work)


class _Turn:
    """Who may change a document."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def _expected(document_id: str, version: int | None) -> Callable[[int], None]:
    return (lambda there: None) if version is None else VersionExpected(document_id, version)
