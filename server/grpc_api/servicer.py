"""``vitrine.v1.Recommendations``: from the bytes of a message to the bytes of an answer.

A message is parsed here, after key and permit, so that a refusal costs no parsing and a message that does not parse is
INVALID_ARGUMENT and not an internal error. Answers come by callback, as on HTTP: no task for a call. A caller that leaves
cancels the flights.
"""

from __future__ import annotations

import functools
import logging

from google.protobuf.message import DecodeError

from server.domain import RecommendResponse
from server.errors import Code, InvalidRequest, MalformedRequest, ServeError
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.call import Call, Method
from server.grpc_api.messages import error_of, request_of, response_of
from server.http2.header_blocks import literal
from server.logs import AccessLog
from server.service import Answer, Flight, Service, Ticket

log = logging.getLogger("vitrine.grpc")

SERVICE = "vitrine.v1.Recommendations"


class RecommendMethod:
    """One shopper."""

    name = "recommendations"
    takes_stream = False
    keyed = True
    holds_drain = True

    def __init__(self, service: Service, access: AccessLog) -> None:
        self._service = service
        self._access = access

    def start(self, call: Call) -> Asked | None:
        """Permit, parse, ask; the answer is sent by a callback."""
        ticket: Ticket | None = None
        try:
            admitted = self._service.admit(self.name, "grpc")
            if isinstance(admitted, ServeError):
                self._access.ended(self.name, admitted.code.value, call, 0.0)
                call.reply_error(admitted)
                return None
            ticket = admitted
            return self._ask(call, ticket)
        except Exception as error:
            refused = self._service.as_serve_error(error)
            refused.__traceback__ = None  # or it and this frame keep each other until a garbage collection
            elapsed_s = 0.0 if ticket is None else ticket.end(refused.code.value)
            if refused is not error:
                log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            else:
                self._access.ended(self.name, refused.code.value, call, elapsed_s)
            call.reply_error(refused)
            return None

    def _ask(self, call: Call, ticket: Ticket) -> Asked:
        try:
            message = pb.RecommendRequest.FromString(call.body)
        except DecodeError as error:
            raise MalformedRequest(
                "the message is not a vitrine.v1.RecommendRequest", field="message"
            ) from error
        asked = Asked(self._service, self._access, call, ticket)
        asked.flights.append(
            self._service.recommend(ticket, request_of(message, call.timeout_s), asked.answer)
        )
        return asked


class BatchMethod(RecommendMethod):
    """Many shoppers in one call: permits for all of them at once, and a result or an error for each."""

    name = "recommendations_batch"

    def __init__(self, service: Service, access: AccessLog, most: int) -> None:
        super().__init__(service, access)
        self._most = most

    def _ask(self, call: Call, ticket: Ticket) -> Asked:
        try:
            messages = pb.RecommendBatchRequest.FromString(call.body).requests
        except DecodeError as error:
            raise MalformedRequest(
                "the message is not a vitrine.v1.RecommendBatchRequest", field="message"
            ) from error
        if not 1 <= len(messages) <= self._most:
            raise InvalidRequest(
                f"requests has {len(messages)} entries; send 1 to {self._most}",
                field="requests",
                limit=f"1 .. {self._most} entries",
            )
        ticket.raise_cost(len(messages))
        asked = _AskedMany(self._service, self._access, call, ticket, len(messages))
        try:
            for at, message in enumerate(messages):
                where = f"requests[{at}]."
                try:
                    request = request_of(message, call.timeout_s)
                except InvalidRequest as error:
                    asked.take(at, error.inside(where))
                else:
                    take = functools.partial(asked.take, at)
                    asked.flights.append(self._service.recommend(ticket, request, take, where))
        except BaseException:
            asked.drop()  # the entries already on their way have nobody to answer any more
            raise
        return asked


class Asked:
    """A call whose answer is on its way.

    Attributes:
        flights: what to drop when its caller leaves.
    """

    def __init__(self, service: Service, access: AccessLog, call: Call, ticket: Ticket) -> None:
        self._service = service
        self._access = access
        self._call = call
        self._ticket = ticket
        self.flights: list[Flight] = []

    def drop(self) -> None:
        """Let the work go."""
        for flight in self.flights:
            flight.cancel()

    def cancel(self) -> None:
        """The caller left."""
        self.drop()
        outcome = Code.CANCELLED.value
        self._access.ended(self._ticket.endpoint, outcome, self._call, self._ticket.end(outcome))

    def answer(self, answer: Answer) -> None:
        """Send it."""
        call, ticket = self._call, self._ticket
        try:
            if isinstance(answer, ServeError):
                call.reply_error(answer)
            else:
                reply = response_of(answer, self._service.clock() - ticket.arrived_s)
                times = reply.timings_ms
                timing = (
                    b"queue;dur=%.3f, encode;dur=%.3f, engine;dur=%.3f, post;dur=%.3f, total;dur=%.3f"
                    % (
                        times.queue_ms,
                        times.encode_ms,
                        times.engine_ms,
                        times.post_ms,
                        times.total_ms,
                    )
                )
                if answer.rerank_s is not None:
                    timing += b", rerank;dur=%.3f" % times.rerank_ms
                call.reply(reply.SerializeToString(), literal(b"server-timing", timing))
        except Exception as error:
            log.error("answer could not be written", exc_info=error, extra={"request_id": call.request_id})
            answer = self._service.as_serve_error(error)
            call.reply_error(answer)
        finally:
            elapsed_s = ticket.end_with(answer)
        self._access.done(ticket.endpoint, answer, call, elapsed_s)


class _AskedMany(Asked):
    def __init__(self, service: Service, access: AccessLog, call: Call, ticket: Ticket, count: int) -> None:
        super().__init__(service, access, call, ticket)
        self._left = count
        self._results: list[Answer | None] = [None] * count

    def take(self, at: int, answer: Answer) -> None:
        self._results[at] = answer
        self._left -= 1
        if self._left == 0:
            self._finish()

    def _finish(self) -> None:
        call, ticket = self._call, self._ticket
        total_s = self._service.clock() - ticket.arrived_s
        outcome = "ok"
        try:
            reply = pb.RecommendBatchResponse()
            for result in self._results:
                if isinstance(result, RecommendResponse):
                    reply.results.add(response=response_of(result, total_s))
                elif result is not None:
                    reply.results.add(error=error_of(result, call.request_id))
            call.reply(
                reply.SerializeToString(), literal(b"server-timing", b"total;dur=%.3f" % (total_s * 1e3))
            )
        except Exception as error:
            log.error("answer could not be written", exc_info=error, extra={"request_id": call.request_id})
            shown = self._service.as_serve_error(error)
            outcome = shown.code.value
            call.reply_error(shown)
        finally:
            elapsed_s = ticket.end(outcome, "batch")
        self._access.ended(ticket.endpoint, outcome, call, elapsed_s)


def methods(service: Service, access: AccessLog, *, max_batch: int) -> dict[bytes, Method]:
    """The service's methods by path."""
    return {
        f"/{SERVICE}/Recommend".encode(): RecommendMethod(service, access),
        f"/{SERVICE}/RecommendBatch".encode(): BatchMethod(service, access, max_batch),
    }
