"""Jobs in a process of its own, to be killed: ``python -m tests.server.jobs_process FOLDER LINES``; makes a job if there is none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from server.bulk.jobs import CopyJobs
from server.bulk.runner import Writer
from server.copy_domain import CopyAnswer, CopyRequest
from server.http_api.product_copy.shapes import AskedIn
from server.pipelines.product_copy.pipeline import CopyPipeline
from tests.server.copy_world import PlainRules, PlainTemplates, Scripted


async def main(folder: Path, lines: int) -> None:
    pipeline = CopyPipeline(Scripted(), PlainRules(), PlainTemplates())

    def writer(tenant: str) -> Writer:
        async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
            return await pipeline.write(request, emit=lambda _: None, patient=patient)

        return write

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(lines):
            yield f'{{"id": "sku-{number + 1}", "title": "Kettle {number}"}}\n'.encode()

    jobs = CopyJobs(folder, writer, lambda: False, at_once=4, most_jobs=4)
    await jobs.start()
    if not jobs.all("shop"):
        await jobs.create(pieces(), AskedIn(), "shop")
    print("started", flush=True)
    while jobs.all("shop")[0].file.state not in ("done", "failed"):
        await asyncio.sleep(0.005)
    print(jobs.all("shop")[0].file.state, flush=True)
    await jobs.stop()
    pipeline.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
