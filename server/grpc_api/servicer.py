"""``vitrine.v1.Recommendations``: from the bytes of a message to the bytes of an answer.

Handlers get raw bytes and parse them here, after key and permit, so that a refusal costs no parsing and a message that
does not parse is INVALID_ARGUMENT and not an internal error. The awaits end with the call: a client that cancels, or
whose deadline passes, cancels the handler, and the handler cancels the flight.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from server.domain import RecommendRequest, RecommendResponse
from server.errors import InvalidRequest, MalformedRequest, RequestTooLarge, ServeError
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.messages import error_of, request_of, response_of
from server.grpc_api.status import DETAILS_KEY, STATUS, error_details
from server.logs import AccessLog
from server.request_ids import chosen_request_id, sane_traceparent
from server.service import Answer, Flight, Service, Ticket

log = logging.getLogger("vitrine.grpc")

SERVICE = "vitrine.v1.Recommendations"
Context = Any  # grpc.aio.ServicerContext: its stubs do not know bytes in metadata
_FOREVER_S = 1e8  # time_remaining of a call without a deadline is far above this


class Servicer:
    """The calls of one service, as generic handlers."""

    def __init__(
        self, service: Service, access: AccessLog, *, max_message_bytes: int, max_batch: int
    ) -> None:
        self._service = service
        self._access = access
        self._max_message_bytes = max_message_bytes
        self._max_batch = max_batch

    def handler(self) -> Any:
        """What a grpc.aio server is given."""
        one = grpc.unary_unary_rpc_method_handler(self.recommend)
        many = grpc.unary_unary_rpc_method_handler(self.recommend_batch)
        handlers: dict[str, Any] = {"Recommend": one, "RecommendBatch": many}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def recommend(self, raw: bytes, context: Context) -> bytes:
        """One shopper."""
        return await self._answer("recommendations", raw, context, self._one)

    async def recommend_batch(self, raw: bytes, context: Context) -> bytes:
        """Many shoppers, a result or an error for each."""
        return await self._answer("recommendations_batch", raw, context, self._many)

    async def _answer(
        self, endpoint: str, raw: bytes, context: Context, run: Callable[[_Call, bytes], Awaitable[bytes]]
    ) -> bytes:
        call = _Call(context)
        ticket: Ticket | None = None
        outcome = "cancelled"
        try:
            admitted = self._service.admit(endpoint, "grpc")
            if isinstance(admitted, ServeError):
                raise admitted
            ticket = call.ticket = admitted
            if len(raw) > self._max_message_bytes:
                raise RequestTooLarge(len(raw), self._max_message_bytes)
            reply = await run(call, raw)
            outcome = "ok"
            return reply
        except Exception as error:
            shown = self._service.as_serve_error(error)
            if shown is not error:
                log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            outcome = shown.code.value
            await call.abort(shown)
            raise AssertionError("abort raises") from error
        finally:
            if ticket is not None:
                elapsed_s = ticket.end(outcome, call.tier)
                self._access.ended(endpoint, outcome, call, elapsed_s)

    async def _one(self, call: _Call, raw: bytes) -> bytes:
        ticket = call.ticket
        assert ticket is not None
        try:
            message = pb.RecommendRequest.FromString(raw)
        except DecodeError as error:
            raise MalformedRequest(
                "the message is not a vitrine.v1.RecommendRequest", field="message"
            ) from error
        answer = await self._ask(ticket, call.bounded(request_of(message)))
        if isinstance(answer, ServeError):
            raise answer
        call.tier = answer.served_by.value
        total_s = self._service.clock() - ticket.arrived_s
        reply = response_of(answer, total_s)
        times = reply.timings_ms
        call.trail(
            f"queue;dur={times.queue_ms:.3f}, encode;dur={times.encode_ms:.3f}, engine;dur={times.engine_ms:.3f}, "
            f"post;dur={times.post_ms:.3f}, total;dur={times.total_ms:.3f}"
        )
        return reply.SerializeToString()

    async def _ask(self, ticket: Ticket, request: RecommendRequest) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        flight = self._service.recommend(ticket, request, done)
        if answered.done():
            return answered.result()
        try:
            return await answered
        except asyncio.CancelledError:
            flight.cancel()
            raise

    async def _many(self, call: _Call, raw: bytes) -> bytes:
        ticket = call.ticket
        assert ticket is not None
        try:
            messages = pb.RecommendBatchRequest.FromString(raw).requests
        except DecodeError as error:
            raise MalformedRequest(
                "the message is not a vitrine.v1.RecommendBatchRequest", field="message"
            ) from error
        if not 1 <= len(messages) <= self._max_batch:
            raise InvalidRequest(
                f"requests has {len(messages)} entries; send 1 to {self._max_batch}",
                field="requests",
                limit=f"1 .. {self._max_batch} entries",
            )
        ticket.raise_cost(len(messages))
        results: list[Answer | None] = [None] * len(messages)
        everything: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = len(messages)
        flights: list[Flight] = []

        def take(at: int, answer: Answer) -> None:
            nonlocal left
            results[at] = answer
            left -= 1
            if left == 0 and not everything.done():
                everything.set_result(None)

        try:
            for at, message in enumerate(messages):
                try:
                    request = call.bounded(request_of(message))
                except InvalidRequest as error:
                    take(at, error)
                else:
                    flights.append(self._service.recommend(ticket, request, functools.partial(take, at)))
            await everything
        except BaseException:
            for flight in flights:
                flight.cancel()
            raise
        total_s = self._service.clock() - ticket.arrived_s
        call.tier = "batch"
        call.trail(f"total;dur={total_s * 1e3:.3f}")
        reply = pb.RecommendBatchResponse()
        for result in results:
            if isinstance(result, RecommendResponse):
                reply.results.add(response=response_of(result, total_s))
            elif result is not None:
                reply.results.add(error=error_of(result, call.request_id))
        return reply.SerializeToString()


class _Call:
    """What one call carries besides its message."""

    __slots__ = ("_context", "request_id", "ticket", "tier", "traceparent")

    def __init__(self, context: Context) -> None:
        self._context = context
        given: bytes | None = None
        self.traceparent: str | None = None
        for key, value in context.invocation_metadata() or ():
            if key == "x-request-id":
                given = value.encode("latin-1", "replace") if isinstance(value, str) else value
            elif key == "traceparent" and sane_traceparent(str(value).encode()):
                self.traceparent = str(value)
        self.request_id = chosen_request_id(given)
        self.ticket: Ticket | None = None
        self.tier = "none"

    def bounded(self, request: RecommendRequest) -> RecommendRequest:
        """The request with the earlier of its own deadline and the call's."""
        remaining_s = self._context.time_remaining()
        if remaining_s is None or remaining_s > _FOREVER_S:
            return request
        if request.deadline_s is None or remaining_s < request.deadline_s < math.inf:
            return dataclasses.replace(request, deadline_s=max(remaining_s, 1e-6))
        return request

    def trail(self, server_timing: str) -> None:
        """Set the trailing metadata of an answer."""
        trailing = [("x-request-id", self.request_id), ("server-timing", server_timing)]
        if self.traceparent is not None:
            trailing.append(("traceparent", self.traceparent))
        self._context.set_trailing_metadata(tuple(trailing))

    async def abort(self, error: ServeError) -> None:
        """End the call with the error; raises."""
        trailing: list[tuple[str, str | bytes]] = [
            ("x-request-id", self.request_id),
            (DETAILS_KEY, error_details(error, self.request_id)),
        ]
        if self.traceparent is not None:
            trailing.append(("traceparent", self.traceparent))
        await self._context.abort(STATUS[error.code], _PRINTABLE.sub("?", error.message), tuple(trailing))


_PRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
