"""The real promtool accepts our metrics, and the real Prometheus scrapes and computes on them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from server.errors import DeadlineExceeded
from tests.server.serving import Serving, post, serving

PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
ASK = {"history": ["sku-1"], "k": 3}


async def traffic(server: Serving) -> None:
    """An answer, a refusal and a fallback, so that every family has a series."""
    connection = await server.connect()
    for body in (ASK, {"history": ["sku-1"], "k": 0}, {"history": ["unknown"]}):
        connection.send(post(body))
        await connection.answer()
    server.fake.fault = DeadlineExceeded("late", stage="queue")
    connection.send(post(ASK))
    await connection.answer()
    server.fake.fault = None
    connection.close()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian package prometheus)")
async def test_promtool_finds_nothing_to_complain_about() -> None:
    """Names, types, units and help of all families are as Prometheus wants them."""
    assert PROMTOOL is not None
    async with serving() as server:
        await traffic(server)
        async with httpx.AsyncClient() as client:
            exposition = (await client.get(f"{server.metrics_url}/metrics")).content
    checker = await asyncio.create_subprocess_exec(
        PROMTOOL, "check", "metrics", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )  # fmt: skip

    said, _ = await checker.communicate(exposition)

    assert checker.returncode == 0, said.decode()
    assert b"vitrine_request_duration_seconds_bucket" in exposition


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian package prometheus)")
async def test_prometheus_scrapes_us_and_computes_a_quantile(tmp_path: Path) -> None:
    """After one scrape an SRE's query for the p99 of answered requests has a value."""
    query = 'histogram_quantile(0.99, sum by (le) (vitrine_request_duration_seconds_bucket{outcome="ok"}))'
    async with serving() as server:
        await traffic(server)
        async with scraped_by_prometheus(server, tmp_path) as api, httpx.AsyncClient() as client:
            while True:  # until the first scrape is in; the block's own time limit ends it
                with contextlib.suppress(
                    httpx.TransportError, ValueError
                ):  # while it starts, it says so in plain text
                    found = (await client.get(f"{api}/api/v1/query", params={"query": query})).json()
                    if found["status"] == "success" and found["data"]["result"]:
                        break
                await asyncio.sleep(0.05)
            up = (await client.get(f"{api}/api/v1/query", params={"query": "up"})).json()

    assert 0 < float(found["data"]["result"][0]["value"][1]) < 30
    assert up["data"]["result"][0]["value"][1] == "1"


@contextlib.asynccontextmanager
async def scraped_by_prometheus(server: Serving, folder: Path) -> AsyncIterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    target = server.metrics_url.removeprefix("http://")
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"  - job_name: vitrine\n    static_configs: [{{targets: ['{target}']}}]\n"
    )
    assert PROMETHEUS is not None
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
