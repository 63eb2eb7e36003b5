"""The cold side of the HTTP port: health at once, everything else by FastAPI once that is loaded.

Importing FastAPI takes longer than opening an engine. So the port is ready first, FastAPI is loaded on another thread
right after, and a request that needs it before then waits for it, without holding up anyone else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

from server.errors import ServeError
from server.heartbeat import Heartbeat
from server.http_api.asgi import Receive, Send
from server.http_api.openai.errors import error_body
from server.http_api.schemas import encode
from server.http_api.status import STATUS
from server.keys import Keys
from server.request_ids import new_request_id
from server.service import Service

Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Any]


class Site:
    """The ASGI application that uvicorn is given."""

    def __init__(self, service: Service, heartbeat: Heartbeat, keys: Keys, load: Callable[[], Asgi]) -> None:
        self._service = service
        self._heartbeat = heartbeat
        self._keys = keys
        self._load = load
        self._loading: asyncio.Future[Asgi] | None = None

    def begin_loading(self) -> asyncio.Future[Asgi]:
        """Load FastAPI on another thread, the first time."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        return self._loading

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one cold request."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path in ("/healthz", "/readyz") and method in ("GET", "HEAD"):
            await self._health(path, send)
            return
        headers = dict(scope["headers"])
        try:
            self._keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
        except ServeError as error:
            self._service.telemetry.rejected(error.code.value)
            await send_error(send, error, path)
            return
        app = await asyncio.shield(self.begin_loading())
        await app(scope, receive, send)

    async def _health(self, path: str, send: Send) -> None:
        if path == "/healthz":
            good, detail = health_detail(self._heartbeat)
        else:
            good, detail = ready_detail(self._service)
        await send_json(send, 200 if good else 503, encode(detail))


def health_detail(heartbeat: Heartbeat) -> tuple[bool, dict[str, object]]:
    """The body of ``/healthz``."""
    alive, why = heartbeat.alive()
    return alive, {"alive": alive, "detail": why}


def ready_detail(service: Service) -> tuple[bool, dict[str, object]]:
    """The body of ``/readyz``."""
    ready, reasons = service.ready()
    models = [
        {"name": m.name, "version": m.version, "engine": m.engine, "ready": m.ready} for m in service.models()
    ]
    return ready, {"ready": ready, "reasons": reasons, "models": models}


async def send_json(
    send: Send, status: int, body: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """One JSON answer by ASGI."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(send: Send, error: ServeError, path: str) -> None:
    """The error body by ASGI, in the form that callers of this path expect."""
    request_id = new_request_id()
    extra: tuple[tuple[bytes, bytes], ...] = ((b"x-request-id", request_id.encode()),)
    if STATUS[error.code] == 401:
        extra += ((b"www-authenticate", b"Bearer"),)
    await send_json(send, STATUS[error.code], error_body(path, error, request_id), extra)
