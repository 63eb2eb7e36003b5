"""Bulk work itself: some lines at once, their results written in the order of the lines, each exactly once.

A line is tried again for as long as the engine is only busy, and a few times when it fails; then the template answers,
because a catalogue must come to its end. A line that cannot be asked for is a reject with its reason. Whatever is
interrupted is simply not written, and done again the next time.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from server.bulk.ledger import Ledger
from server.bulk.lines import Asked, Line, count_lines, read_asked, read_lines
from server.bulk.progress import Progress, Standing
from server.copy_domain import CopyAnswer, CopyRequest
from server.errors import InvalidRequest, Overloaded, ServeError
from server.http_api.product_copy.answers import CopyOut, copy_out
from server.http_api.product_copy.shapes import AskedIn
from server.http_api.status import error_detail

log = logging.getLogger("vitrine.bulk")

TRIES = 5  # of a line whose engine fails; being busy is no failure
RETRY_S, RETRY_MOST_S = 0.2, 10.0
SYNC_EVERY_S = 2.0
_SHOWN_BYTES = 500
_encode = msgspec.json.Encoder().encode


class Writer(Protocol):
    """Writes one piece of copy."""

    def __call__(self, request: CopyRequest, *, patient: bool) -> Awaitable[CopyAnswer]:
        """With ``patient``, raise what will pass; without, answer from the template."""
        ...


class Entry(msgspec.Struct):
    """A line of the results: which input it is of, and the answer as the API gives it."""

    line: int
    id: str
    input: str
    copy: CopyOut


class Reason(msgspec.Struct):
    """Why a line has no answer."""

    code: str
    message: str
    field: str | None
    limit: str | None


class Reject(msgspec.Struct):
    """A line of the rejects."""

    line: int
    id: str
    input: str
    reason: Reason
    given: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkFiles:
    """Where from and where to."""

    source: Path
    out: Path
    rejects: Path


class BulkRun:
    """One run over one input.

    Attributes:
        at_once: lines on their way at the same time.
    """

    def __init__(
        self,
        files: BulkFiles,
        shared: AskedIn,
        write: Writer,
        *,
        at_once: int = 8,
        pace: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Bind; nothing is opened yet.

        Args:
            files: the input and the results.
            shared: what is asked for where a line says nothing.
            write: who writes.
            at_once: lines on their way at the same time (>= 1).
            pace: awaited before each line, to yield to others.
            clock: monotonic seconds.
            sleep: waits that many of them.
        """
        self._files = files
        self._shared = shared
        self._write = write
        self.at_once = at_once
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._progress: Progress | None = None

    def standing(self) -> Standing | None:
        """How far it is; None before it has begun."""
        return None if self._progress is None else self._progress.standing(self._clock())

    async def run(self) -> Standing:
        """Do what is not done; cancel to interrupt.

        Raises:
            BulkError: another process writes there, or the results are of another input.
            OSError: a file cannot be read or written.
        """
        files = self._files
        ledger = await asyncio.to_thread(Ledger, files.out, files.rejects)
        try:
            total = await asyncio.to_thread(count_lines, files.source)
            lines = ledger.skip_done(read_lines(files.source))
            first = await asyncio.to_thread(next, lines, None)
            self._progress = Progress(total, ledger.done, ledger.rejected, self._clock())
            if first is not None:
                await self._all(first, lines, ledger, self._progress)
            await asyncio.to_thread(ledger.sync)
            return self._progress.standing(self._clock())
        finally:
            ledger.close()

    async def _all(self, first: Line, lines: Iterator[Line], ledger: Ledger, progress: Progress) -> None:
        tasks: deque[asyncio.Task[tuple[bool, bytes]]] = deque()
        synced_s = self._clock()
        line: Line | None = first
        try:
            while line is not None or tasks:
                while line is not None and len(tasks) < self.at_once:
                    if self._pace is not None:
                        await self._pace()
                    tasks.append(asyncio.create_task(self._one(line)))
                    line = next(lines, None)
                good, entry = await tasks[0]
                tasks.popleft()
                (ledger.answer if good else ledger.reject)(entry)
                now_s = self._clock()
                progress.line_done(now_s, rejected=not good)
                if now_s - synced_s > SYNC_EVERY_S:
                    await asyncio.to_thread(ledger.sync)
                    synced_s = self._clock()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, line: Line) -> tuple[bool, bytes]:
        asked: Asked | None = None
        try:
            asked = read_asked(line, self._shared)
            began_s = self._clock()
            answer = await self._patiently(asked.request)
            out = copy_out(asked.request, answer, self._clock() - began_s, cached=False)
            return True, _encode(Entry(line.number, asked.id, line.digest, out))
        except ServeError as error:
            reason = error
        except Exception as error:
            log.error("line %d of bulk work failed", line.number, exc_info=error)
            reason = ServeError("the server failed on this line; its log says more")
        detail = error_detail(reason, "")
        given = line.data[:_SHOWN_BYTES].decode("utf-8", "replace")
        reject = Reject(
            line.number,
            asked.id if asked is not None else str(line.number),
            line.digest,
            Reason(detail.code, detail.message, detail.field, detail.limit),
            given,
        )
        return False, _encode(reject)

    async def _patiently(self, request: CopyRequest) -> CopyAnswer:
        failures = 0
        while failures < TRIES:
            try:
                return await self._write(request, patient=True)
            except InvalidRequest:
                raise
            except Overloaded as error:  # it says itself when there will be room
                await self._sleep(min(max(RETRY_S, error.retry_after_s or 0.0), RETRY_MOST_S))
            except ServeError as error:
                wait_s = max(RETRY_S * 2**failures, error.retry_after_s or 0.0)
                await self._sleep(min(wait_s, RETRY_MOST_S))
                failures += 1
        return await self._write(request, patient=False)
