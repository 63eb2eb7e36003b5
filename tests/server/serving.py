"""A whole server with a fake recommender on ephemeral ports, and raw sockets to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from server.app import Application
from server.settings import Settings
from tests.server.fake_recommender import FakeRecommender

LIMIT_S = 20.0  # every test here ends within this, whatever happens


class Serving:
    """One running server."""

    def __init__(self, app: Application, fake: FakeRecommender) -> None:
        self.app = app
        self.fake = fake
        self.url = f"http://127.0.0.1:{app.http_port}"
        self.metrics_url = f"http://127.0.0.1:{app.metrics_port}"
        self.grpc_target = f"127.0.0.1:{app.grpc_port}"
        self.stopped = False

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.app.http_port)
        return Connection(reader, writer)

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.app.stop()


class Connection:
    """A raw HTTP/1.1 client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response: status, headers in lower case, body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, body

    async def closed(self) -> bool:
        """Wait for the server's end of the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.writer.close()


def post(body: object, path: str = "/v1/recommendations", *headers: str) -> bytes:
    """A request as bytes; a ``bytes`` body is sent as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: shop", f"content-length: {len(data)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + data


@contextlib.asynccontextmanager
async def serving(fake: FakeRecommender | None = None, **overrides: Any) -> AsyncIterator[Serving]:
    """Run a server until the block ends."""
    fake = fake or FakeRecommender()
    ports = {
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
        "drain_s": 2.0,
        "grpc": False,
        "text_engine": "off",
        "encoder": False,
    }
    settings = Settings.from_env({}, **{**ports, **overrides})
    app = Application(settings, lambda *_: fake)
    await app.start()
    running = Serving(app, fake)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield running
    finally:
        fake.release()
        await running.stop()


async def until(condition: Any) -> None:
    """Let the loop turn until something is true; a test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.001)
