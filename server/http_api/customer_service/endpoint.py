"""``POST /v1/customer-service``: from a request to a whole answer, or to events for its intent, sources and parts.

The order is that of every product: key (``site.py``), permit, and only then a look at the body. The status of a stream is
not sent before something stands, so what fails before has a status of its own; what fails later ends it with an ``error``
event and without ``done``. However it ends, the ``finally`` gives the permit back and records one outcome. What a shopper
wrote is in no log.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

from server.errors import ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.calls import JSON, SSE, HttpCall, ReaderLeft, sse
from server.http_api.customer_service.answers import end_out, event_bytes, server_timing, support_out
from server.http_api.customer_service.shapes import decode_support
from server.http_api.schemas import encode
from server.keys import Keys
from server.logs import AccessLog
from server.service import NO_TIER, Ticket
from server.support_service import SupportCall, SupportService
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.http")

CANCELLED = "cancelled"
PATH = "/v1/customer-service"


class SupportEndpoint:
    """The path, as an ASGI application."""

    paths = ((PATH, ("POST",)),)
    name = "customer_service"

    def __init__(
        self, service: SupportService, access: AccessLog, keys: Keys, *, max_body_bytes: int
    ) -> None:
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
            service.telemetry.cancelled("support")
        except ServeError as error:
            outcome = error.code.value
            await call.fail(error)
        except Exception as error:
            log.error("request failed", extra={"request_id": call.request_id, "reason": type(error).__name__})
            fault = service.as_serve_error(error)
            outcome = fault.code.value
            await call.fail(fault)
        finally:
            self._access.ended(self.name, outcome, call, admitted.end(outcome, tier))

    async def _run(self, call: HttpCall, ticket: Ticket) -> str:
        request, stream = decode_support(await call.body(self._max_body_bytes))
        if request.deadline_s is None:
            request = replace(request, deadline_s=call.deadline_s())
        headers = call.headers
        tenant = self._keys.caller(headers.get(b"authorization"), headers.get(b"x-api-key"))
        async with call.watched():
            asked = self._service.open(ticket, request, tenant=tenant)
            try:
                return await (self._stream if stream else self._whole)(call, ticket, asked)
            finally:
                asked.close()

    async def _whole(self, call: HttpCall, ticket: Ticket, asked: SupportCall) -> str:
        answer = await asked.answer()
        out = support_out(answer, self._service.clock() - ticket.arrived_s)
        timing = (b"server-timing", server_timing(out.timings_ms))
        await call.reply(200, encode(out), JSON, timing)
        return answer.served_by.value

    async def _stream(self, call: HttpCall, ticket: Ticket, asked: SupportCall) -> str:
        async for event in asked.events():
            await call.write(event_bytes(event), *SSE)
        answer = await asked.answer()
        await call.write(sse("done", end_out(answer, self._service.clock() - ticket.arrived_s)))
        await call.finish()
        return answer.served_by.value
