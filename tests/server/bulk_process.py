"""Bulk work in a process of its own, to be killed: ``python -m tests.server.bulk_process IN OUT REJECTS``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from server.bulk.runner import BulkFiles, BulkRun
from server.copy_domain import CopyAnswer, CopyRequest
from server.http_api.product_copy.shapes import AskedIn
from server.pipelines.product_copy.pipeline import CopyPipeline
from tests.server.copy_world import PlainRules, PlainTemplates, Scripted


async def main(source: Path, out: Path, rejects: Path) -> None:
    pipeline = CopyPipeline(Scripted(), PlainRules(), PlainTemplates())

    async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
        return await pipeline.write(request, emit=lambda _: None, patient=patient)

    run = BulkRun(BulkFiles(source=source, out=out, rejects=rejects), AskedIn(), write, at_once=4)
    print((await run.run()).sentence())
    pipeline.close()


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:4])))
