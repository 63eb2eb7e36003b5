"""The other paths of KServe v2: health, metadata, configuration, statistics, the repository.

No FastAPI here: clients of the protocol ask for these before each run, and the answers are a few fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec

from server.errors import MalformedRequest, NotFound, ServeError, shown_as
from server.http_api.asgi import HotAsgi, Receive, Send
from server.http_api.kserve.endpoint import InferEndpoint
from server.http_api.kserve.status import HEALTH, STATUS, error_json
from server.http_api.status import retry_after
from server.keys import Keys
from server.kserve.describe import config_json, index_json, metadata_json, server_json, statistics_json
from server.kserve.model import Models
from server.logs import AccessLog

_MODEL = re.compile(
    r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[0-9]+))?(?:/(?P<what>ready|infer|config|stats))?"
)
_CONTROL = re.compile(r"/v2/repository/models/(?P<name>[^/]+)/(?P<what>load|unload)")
_SMALL_BODY = 64 * 1024


class KServeSite:
    """An ASGI application.

    Args:
        models: what is served.
        live, ready: of the server.
        version: of the server.
        keys: who may call; the paths of ``HEALTH`` need none.
        access: log.
        max_body_bytes: of an infer request.
    """

    def __init__(
        self,
        models: Models,
        live: Callable[[], bool],
        ready: Callable[[], bool],
        *,
        version: str,
        keys: Keys,
        access: AccessLog,
        max_body_bytes: int,
    ) -> None:
        self._models = models
        self._live = live
        self._ready = ready
        self._version = version
        self._keys = keys
        self._access = access
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; whoever calls has checked the key, except for ``HEALTH``."""
        path, method = scope["path"], scope["method"]
        found = _MODEL.fullmatch(path)
        if found is not None and found["what"] == "infer" and method == "POST":
            endpoint = InferEndpoint(
                self._models,
                found["name"],
                self._keys,
                self._access,
                version=found["version"] or "",
                max_body_bytes=self._max_body_bytes,
            )
            await HotAsgi(endpoint, self._max_body_bytes)(scope, receive, send)
            return
        try:
            status, body = await self._answer(path, method, found, receive)
        except ServeError as error:
            await _fail(send, error)
            return
        except Exception as error:
            await _fail(send, shown_as(error))
            return
        await _send(send, status, body)

    async def _answer(
        self, path: str, method: str, found: re.Match[str] | None, receive: Receive
    ) -> tuple[int, bytes]:
        control = _CONTROL.fullmatch(path)
        posts = path == "/v2/repository/index" or control is not None or (found and found["what"] == "infer")
        gets = path in ("/v2", "/v2/", *HEALTH, "/v2/models/stats") or found is not None
        if not posts and not gets:
            raise NotFound("Not Found", field="path")
        if method != ("POST" if posts else "GET"):
            return 405, b'{"error":"Method Not Allowed"}'
        if path in HEALTH:
            well = self._live() if path.endswith("live") else self._ready()
            return (200 if well else 400), b""
        if path in ("/v2", "/v2/"):
            return 200, msgspec.json.encode(server_json(self._version))
        if path == "/v2/models/stats":
            return 200, msgspec.json.encode(statistics_json(self._models.all()))
        if path == "/v2/repository/index":
            return 200, msgspec.json.encode(await self._index(receive))
        if control is not None:
            if control["what"] == "load":
                await self._models.load(control["name"])
            else:
                self._models.unload(control["name"])
            return 200, b""
        assert found is not None
        return self._model(found)

    def _model(self, found: re.Match[str]) -> tuple[int, bytes]:
        name, version, what = found["name"], found["version"] or "", found["what"]
        if what == "ready":
            try:
                model = self._models.find(name, version)
            except NotFound:
                return 400, b'{"error":"Model version not ready"}'
            ready = self._models.state(model)[0] == "READY"
            return (200, b"") if ready else (400, b'{"error":"Model version not ready"}')
        model = self._models.find(name, version)
        if what == "config":
            return 200, msgspec.json.encode(config_json(model))
        if what == "stats":
            return 200, msgspec.json.encode(statistics_json([model]))
        return 200, msgspec.json.encode(metadata_json(model))

    async def _index(self, receive: Receive) -> list[dict[str, str]]:
        body = await _body(receive)
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any]) if body else {}
        except msgspec.MsgspecError as error:
            raise MalformedRequest(
                f"failed to parse the request JSON buffer: {error}", field="body"
            ) from error
        return index_json(self._models, ready_only=asked.get("ready") is True)


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _SMALL_BODY:
            raise MalformedRequest(f"the body is longer than {_SMALL_BODY} bytes", field="body")
    return body


async def _fail(send: Send, error: ServeError) -> None:
    wait = retry_after(error)
    extra = () if wait is None else ((b"retry-after", wait),)
    await _send(send, STATUS[error.code], error_json(error), *extra)


async def _send(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    kind = b"application/json" if body else b"text/plain"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
