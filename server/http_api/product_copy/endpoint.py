"""``POST /v1/product-copy``: from a request to a whole answer, or to an event for each part once it is checked.

The order is that of every product: key (``site.py``), permit, and only then a look at the body. The status of a stream is
not sent before its first part stands, so what fails before has a status of its own; what fails later ends it with an
``error`` event and without ``done``. However it ends, the ``finally`` gives the permit back and records one outcome.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

from server.copy_domain import CopyRequest
from server.copy_service import CopyCall, CopyService
from server.copy_telemetry import HIT
from server.errors import ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.calls import JSON, SSE, Header, HttpCall, ReaderLeft, sse
from server.http_api.product_copy.answers import (
    copy_out,
    end_out,
    event_bytes,
    server_timing,
)
from server.http_api.product_copy.shapes import decode_copy
from server.http_api.schemas import encode
from server.keys import Keys
from server.logs import AccessLog
from server.service import NO_TIER, Ticket
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.http")

CANCELLED = "cancelled"


class CopyEndpoint:
    """The path, as an ASGI application."""

    paths = (("/v1/product-copy", ("POST",)),)
    name = "product_copy"

    def __init__(self, service: CopyService, access: AccessLog, keys: Keys, *, max_body_bytes: int) -> None:
        self._service = service
        self._access = access
        self._keys = keys
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        service = self._service
        call = HttpCall(scope, receive, send)
        admitted = service.admit(self.name, "http")
        if isinstance(admitted, ServeError):
            self._access.ended(self.name, admitted.code.value, call, 0.0)
            await call.fail(admitted)
            return
        outcome, tier = CANCELLED, NO_TIER
        try:
            tier = await self._run(call, admitted)
            outcome = OK
        except ReaderLeft:
            service.telemetry.cancelled("text")
        except ServeError as error:
            outcome = error.code.value
            await call.fail(error)
        except Exception as error:
            log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            fault = service.as_serve_error(error)
            outcome = fault.code.value
            await call.fail(fault)
        finally:
            self._access.ended(self.name, outcome, call, admitted.end(outcome, tier))

    async def _run(self, call: HttpCall, ticket: Ticket) -> str:
        request, stream = decode_copy(await call.body(self._max_body_bytes))
        if request.deadline_s is None:
            request = replace(request, deadline_s=call.deadline_s())
        headers = call.headers
        tenant = self._keys.caller(headers.get(b"authorization"), headers.get(b"x-api-key"))
        async with call.watched():
            asked = self._service.open(ticket, request, tenant=tenant)
            try:
                if stream:
                    return await self._stream(call, ticket, asked, request)
                return await self._whole(call, ticket, asked, request)
            finally:
                asked.close()

    async def _whole(self, call: HttpCall, ticket: Ticket, asked: CopyCall, request: CopyRequest) -> str:
        answer = await asked.answer()
        total_s = self._service.clock() - ticket.arrived_s
        out = copy_out(request, answer, total_s, cached=asked.provenance.outcome == HIT)
        timing = (b"server-timing", server_timing(out.timings_ms))
        await call.reply(200, encode(out), JSON, timing, *_cache_headers(asked))
        return answer.served_by.value

    async def _stream(self, call: HttpCall, ticket: Ticket, asked: CopyCall, request: CopyRequest) -> str:
        headers = (*SSE, *_cache_headers(asked))
        async for event in asked.events():
            await call.write(event_bytes(request, event), *headers)
        answer = await asked.answer()
        total_s = self._service.clock() - ticket.arrived_s
        end = end_out(answer, total_s, cached=asked.provenance.outcome == HIT)
        await call.write(sse("done", end))
        await call.finish()
        return answer.served_by.value


def _cache_headers(asked: CopyCall) -> tuple[Header, ...]:
    status = asked.provenance.cache_status(stored=asked.stored)
    headers: tuple[Header, ...] = ((b"cache-status", status.encode()),)
    if asked.provenance.outcome == HIT:
        headers += ((b"age", b"%d" % int(asked.provenance.age_s)),)
    return headers
