"""The HTTP port: uvicorn with our protocol class, on a socket of ours, without its signal handling.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from server.http_api.connections import Connections
from server.http_api.protocol import VitrineProtocol
from server.http_api.recommend import Endpoint

BACKLOG = 2048  # a flash sale opens many connections at once; those beyond it wait for a retransmission


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals are the application's


class HttpServer:
    """Listens from ``start`` to ``stop``.

    Attributes:
        port: the port it listens on, once started.
    """

    def __init__(
        self,
        app: Any,
        endpoints: Sequence[Endpoint],
        connections: Connections,
        *,
        host: str,
        port: int,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._protocol = VitrineProtocol.bound(list(endpoints), connections, max_body_bytes)
        self._connections = connections
        self._host = host
        self.port = port

    async def start(self, tls: tuple[Path, Path] | None = None) -> None:
        """Accept connections.

        Raises:
            OSError: the port cannot be had, or the TLS files cannot be read.
        """
        config = uvicorn.Config(
            self._app,
            http=self._protocol,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=1,
            ssl_certfile=str(tls[0]) if tls else None,
            ssl_keyfile=str(tls[1]) if tls else None,
        )
        config.load()
        listener = _listen(self._host, self.port)
        self.port = listener.getsockname()[1]
        self._uvicorn = _Uvicorn(config)
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[listener]), name="http")
        while not self._uvicorn.started:
            if self._serving.done():
                self._serving.result()
                raise OSError("the HTTP server ended while starting; its log says why")
            await asyncio.sleep(0.001)
        self._connections.start()

    async def stop(self) -> None:
        """Close the port and every connection; answers that are being written get a second for it."""
        self._uvicorn.should_exit = True
        await self._serving
        self._connections.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}") from error
