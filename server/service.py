"""One product, one method: admit, deadline, pipeline, fallback tier, outcome. Both wires call this and nothing below it.

The path is made of callbacks and not of coroutines: an answer costs no task and no await, only the pipeline's future.
A wire takes a ``Ticket`` before it parses anything, then asks ``recommend`` for a ``Flight`` with a function that is
called exactly once, with the answer or the error, unless the wire cancels the flight first. A ticket gives its permits
back and records its outcome in ``end``, once, whoever comes first.

Nobody waits for an engine that hangs: one timer, set to the earliest deadline on its way, answers what has become
overdue from the fallback tier. One timer for all costs less than one each, which in the usual case is only cancelled.

All of it is for the event-loop thread. Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from server.batching.waiting import OVERDUE
from server.domain import ModelInfo, RecommendRequest, RecommendResponse, Stage
from server.errors import (
    DeadlineExceeded,
    EngineFault,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServeError,
    shown_as,
)
from server.recommender import Outcome, Recommender, StageTimings
from server.request_limits import RequestLimits, check_request
from server.telemetry_interface import OK, NullTelemetry
from server.tensor_domain import TensorAnswer, TensorQuery

if TYPE_CHECKING:
    from server.batching.admission import Admission

log = logging.getLogger("vitrine.service")

Answer = RecommendResponse | ServeError
Done = Callable[[Answer], None]
TensorDone = Callable[[TensorAnswer | ServeError], None]
NO_TIER = "none"
MARGIN_S = 0.001  # an overdue answer sets out this much before its deadline: the event loop's timers count milliseconds


class Desk(Protocol):
    """What a ticket is taken at: a product with its permits."""

    admission: Admission
    telemetry: NullTelemetry
    clock: Callable[[], float]


class Companion(Protocol):
    """Another product of the same server, which shares its readiness and its list of models.

    Attributes:
        essential: whether the server is not ready without it, even where recommendations are.
    """

    essential: bool

    def models(self) -> Sequence[ModelInfo]:
        """All that it serves."""
        ...

    def reasons(self) -> list[str]:
        """Why it should not be asked now; empty when it may be."""
        ...


class Ticket:
    """Permits for one admitted call; ends exactly once."""

    __slots__ = ("_cost", "_ended", "_service", "arrived_s", "endpoint", "protocol")

    def __init__(self, service: Desk, endpoint: str, protocol: str, arrived_s: float) -> None:
        self._service = service
        self._cost = 1
        self._ended = False
        self.endpoint = endpoint
        self.protocol = protocol
        self.arrived_s = arrived_s

    def raise_cost(self, cost: int) -> None:
        """Hold ``cost`` permits in all, for a call that turned out to be many.

        Raises:
            Overloaded: there are not that many; the ticket holds what it held.
        """
        if cost > self._cost:
            try:
                self._service.admission.acquire(cost - self._cost, held=self._cost)
            except Overloaded as error:
                self._service.telemetry.rejected(error.code.value)
                raise
            self._cost = cost

    def end(self, outcome: str, tier: str = NO_TIER) -> float:
        """Give the permits back and record the outcome; a second call changes nothing.

        Returns:
            Seconds since the call arrived.
        """
        service = self._service
        elapsed_s = service.clock() - self.arrived_s
        if not self._ended:
            self._ended = True
            service.admission.release(self._cost)
            service.telemetry.request_done(self.endpoint, self.protocol, outcome, tier, elapsed_s)
        return elapsed_s

    def end_with(self, answer: Answer) -> float:
        """End with the outcome and tier that the answer shows."""
        if isinstance(answer, ServeError):
            return self.end(answer.code.value)
        return self.end(OK, answer.served_by.value)


class Flight:
    """One recommendation on its way to exactly one answer, or to none when the caller leaves."""

    __slots__ = ("_done", "_future", "_service", "_ticket", "deadline_at_s", "request")

    def __init__(
        self,
        service: Service,
        ticket: Ticket,
        request: RecommendRequest | TensorQuery,
        deadline_at_s: float,
        done: Callable[[Any], None],
    ) -> None:
        self._service = service
        self._ticket = ticket
        self._done: Callable[[Any], None] | None = done
        self._future: Outcome | None = None
        self.request = request
        self.deadline_at_s = deadline_at_s

    def follow(self, future: Outcome) -> None:
        """Answer when the pipeline does."""
        self._future = future
        future.add_done_callback(self._resolved)

    def cancel(self) -> None:
        """The caller left: drop the work; the done function is not called any more."""
        if self._done is None:
            return
        self._leave()
        if self._future is None:
            self._service.telemetry.cancelled("queue")  # else the batcher has counted it, with the stage

    def overdue(self) -> None:
        """The deadline has come and the pipeline has not: let the work go, and answer without it."""
        if self._done is not None:
            error = DeadlineExceeded(
                "the engine did not answer in time; ask with a longer deadline_ms", stage="engine"
            )
            self._service.telemetry.deadline_missed("engine")
            self._drop(OVERDUE)
            self.conclude(self._service.settle(self._ticket, self.request, error))

    def conclude(self, answer: Answer | TensorAnswer) -> None:
        """Give the answer, unless one was given."""
        done = self._leave()
        if done is not None:
            done(answer)

    def _leave(self) -> Callable[[Any], None] | None:
        done, self._done = self._done, None
        self._service.flights.discard(self)
        self._drop()
        return done

    def _drop(self, why: str | None = None) -> None:
        future = self._future
        if future is not None and not future.done():
            future.remove_done_callback(self._resolved)
            future.cancel(why)

    def _resolved(self, future: Outcome) -> None:
        if self._done is None:
            if not future.cancelled():
                future.exception()  # looked at, or asyncio logs that nobody did
            return
        if future.cancelled():
            answer: Answer | TensorAnswer = NotReady("the request was dropped because the model is closing")
        else:
            error = future.exception()
            answer = _with_timings(*future.result()) if error is None else self._service.as_serve_error(error)
        if isinstance(answer, ServeError):
            answer = self._service.settle(self._ticket, self.request, answer)
        self.conclude(answer)


class Service:
    """The recommendation product.

    Attributes:
        recommender: what answers.
        admission: the one place where requests are let in.
        limits: the bounds of a request.
        telemetry: where outcomes go.
        clock: monotonic seconds.
        flights: what is on its way.
        companions: other products beside it.
        troubles: each asked for what does not work and stops nothing, such as a damaged knowledge file.
        draining: whether new work is refused because the server is going.
    """

    def __init__(
        self,
        recommender: Recommender,
        admission: Admission,
        limits: RequestLimits,
        telemetry: NullTelemetry,
        *,
        fallback: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recommender = recommender
        self.admission = admission
        self.limits = limits
        self.telemetry = telemetry
        self.clock = clock
        self.flights: set[Flight] = set()
        self.companions: list[Companion] = []
        self.troubles: list[Callable[[], list[str]]] = []
        self.draining = False
        self._fallback = fallback
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at_s = math.inf

    def admit(self, endpoint: str, protocol: str) -> Ticket | ServeError:
        """Take a permit, before any work.

        Returns:
            The ticket; or, not raised because refusing must be cheap, ``Overloaded`` when no permit is left and
            ``NotReady`` when the server is going.
        """
        refusal = self.admission.try_acquire()
        if refusal is not None:
            code = refusal.code.value
            self.telemetry.rejected(code)
            self.telemetry.request_done(endpoint, protocol, code, NO_TIER, 0.0)
            return refusal
        return Ticket(self, endpoint, protocol, self.clock())

    def recommend(self, ticket: Ticket, request: RecommendRequest, done: Done, where: str = "") -> Flight:
        """Answer one shopper.

        ``done`` is called exactly once, perhaps before this returns, and never after ``cancel``. Ending the ticket is
        the wire's, when it has what it needs. ``where`` is the request's place in a batch, such as ``requests[3].``, for
        a refusal to name.
        """
        limits = self.limits
        deadline_at_s = ticket.arrived_s + limits.deadline_s(request.deadline_s)
        flight = Flight(self, ticket, request, deadline_at_s, done)
        try:
            info = self.recommender.info()
            check_request(request, limits, info.limits["max_k"], info.item_fields)
            if self.recommender.is_cold(request):
                self.telemetry.fallback(ticket.endpoint, "cold_start")
                answer: Answer = self.recommender.fallback(request, "cold_start")
            else:
                self._send(flight)
                return flight
        except InvalidRequest as error:
            answer = error.inside(where)
        except Exception as error:
            answer = self.settle(ticket, request, self.as_serve_error(error))
        flight.conclude(answer)
        return flight

    def infer(self, ticket: Ticket, query: TensorQuery, done: TensorDone) -> Flight:
        """Ask the model itself for one row of tensors; as ``recommend``, without the tier below."""
        deadline_at_s = ticket.arrived_s + self.limits.deadline_s(query.deadline_s)
        flight = Flight(self, ticket, query, deadline_at_s, done)
        try:
            self._send(flight)
        except Exception as error:
            flight.conclude(self.settle(ticket, query, self.as_serve_error(error)))
        return flight

    def _send(self, flight: Flight) -> None:
        deadline_at_s = flight.deadline_at_s
        flight.follow(self.recommender.submit(flight.request, deadline_at_s))
        self.flights.add(flight)
        if deadline_at_s < self._sweep_at_s:
            self._sweep_by(deadline_at_s)

    def settle(self, ticket: Ticket, request: RecommendRequest | TensorQuery, error: ServeError) -> Answer:
        """What a caller gets whom the model tier failed: the fallback tier's answer where that is due, or the error."""
        if isinstance(error, DeadlineExceeded):
            reason = "deadline"
        elif isinstance(error, EngineFault):
            reason = "engine_fault"
            log.error("engine fault: %s", error, exc_info=error.__cause__)
        elif isinstance(error, NotReady):
            reason = "not_ready"
        else:
            return error
        if not self._fallback or isinstance(request, TensorQuery):
            return error
        try:
            answer = self.recommender.fallback(request, reason)
        except Exception as broken:
            log.error("fallback tier failed", exc_info=broken)
            return error
        self.telemetry.fallback(ticket.endpoint, reason)
        return answer

    def as_serve_error(self, error: BaseException) -> ServeError:
        """An error that may be shown: ours as it is, any other as an internal one whose text stays in the log."""
        return shown_as(error)

    def models(self) -> Sequence[ModelInfo]:
        """All that is served; a recommender without a name is none."""
        info = self.recommender.info()
        own = (info,) if info.name else ()
        return (*own, *(model for other in self.companions for model in other.models()))

    def ready(self) -> tuple[bool, list[str]]:
        """Whether requests should be sent here, and the reasons if not.

        Beside recommendations, what another product cannot do takes no shopper's answer away: see ``degraded``.
        """
        reasons = self.own_reasons() + self._others(essential=True)
        if not self.recommender.info().name:
            reasons += self._others(essential=False)
        return not reasons, reasons

    def degraded(self) -> list[str]:
        """What does not work beside what does."""
        beside = self._others(essential=False) if self.recommender.info().name else []
        return [*beside, *(trouble for told in self.troubles for trouble in told())]

    def own_reasons(self) -> list[str]:
        """Why recommendations should not be asked for; empty when they may be."""
        health = self.recommender.health()
        reasons = []
        if self.draining:
            reasons.append("draining: the server has been told to stop")
        if not health.golden_ok:
            reasons.append("golden replay has not passed")
        if not health.ready:
            reasons.append(health.why or "engine is not ready")
        return reasons

    def _others(self, *, essential: bool) -> list[str]:
        return [
            reason for other in self.companions if other.essential is essential for reason in other.reasons()
        ]

    def _sweep_by(self, at_s: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_at_s = at_s
        wait_s = max(MARGIN_S, at_s - MARGIN_S - self.clock())
        self._sweep = asyncio.get_running_loop().call_later(wait_s, self._answer_overdue)

    def _answer_overdue(self) -> None:
        self._sweep = None
        self._sweep_at_s = math.inf
        horizon_s = self.clock() + MARGIN_S
        try:
            for flight in [flight for flight in self.flights if flight.deadline_at_s <= horizon_s]:
                flight.overdue()
        finally:  # a wire that raises must not leave the others without their timer
            if self.flights:
                self._sweep_by(min(flight.deadline_at_s for flight in self.flights))


def _with_timings(
    answer: RecommendResponse | TensorAnswer, timings: StageTimings
) -> RecommendResponse | TensorAnswer:
    if isinstance(answer, TensorAnswer):
        answer.timings = timings
        return answer
    answer.timings_s = {
        Stage.QUEUE: timings.queue_s,
        Stage.ENCODE: timings.encode_s,
        Stage.ENGINE: timings.engine_s,
        Stage.POST: timings.post_s,
    }
    return answer
