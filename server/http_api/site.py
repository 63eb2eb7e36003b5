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
from server.http_api.asgi import Message, Receive, Send
from server.http_api.kserve.status import HEALTH, is_kserve
from server.http_api.openai.errors import error_body
from server.http_api.schemas import encode
from server.http_api.status import STATUS
from server.keys import Keys
from server.request_ids import chosen_request_id, sane_traceparent
from server.service import Service

Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Any]


class Site:
    """The ASGI application that uvicorn is given."""

    def __init__(
        self,
        service: Service,
        heartbeat: Heartbeat,
        keys: Keys,
        load: Callable[[], Asgi],
        kserve: Asgi | None = None,
    ) -> None:
        self._service = service
        self._heartbeat = heartbeat
        self._keys = keys
        self._load = load
        self._kserve = kserve
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
        scope, send = _with_ids(scope, send)
        if path in ("/healthz", "/readyz") and method in ("GET", "HEAD"):
            await self._health(path, send)
            return
        kserve = self._kserve if is_kserve(path.encode("utf-8", "replace")) else None
        if kserve is not None and path in HEALTH:
            await kserve(scope, receive, send)  # probes have no key
            return
        headers = dict(scope["headers"])
        try:
            self._keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
        except ServeError as error:
            self._service.telemetry.rejected(error.code.value)
            await send_error(send, error, path, headers[b"x-request-id"])
            return
        app = kserve if kserve is not None else await asyncio.shield(self.begin_loading())
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
    return ready, {"ready": ready, "reasons": reasons, "degraded": service.degraded(), "models": models}


async def send_json(
    send: Send, status: int, body: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """One JSON answer by ASGI."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(send: Send, error: ServeError, path: str, request_id: bytes) -> None:
    """The error body by ASGI, in the form that callers of this path expect; the header with the id is ``Site``'s."""
    extra = ((b"www-authenticate", b"Bearer"),) if STATUS[error.code] == 401 else ()
    await send_json(send, STATUS[error.code], error_body(path, error, request_id.decode()), extra)


def _with_ids(scope: MutableMapping[str, Any], send: Send) -> tuple[MutableMapping[str, Any], Send]:
    """Choose the request's id once: every application behind finds it in the headers, every answer carries it.

    The caller's trace goes back too, where it is sane. What an application has set itself stays.
    """
    given = dict(scope["headers"])
    request_id = chosen_request_id(given.get(b"x-request-id")).encode()
    others = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
    carried = [(b"x-request-id", request_id)]
    trace = given.get(b"traceparent")
    if trace is not None and sane_traceparent(trace):
        carried.append((b"traceparent", trace))

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            message = {**message, "headers": headers + [pair for pair in carried if pair[0] not in there]}
        await send(message)

    return {**scope, "headers": [*others, carried[0]]}, sending
