"""``vitrine.v1.ProductCopy``: from the bytes of a message to the bytes of an answer or of events, on any transport.

The order is that of every product: permit, and only then a look at the message. Leaving ends the handler, and the handler
lets the copy go; whichever way it ends, one outcome is recorded.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from google.protobuf.message import DecodeError

from server.copy_domain import CopyAnswer, CopyRequest
from server.copy_service import CopyCall, CopyService
from server.copy_telemetry import HIT
from server.errors import MalformedRequest, RequestTooLarge, ServeError
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.calls import Call
from server.grpc_api.copy_messages import copy_end_of, copy_event_of, copy_request_of, copy_response_of
from server.keys import Keys
from server.logs import AccessLog
from server.service import NO_TIER, Ticket
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.grpc")


class ProductCopy:
    """The calls of the service."""

    def __init__(
        self, service: CopyService, access: AccessLog, keys: Keys, *, max_message_bytes: int
    ) -> None:
        self._service = service
        self._access = access
        self._keys = keys
        self._max_message_bytes = max_message_bytes

    async def write(self, raw: bytes, call: Call) -> bytes:
        """All of it at once."""
        with self._answering("product_copy", call) as answering:
            request, asked = answering.open(raw)
            answer = await asked.answer()
            total_s = answering.ends(answer)
            cached = asked.provenance.outcome == HIT
            return copy_response_of(request, answer, total_s, cached=cached).SerializeToString()

    async def write_stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """A part at a time."""
        with self._answering("product_copy", call) as answering:
            request, asked = answering.open(raw)
            async for event in asked.events():
                yield copy_event_of(request, event).SerializeToString()
            answer = await asked.answer()
            total_s = answering.ends(answer)
            end = copy_end_of(answer, total_s, cached=asked.provenance.outcome == HIT)
            yield pb.ProductCopyEvent(end=end).SerializeToString()

    @contextlib.contextmanager
    def _answering(self, endpoint: str, call: Call) -> Iterator[_Answering]:
        admitted = self._service.admit(endpoint, "grpc")
        if isinstance(admitted, ServeError):
            self._access.ended(endpoint, admitted.code.value, call, 0.0)
            raise admitted
        answering = _Answering(self, call, admitted)
        outcome = "cancelled"
        try:
            yield answering
            outcome = OK
        except Exception as error:
            shown = self._service.as_serve_error(error)
            if shown is not error:
                log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            outcome = shown.code.value
            raise shown from error
        finally:
            if answering.asked is not None:
                answering.asked.close()
            self._access.ended(endpoint, outcome, call, admitted.end(outcome, answering.tier))

    def request(self, raw: bytes, call: Call) -> CopyRequest:
        """The request of a message, with the earlier of its own deadline and the call's."""
        if len(raw) > self._max_message_bytes:
            raise RequestTooLarge(len(raw), self._max_message_bytes)
        try:
            message = pb.ProductCopyRequest.FromString(raw)
        except DecodeError as error:
            raise MalformedRequest(
                "the message is not a vitrine.v1.ProductCopyRequest", field="message"
            ) from error
        request = copy_request_of(message)
        left_s = call.remaining_s()
        if left_s is not None and (request.deadline_s is None or left_s < request.deadline_s):
            return replace(request, deadline_s=max(left_s, 1e-6))
        return request

    def begin(self, ticket: Ticket, request: CopyRequest, call: Call) -> CopyCall:
        """Begin to answer."""
        tenant = self._keys.caller(call.metadata("authorization"), call.metadata("x-api-key"))
        return self._service.open(ticket, request, tenant=tenant)

    def elapsed_s(self, ticket: Ticket) -> float:
        """Seconds since the call arrived."""
        return self._service.clock() - ticket.arrived_s


class _Answering:
    def __init__(self, copy: ProductCopy, call: Call, ticket: Ticket) -> None:
        self._copy = copy
        self._call = call
        self._ticket = ticket
        self.asked: CopyCall | None = None
        self.tier = NO_TIER

    def open(self, raw: bytes) -> tuple[CopyRequest, CopyCall]:
        request = self._copy.request(raw, self._call)
        self.asked = self._copy.begin(self._ticket, request, self._call)
        return request, self.asked

    def ends(self, answer: CopyAnswer) -> float:
        assert self.asked is not None
        self.tier = answer.served_by.value
        total_s = self._copy.elapsed_s(self._ticket)
        times_s = {} if self.asked.provenance.outcome == HIT else answer.timings_s
        stages = [f"{name};dur={times_s.get(name, 0.0) * 1e3:.3f}" for name in ("queue", "engine", "check")]
        self._call.trail("server-timing", ", ".join([*stages, f"total;dur={total_s * 1e3:.3f}"]))
        self._call.trail("cache-status", self.asked.provenance.cache_status(stored=self.asked.stored))
        return total_s
