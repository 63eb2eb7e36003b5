"""Product copy as a product: permit, limits, cache, single flight, deadline, one outcome. Wires call this.

Equal requests that come while one is being written wait for that one. They join a flight only if it will end before their
own deadline, so none of them needs a timer of its own; whoever would have to wait longer starts another. A flight is
cancelled when the last of its callers has left.

All of it is for the event-loop thread. Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.copy_cache import Cached, CopyCache, content_key
from server.copy_domain import CopyAnswer, CopyRequest, CopySource
from server.copy_limits import CopyRequestLimits, check_copy_request
from server.copy_telemetry import COLLAPSED, FORCED, HIT, MISS, CopyRecorder
from server.errors import NotReady, ServeError, shown_as
from server.pipelines.product_copy.events import CopyEvent, events_of
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.service import NO_TIER, Ticket
from server.telemetry_interface import NullTelemetry

if TYPE_CHECKING:
    from server.batching.admission import Admission

log = logging.getLogger("vitrine.copy")

BULK_PRIORITY = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How an answer came about.

    Attributes:
        outcome: one of ``CACHE_OUTCOMES``.
        age_s: of an answer from the cache, else 0.
        ttl_s: how much longer it is kept; None where it is not from the cache.
    """

    outcome: str
    age_s: float = 0.0
    ttl_s: float | None = None

    def cache_status(self, *, stored: bool) -> str:
        """The value of ``Cache-Status`` (RFC 9211)."""
        if self.outcome == HIT:
            return f"vitrine; hit; ttl={int(self.ttl_s or 0)}"
        if self.outcome == COLLAPSED:
            return "vitrine; fwd=miss; collapsed"
        reason = "request" if self.outcome == FORCED else "miss"
        return f"vitrine; fwd={reason}{'; stored' if stored else ''}"


class CopyCall:
    """One request on its way. ``close`` in a ``finally``; a second call changes nothing.

    Attributes:
        provenance: where the answer comes from.
    """

    def __init__(self, provenance: Provenance, flight: _Flight | None, cached: CopyAnswer | None) -> None:
        self.provenance = provenance
        self._flight = flight
        self._cached = cached
        self._wake = asyncio.Event()
        if flight is not None:
            flight.calls.add(self)

    async def events(self) -> AsyncIterator[CopyEvent]:
        """What is released, from the beginning, as it comes; afterwards ``answer`` returns at once.

        Raises:
            ServeError: it could not be written.
        """
        if self._cached is not None:
            for event in events_of(self._cached):
                yield event
            return
        flight, at = self._flight, 0
        assert flight is not None
        flight.streamed = True
        while True:
            while at < len(flight.events):
                at += 1
                yield flight.events[at - 1]
            if flight.done:
                flight.result()
                return
            self._wake.clear()
            await self._wake.wait()

    async def answer(self) -> CopyAnswer:
        """The whole; raises ``ServeError`` if it could not be written."""
        if self._cached is not None:
            return self._cached
        flight = self._flight
        assert flight is not None
        while not flight.done:
            self._wake.clear()
            await self._wake.wait()
        return flight.result()

    @property
    def stored(self) -> bool:
        """Whether the answer, which is there, went into the cache."""
        return self._flight is not None and self._flight.stored

    def wake(self) -> None:
        """Something has come."""
        self._wake.set()

    def close(self) -> None:
        """The caller has its answer, or left."""
        if self._flight is not None:
            self._flight.leave(self)


class _Flight:
    def __init__(self, service: CopyService, key: str, deadline_at_s: float) -> None:
        self._service = service
        self.key = key
        self.deadline_at_s = deadline_at_s
        self.events: list[CopyEvent] = []
        self.calls: set[CopyCall] = set()
        self.done = False
        self.stored = False
        self.streamed = False
        self._answer: CopyAnswer | None = None
        self._error: ServeError | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, request: CopyRequest, tenant: str) -> None:
        self._task = asyncio.ensure_future(self._run(request, tenant))

    async def _run(self, request: CopyRequest, tenant: str) -> None:
        service = self._service
        try:
            self._answer = await service.pipeline.write(
                request,
                emit=self._emit,
                deadline_at_s=self.deadline_at_s,
                tenant=tenant,
                read_early=lambda: self.streamed,
            )
            self.stored = service.keep(self.key, self._answer)
            service.record(request, self._answer)
        except asyncio.CancelledError:
            self._error = self._error or NotReady("the server is stopping, and this copy was not whole yet")
        except Exception as error:
            self._error = service.as_serve_error(error)
            log.error("product copy failed", exc_info=error)
        finally:
            self.done = True
            service.landed(self)
            for call in self.calls:
                call.wake()

    def result(self) -> CopyAnswer:
        if self._answer is None:
            assert self._error is not None
            raise self._error
        return self._answer

    def leave(self, call: CopyCall) -> None:
        self.calls.discard(call)
        if not self.calls and not self.done:
            self.stop()

    def stop(self) -> None:
        self._service.landed(self)
        if self._task is not None:
            self._task.cancel()

    def _emit(self, event: CopyEvent) -> None:
        self.events.append(event)
        for call in self.calls:
            call.wake()


