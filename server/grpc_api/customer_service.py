"""``vitrine.v1.CustomerService``: from the bytes of a message to the bytes of an answer or of events, on any transport.

The order is that of every product: permit, and only then a look at the message. Leaving ends the handler, and the handler
lets the question go; whichever way it ends, one outcome is recorded.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from google.protobuf.message import DecodeError

from server.errors import MalformedRequest, RequestTooLarge, ServeError
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.calls import Call
from server.grpc_api.support_messages import (
    support_end_of,
    support_event_of,
    support_request_of,
    support_response_of,
)
from server.keys import Keys
from server.logs import AccessLog
from server.service import NO_TIER, Ticket
from server.support_domain import SupportAnswer, SupportRequest
from server.support_service import SupportCall, SupportService
from server.support_telemetry import SUPPORT_STAGES
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.grpc")

ENDPOINT = "customer_service"


class CustomerService:
    """The calls of the service."""

    def __init__(
        self, service: SupportService, access: AccessLog, keys: Keys, *, max_message_bytes: int
    ) -> None:
        self._service = service
        self._access = access
        self._keys = keys
        self._max_message_bytes = max_message_bytes

    async def answer(self, raw: bytes, call: Call) -> bytes:
        """All of it at once."""
        with self._answering(call) as answering:
            answer = await answering.open(raw).answer()
            return support_response_of(answer, answering.ends(answer)).SerializeToString()

    async def answer_stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """A part at a time."""
        with self._answering(call) as answering:
            asked = answering.open(raw)
            async for event in asked.events():
                yield support_event_of(event).SerializeToString()
            answer = await asked.answer()
            end = support_end_of(answer, answering.ends(answer))
            yield pb.CustomerServiceEvent(end=end).SerializeToString()

    @contextlib.contextmanager
    def _answering(self, call: Call) -> Iterator[_Answering]:
        admitted = self._service.admit(ENDPOINT, "grpc")
        if isinstance(admitted, ServeError):
            self._access.ended(ENDPOINT, admitted.code.value, call, 0.0)
            raise admitted
        answering = _Answering(self, call, admitted)
        outcome = "cancelled"
        try:
            yield answering
            outcome = OK
        except Exception as error:
            shown = self._service.as_serve_error(error)
            if shown is not error:
                reason = type(error).__name__
                log.error("request failed", extra={"request_id": call.request_id, "reason": reason})
            outcome = shown.code.value
            raise shown from error
        finally:
            if answering.asked is not None:
                answering.asked.close()
            self._access.ended(ENDPOINT, outcome, call, admitted.end(outcome, answering.tier))

    def request(self, raw: bytes, call: Call) -> SupportRequest:
        """The request of a message, with the earlier of its own deadline and the call's."""
        if len(raw) > self._max_message_bytes:
            raise RequestTooLarge(len(raw), self._max_message_bytes)
        try:
            message = pb.CustomerServiceRequest.FromString(raw)
        except DecodeError as error:
            raise MalformedRequest(
                "the message is not a vitrine.v1.CustomerServiceRequest", field="message"
            ) from error
        request = support_request_of(message)
        left_s = call.remaining_s()
        if left_s is not None and (request.deadline_s is None or left_s < request.deadline_s):
            return replace(request, deadline_s=max(left_s, 1e-6))
        return request

    def begin(self, ticket: Ticket, request: SupportRequest, call: Call) -> SupportCall:
        """Begin to answer."""
        tenant = self._keys.caller(call.metadata("authorization"), call.metadata("x-api-key"))
        return self._service.open(ticket, request, tenant=tenant)

    def elapsed_s(self, ticket: Ticket) -> float:
        """Seconds since the call arrived."""
        return self._service.clock() - ticket.arrived_s


class _Answering:
    def __init__(self, calls: CustomerService, call: Call, ticket: Ticket) -> None:
        self._calls = calls
        self._call = call
        self._ticket = ticket
        self.asked: SupportCall | None = None
        self.tier = NO_TIER

    def open(self, raw: bytes) -> SupportCall:
        request = self._calls.request(raw, self._call)
        self.asked = self._calls.begin(self._ticket, request, self._call)
        return self.asked

    def ends(self, answer: SupportAnswer) -> float:
        self.tier = answer.served_by.value
        total_s = self._calls.elapsed_s(self._ticket)
        stages = [f"{name};dur={answer.timings_s.get(name, 0.0) * 1e3:.3f}" for name in SUPPORT_STAGES]
        self._call.trail("server-timing", ", ".join([*stages, f"total;dur={total_s * 1e3:.3f}"]))
        return total_s
