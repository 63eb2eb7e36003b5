"""``POST /v1/recommendations`` and its batch form: from the bytes of a body to the bytes of an answer.

An endpoint is a plain object with ``start(exchange)``, which returns what to cancel if the caller leaves. The order is
the promise of DESIGN: key, permit, and only then a look at the body.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import UNSET

from server.errors import Code, InvalidRequest, ServeError, Unauthenticated
from server.http_api.exchange import Exchange
from server.http_api.schemas import (
    BatchOut,
    Failed,
    RecommendOut,
    TimingsOut,
    answer_struct,
    decode_batch,
    decode_request,
    encode,
)
from server.http_api.status import error_detail
from server.keys import Keys
from server.logs import AccessLog
from server.service import Answer, Flight, Service, Ticket

log = logging.getLogger("vitrine.http")


class Cancellable(Protocol):
    """Work that can be dropped when its caller leaves."""

    def cancel(self) -> None:
        """Drop it; safe at any time."""
        ...


class Endpoint(Protocol):
    """What answers a POST on one hot path."""

    path: bytes

    def refuses_now(self) -> bool:
        """Whether a request would be refused without a look at it, so that its body need not be read."""
        ...

    def start(self, exchange: Exchange) -> Cancellable | None:
        """Answer the exchange, now or later; never raises."""
        ...


def server_timing(timings: TimingsOut) -> bytes:
    """The ``Server-Timing`` header line."""
    line = (
        b"server-timing: queue;dur=%.3f, encode;dur=%.3f, engine;dur=%.3f, post;dur=%.3f, total;dur=%.3f\r\n"
        % (
            timings.queue,
            timings.encode,
            timings.engine,
            timings.post,
            timings.total,
        )
    )
    rerank = timings.rerank
    return line if rerank is UNSET else b"%s, rerank;dur=%.3f\r\n" % (line[:-2], rerank)


class RecommendEndpoint:
    """One shopper."""

    path = b"/v1/recommendations"
    name = "recommendations"

    def __init__(self, service: Service, keys: Keys, access: AccessLog) -> None:
        self._service = service
        self._keys = keys
        self._access = access

    def refuses_now(self) -> bool:
        """Whether no permit is left."""
        admission = self._service.admission
        return admission.in_flight >= admission.open

    def start(self, exchange: Exchange) -> Cancellable | None:
        """Key, permit, decode, ask; the answer is written by a callback."""
        ticket: Ticket | None = None
        try:
            if self._keys.required:
                headers = exchange.headers
                self._keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
            admitted = self._service.admit(self.name, "http")
            if isinstance(admitted, ServeError):
                self._access.ended(self.name, admitted.code.value, exchange, 0.0)
                exchange.reply_error(admitted)
                return None
            ticket = admitted
            return self._run(exchange, ticket)
        except Exception as error:
            refused = self._service.as_serve_error(error)
            refused.__traceback__ = None  # or it and this frame keep each other until a garbage collection
            if ticket is not None:
                ticket.end(refused.code.value)
            elif isinstance(refused, Unauthenticated):
                self._service.telemetry.rejected(refused.code.value)
            if refused is not error:
                log.error("request failed", exc_info=error, extra={"request_id": exchange.request_id})
            else:
                self._access.ended(self.name, refused.code.value, exchange, 0.0)
            exchange.reply_error(refused)
            return None

    def _run(self, exchange: Exchange, ticket: Ticket) -> Cancellable | None:
        call = _Call(self._service, exchange, ticket, self._access)
        call.flight = self._service.recommend(ticket, decode_request(exchange.body), call.done)
        return call


class _Call:
    __slots__ = ("_access", "_exchange", "_service", "_ticket", "flight")

    def __init__(self, service: Service, exchange: Exchange, ticket: Ticket, access: AccessLog) -> None:
        self._service = service
        self._exchange = exchange
        self._ticket = ticket
        self._access = access
        self.flight: Flight | None = None

    def cancel(self) -> None:
        if self.flight is not None:
            self.flight.cancel()
        _left(self._ticket, self._access, self._exchange)

    def done(self, answer: Answer) -> None:
        exchange = self._exchange
        ticket = self._ticket
        try:
            if isinstance(answer, ServeError):
                exchange.reply_error(answer)
            else:
                out = answer_struct(answer, self._service.clock() - ticket.arrived_s)
                exchange.reply(200, encode(out), server_timing(out.timings_ms))
        except Exception as error:
            log.error(
                "answer could not be written", exc_info=error, extra={"request_id": exchange.request_id}
            )
            answer = self._service.as_serve_error(error)
            exchange.reply_error(answer)
        finally:
            elapsed_s = ticket.end_with(answer)
        self._access.done(ticket.endpoint, answer, exchange, elapsed_s)


def _left(ticket: Ticket, access: AccessLog, exchange: Exchange) -> None:
    outcome = Code.CANCELLED.value  # nobody is there to be told: this and the metric are all that is said
    access.ended(ticket.endpoint, outcome, exchange, ticket.end(outcome))


class BatchEndpoint(RecommendEndpoint):
    """Many shoppers in one call: permits for all of them at once, and a result or an error for each."""

    path = b"/v1/recommendations/batch"
    name = "recommendations_batch"

    def __init__(self, service: Service, keys: Keys, access: AccessLog, most: int) -> None:
        super().__init__(service, keys, access)
        self._most = most

    def _run(self, exchange: Exchange, ticket: Ticket) -> Cancellable | None:
        entries = decode_batch(exchange.body, self._most)
        ticket.raise_cost(len(entries))
        call = _BatchCall(self._service, exchange, ticket, self._access, len(entries))
        try:
            for at, entry in enumerate(entries):
                where = f"requests[{at}]."
                try:
                    request = decode_request(entry, where)
                except InvalidRequest as error:
                    call.result(at, error)
                else:
                    call.flights.append(self._service.recommend(ticket, request, call.take(at), where))
        except BaseException:
            call.drop()  # the entries already on their way have nobody to answer any more
            raise
        return call


class _BatchCall:
    __slots__ = ("_access", "_exchange", "_left", "_results", "_service", "_ticket", "flights")

    def __init__(
        self, service: Service, exchange: Exchange, ticket: Ticket, access: AccessLog, count: int
    ) -> None:
        self._service = service
        self._exchange = exchange
        self._ticket = ticket
        self._access = access
        self._left = count
        self._results: list[RecommendOut | Failed | None] = [None] * count
        self.flights: list[Flight] = []

    def drop(self) -> None:
        for flight in self.flights:
            flight.cancel()

    def cancel(self) -> None:
        self.drop()
        _left(self._ticket, self._access, self._exchange)

    def take(self, at: int) -> Callable[[Answer], None]:
        return lambda answer: self.result(at, answer)

    def result(self, at: int, answer: Answer) -> None:
        try:
            if not isinstance(answer, ServeError):
                self._results[at] = answer_struct(answer, self._service.clock() - self._ticket.arrived_s)
        except Exception as error:
            log.error("answer could not be written", exc_info=error)
            answer = self._service.as_serve_error(error)
        if isinstance(answer, ServeError):
            self._results[at] = Failed(error_detail(answer, self._exchange.request_id))
        self._left -= 1
        if self._left == 0:
            self._finish()

    def _finish(self) -> None:
        total_ms = round((self._service.clock() - self._ticket.arrived_s) * 1e3, 3)
        results = [result for result in self._results if result is not None]
        outcome = "ok"
        try:
            self._exchange.reply(
                200,
                encode(BatchOut(results, {"total": total_ms})),
                b"server-timing: total;dur=%.3f\r\n" % total_ms,
            )
        except Exception as error:
            log.error("answer could not be written", exc_info=error)
            shown = self._service.as_serve_error(error)
            outcome = shown.code.value
            self._exchange.reply_error(shown)
        finally:
            elapsed_s = self._ticket.end(outcome, "batch")
        self._access.ended(self._ticket.endpoint, outcome, self._exchange, elapsed_s)