class CopyService:
    """The product.

    Attributes:
        pipeline: what writes.
        admission: permits.
        limits: bounds of a request.
        cache: what was written.
        telemetry: where outcomes go.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        pipeline: CopyPipeline,
        admission: Admission,
        limits: CopyRequestLimits,
        cache: CopyCache,
        telemetry: NullTelemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pipeline = pipeline
        self.admission = admission
        self.limits = limits
        self.cache = cache
        self.telemetry = telemetry
        self.clock = clock
        self._recorder: CopyRecorder = telemetry.copy()
        self._flights: dict[str, _Flight] = {}
        self._all: set[_Flight] = set()

    def admit(self, endpoint: str, protocol: str) -> Ticket | ServeError:
        """Take a permit, before any work; the refusal is returned, not raised."""
        refusal = self.admission.try_acquire()
        if refusal is not None:
            code = refusal.code.value
            self.telemetry.rejected(code)
            self.telemetry.request_done(endpoint, protocol, code, NO_TIER, 0.0)
            return refusal
        return Ticket(self, endpoint, protocol, self.clock())

    def open(self, ticket: Ticket, request: CopyRequest, *, tenant: str = "") -> CopyCall:
        """Begin to answer; the caller closes what it gets.

        Raises:
            InvalidRequest: a field is out of its limits.
        """
        check_copy_request(request, self.limits)
        deadline_at_s = ticket.arrived_s + self.limits.deadline_s(request.deadline_s)
        key = content_key(request, self.pipeline.versions())
        if request.fresh:
            provenance = Provenance(outcome=FORCED)
        else:
            cached = self.cache.get(key)
            if cached is not None:
                return self._hit(cached)
            flight = self._flights.get(key)
            if flight is not None and flight.deadline_at_s <= deadline_at_s:
                self._recorder.cache_asked(COLLAPSED)
                return CopyCall(Provenance(outcome=COLLAPSED), flight, None)
            provenance = Provenance(outcome=MISS)
        self._recorder.cache_asked(provenance.outcome)
        flight = _Flight(self, key, deadline_at_s)
        call = CopyCall(provenance, flight, None)
        self._flights[key] = flight
        self._all.add(flight)
        flight.begin(request, tenant)
        return call

    async def write_in_bulk(
        self, request: CopyRequest, *, tenant: str = "", patient: bool = True
    ) -> CopyAnswer:
        """One answer of many that nobody waits for: behind all live traffic, and never the floor for want of time.

        It is looked up in the cache and not put there, where it would drive out what shoppers ask for.

        Raises:
            InvalidRequest: a field is out of its limits.
            ServeError: with ``patient``: the engine is busy or away; ``retry_after_s`` says when to try again.
        """
        check_copy_request(request, self.limits)
        if not request.fresh:
            cached = self.cache.get(content_key(request, self.pipeline.versions()))
            if cached is not None:
                return cached.answer
        answer = await self.pipeline.write(
            request,
            emit=lambda _: None,
            deadline_at_s=self.clock() + self.limits.max_deadline_s,
            priority=BULK_PRIORITY,
            tenant=tenant,
            patient=patient,
        )
        self.record(request, answer)
        return answer

    def keep(self, key: str, answer: CopyAnswer) -> bool:
        """Put an answer into the cache, unless another time the model may write a better one."""
        return answer.lasting and self.cache.put(key, answer)

    def record(self, request: CopyRequest, answer: CopyAnswer) -> None:
        """Count what was written."""
        recorder = self._recorder
        for variant in answer.variants:
            recorder.variant_written(request.channel.value, request.language.value, variant.effort.value)
            if variant.refused:
                recorder.claims_refused(Counter(claim.kind.value for claim in variant.refused))
        if answer.served_by is CopySource.FALLBACK and answer.fallback_reason is not None:
            self.telemetry.fallback("product_copy", answer.fallback_reason)

    def landed(self, flight: _Flight) -> None:
        """A flight takes no more passengers."""
        self._all.discard(flight)
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def as_serve_error(self, error: BaseException) -> ServeError:
        """An error that may be shown: ours as it is, any other as an internal one whose text stays in the log."""
        return shown_as(error)

    def in_flight(self) -> int:
        """Live requests on their way, for what yields to them."""
        return self.admission.in_flight

    def stop(self) -> None:
        """Refuse from now on; those on their way go on."""
        self.admission.stop()

    def end_all(self) -> None:
        """End what is still on its way with an error."""
        for flight in list(self._all):
            flight.stop()

    def _hit(self, cached: Cached) -> CopyCall:
        self._recorder.cache_asked(HIT)
        return CopyCall(Provenance(outcome=HIT, age_s=cached.age_s, ttl_s=cached.ttl_s), None, cached.answer)
