"""Bulk work that a server does for its callers: a folder a job, one job at a time, taken up again after any stop.

A job's folder appears at once and whole (``in.jsonl``, ``job.json``), by a rename; from then on it will be done, whatever
stops the server. Its results are the ledger's files, so a restart goes on where it was. Work goes on only while nobody
live is waiting: before each line it looks, and waits, but not forever.

Units: seconds, and bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from server.bulk.ledger import BulkError
from server.bulk.lines import count_lines
from server.bulk.progress import Standing
from server.bulk.runner import BulkFiles, BulkRun, Writer
from server.errors import InvalidRequest, NotFound, NotReady, Overloaded
from server.http_api.product_copy.shapes import AskedIn
from server.request_ids import new_request_id

log = logging.getLogger("vitrine.bulk")

QUEUED, RUNNING, DONE, CANCELLED, FAILED = STATES = ("queued", "running", "done", "cancelled", "failed")
YIELD_STEP_S, YIELD_MOST_S = 0.02, 1.0  # bulk work goes on at this pace at least, however busy it is
_WRITE_BYTES = 1 << 20


class JobFile(msgspec.Struct):
    """``job.json``: what a job was told, and how it ended."""

    id: str
    created_s: float
    tenant: str
    shared: AskedIn
    total: int
    state: str = QUEUED
    done: int = 0
    rejected: int = 0
    reason: str = ""
    ended_s: float | None = None


class Job:
    """A job in its folder."""

    def __init__(self, folder: Path, file: JobFile) -> None:
        self.folder = folder
        self.file = file
        self.run: BulkRun | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def files(self) -> BulkFiles:
        """Where its lines and results are."""
        folder = self.folder
        return BulkFiles(
            source=folder / "in.jsonl", out=folder / "out.jsonl", rejects=folder / "rejects.jsonl"
        )

    def standing(self) -> Standing:
        """How far it is."""
        running = self.run.standing() if self.run is not None else None
        if running is not None and self.file.state == RUNNING:
            return running
        eta_s = 0.0 if self.file.ended_s is not None else None
        return Standing(self.file.total, self.file.done, self.file.rejected, 0.0, eta_s)

    def save(self) -> None:
        """Write ``job.json``, all or nothing."""
        aside = self.folder / "job.json.new"
        aside.write_bytes(msgspec.json.encode(self.file))
        aside.replace(self.folder / "job.json")


class CopyJobs:
    """All jobs of a server."""

    def __init__(
        self,
        folder: Path,
        write: Callable[[str], Writer],
        busy: Callable[[], bool],
        *,
        at_once: int,
        most_jobs: int,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Bind; nothing is read or made before ``start``.

        Args:
            folder: of all jobs; made with the first.
            write: gives the writer for a tenant.
            busy: whether anyone live is waiting.
            at_once: lines on their way at the same time.
            most_jobs: that are kept; the oldest ended ones go, and while none has ended, new ones are refused.
            clock: Unix seconds.
            sleep: waits that many seconds.
        """
        self._folder = folder
        self._write = write
        self._busy = busy
        self._at_once = at_once
        self._most_jobs = most_jobs
        self._clock = clock
        self._sleep = sleep
        self._jobs: dict[str, Job] = {}
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Read what is there, and go on with it."""
        self._jobs = await asyncio.to_thread(_found, self._folder)
        self._worker = asyncio.create_task(self._work(), name="copy jobs")

    async def stop(self) -> None:
        """Interrupt what is running; it is gone on with after the next start."""
        self._stopping = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def create(self, pieces: AsyncIterator[bytes], shared: AskedIn, tenant: str) -> Job:
        """Take on a job; it is kept when this returns.

        Args:
            pieces: its lines.
            shared: what is asked for where a line says nothing.
            tenant: whose it is.

        Raises:
            InvalidRequest: it has no lines.
            Overloaded: there are too many jobs that have not ended.
            NotReady: the server is stopping, or the folder cannot be written.
        """
        if self._stopping or self._worker is None:
            raise NotReady("the server takes no jobs now")
        self._make_room()
        job_id = f"job-{new_request_id()}"
        aside = self._folder / f".{job_id}"
        try:
            try:
                await asyncio.to_thread(aside.mkdir, parents=True)
                await _spool(aside / "in.jsonl", pieces)
                total = await asyncio.to_thread(count_lines, aside / "in.jsonl")
            except OSError as error:
                log.error("a job cannot be kept", exc_info=error)
                raise NotReady("jobs cannot be kept here now; the server's log says why") from error
            if total == 0:
                raise InvalidRequest("the job has no lines; send one product a line", field="body")
            file = JobFile(id=job_id, created_s=self._clock(), tenant=tenant, shared=shared, total=total)
            job = Job(aside, file)
            job.save()
            job.folder = aside.rename(self._folder / job_id)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        self._jobs[job_id] = job
        self._wake.set()
        return job

    def get(self, job_id: str, tenant: str) -> Job:
        """A job of a tenant.

        Raises:
            NotFound: there is none of that name, or it is another's.
        """
        job = self._jobs.get(job_id)
        if job is None or job.file.tenant != tenant:
            raise NotFound(f"there is no job {job_id[:100]!r} here", field="id")
        return job

    def all(self, tenant: str) -> Sequence[Job]:
        """A tenant's jobs, newest first."""
        mine = [job for job in self._jobs.values() if job.file.tenant == tenant]
        return sorted(mine, key=lambda job: job.file.created_s, reverse=True)

    def cancel(self, job: Job) -> None:
        """Stop a job; its results so far stay."""
        if job.file.ended_s is None:
            self._end(job, CANCELLED)
            if job.task is not None:
                job.task.cancel()

    async def _work(self) -> None:
        while True:
            waiting = [job for job in self._jobs.values() if job.file.ended_s is None]
            if not waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            job = min(waiting, key=lambda job: job.file.created_s)
            job.task = asyncio.create_task(self._one(job), name=job.file.id)
            try:
                await asyncio.wait([job.task])
            finally:
                job.task.cancel()
                await asyncio.gather(job.task, return_exceptions=True)

    async def _one(self, job: Job) -> None:
        write = self._write(job.file.tenant)
        job.run = BulkRun(job.files, job.file.shared, write, at_once=self._at_once, pace=self._pace)
        job.file.state = RUNNING
        try:
            await job.run.run()
            self._end(job, DONE)
        except (BulkError, OSError) as error:
            log.error("job %s cannot go on", job.file.id, exc_info=error)
            self._end(job, FAILED, str(error) if isinstance(error, BulkError) else "its files cannot be used")
        except Exception as error:
            log.error("job %s failed", job.file.id, exc_info=error)
            self._end(job, FAILED, "the server failed on this job; its log says more")

    def _end(self, job: Job, state: str, reason: str = "") -> None:
        standing = job.standing()
        job.file.done, job.file.rejected = standing.done, standing.rejected
        job.file.state, job.file.reason, job.file.ended_s = state, reason, self._clock()
        with contextlib.suppress(OSError):
            job.save()

    async def _pace(self) -> None:
        waited_s = 0.0
        while self._busy() and waited_s < YIELD_MOST_S:
            await self._sleep(YIELD_STEP_S)
            waited_s += YIELD_STEP_S
        await self._sleep(0)

    def _make_room(self) -> None:
        if len(self._jobs) < self._most_jobs:
            return
        ended = [job for job in self._jobs.values() if job.file.ended_s is not None]
        if not ended:
            raise Overloaded("jobs", len(self._jobs), self._most_jobs, 30.0)
        oldest = min(ended, key=lambda job: job.file.ended_s or 0.0)
        del self._jobs[oldest.file.id]
        shutil.rmtree(oldest.folder, ignore_errors=True)


async def _spool(path: Path, pieces: AsyncIterator[bytes]) -> None:
    with path.open("wb") as file:
        held = bytearray()
        async for piece in pieces:
            held += piece
            if len(held) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(held))
                held.clear()
        file.write(held)


def _found(folder: Path) -> dict[str, Job]:
    jobs: dict[str, Job] = {}
    if not folder.is_dir():
        return jobs
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".job-"):  # its request was never answered
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            file = msgspec.json.decode((path / "job.json").read_bytes(), type=JobFile)
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s is not a job and is left alone: %s", path, error)
            continue
        if file.state == RUNNING:
            file.state = QUEUED
        jobs[file.id] = Job(path, file)
    return jobs
