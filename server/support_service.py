"""Customer service as a product: permit, limits, deadline, one outcome. Wires call this.

Every call has its own task and shares nothing with another: no cache, no single flight, because what one shopper says is
nobody else's. A call that is closed before its answer is there lets the work go.

All of it is for the event-loop thread. Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from server.errors import NotReady, ServeError, shown_as
from server.pipelines.customer_service.events import SupportEvent
from server.pipelines.customer_service.pipeline import SupportPipeline
from server.service import NO_TIER, Ticket
from server.support_domain import SupportAnswer, SupportRequest
from server.support_limits import SupportRequestLimits, check_support_request
from server.support_telemetry import SupportRecorder
from server.telemetry_interface import NullTelemetry

if TYPE_CHECKING:
    from server.batching.admission import Admission

log = logging.getLogger("vitrine.support")


class SupportCall:
    """One question on its way. ``close`` in a ``finally``; a second call changes nothing."""

    def __init__(self, service: SupportService) -> None:
        self._service = service
        self._events: list[SupportEvent] = []
        self._wake = asyncio.Event()
        self._answer: SupportAnswer | None = None
        self._error: ServeError | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, request: SupportRequest, deadline_at_s: float, tenant: str) -> None:
        """Begin to answer."""
        self._task = asyncio.ensure_future(self._run(request, deadline_at_s, tenant))

    async def events(self) -> AsyncIterator[SupportEvent]:
        """What is released, as it comes; afterwards ``answer`` returns at once.

        Raises:
            ServeError: it could not be answered.
        """
        at = 0
        while True:
            while at < len(self._events):
                at += 1
                yield self._events[at - 1]
            if self._done:
                self._result()
                return
            self._wake.clear()
            await self._wake.wait()

    async def answer(self) -> SupportAnswer:
        """The whole; raises ``ServeError`` if it could not be answered."""
        while not self._done:
            self._wake.clear()
            await self._wake.wait()
        return self._result()

    def close(self) -> None:
        """The caller has its answer, or left."""
        if not self._done and self._task is not None:
            self._task.cancel()

    @property
    def _done(self) -> bool:
        return self._answer is not None or self._error is not None

    def _result(self) -> SupportAnswer:
        if self._answer is None:
            assert self._error is not None
            raise self._error
        return self._answer

    async def _run(self, request: SupportRequest, deadline_at_s: float, tenant: str) -> None:
        service = self._service
        try:
            self._answer = await service.pipeline.answer(
                request, emit=self._emit, deadline_at_s=deadline_at_s, tenant=tenant
            )
            service.record(self._answer)
        except asyncio.CancelledError:
            self._error = NotReady("the server is stopping, and this question was not answered yet")
        except Exception as error:
            self._error = service.as_serve_error(error)
            if self._error is not error:
                # Its text may hold what a shopper wrote, so the log gets the kind of it and the place, not the words.
                log.error("customer service failed", extra={"reason": _place_of(error)})
        finally:
            service.ended(self)
            self._wake.set()

    def _emit(self, event: SupportEvent) -> None:
        self._events.append(event)
        self._wake.set()


class SupportService:
    """The product.

    Attributes:
        pipeline: what answers.
        admission: permits.
        limits: bounds of a request.
        telemetry: where outcomes go.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        pipeline: SupportPipeline,
        admission: Admission,
        limits: SupportRequestLimits,
        telemetry: NullTelemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pipeline = pipeline
        self.admission = admission
        self.limits = limits
        self.telemetry = telemetry
        self.clock = clock
        self._recorder: SupportRecorder = telemetry.support()
        self._calls: set[SupportCall] = set()

    def admit(self, endpoint: str, protocol: str) -> Ticket | ServeError:
        """Take a permit, before any work; the refusal is returned, not raised."""
        refusal = self.admission.try_acquire()
        if refusal is not None:
            code = refusal.code.value
            self.telemetry.rejected(code)
            self.telemetry.request_done(endpoint, protocol, code, NO_TIER, 0.0)
            return refusal
        return Ticket(self, endpoint, protocol, self.clock())

    def open(self, ticket: Ticket, request: SupportRequest, *, tenant: str = "") -> SupportCall:
        """Begin to answer; the caller closes what it gets.

        Raises:
            InvalidRequest: a field is out of its limits.
        """
        check_support_request(request)
        call = SupportCall(self)
        self._calls.add(call)
        call.begin(request, ticket.arrived_s + self.limits.deadline_s(request.deadline_s), tenant)
        return call

    def record(self, answer: SupportAnswer) -> None:
        """Count an answer."""
        self._recorder.answered(
            answer.served_by.value,
            answer.language.value,
            None if answer.handover is None else answer.handover.reason.value,
            [part.value for part in answer.missing],
            answer.timings_s,
        )

    def ended(self, call: SupportCall) -> None:
        """A call has its answer or its error."""
        self._calls.discard(call)

    def as_serve_error(self, error: BaseException) -> ServeError:
        """An error that may be shown: ours as it is, any other as an internal one whose text stays here."""
        return shown_as(error)

    def in_flight(self) -> int:
        """Questions on their way, for what yields to them."""
        return self.admission.in_flight

    def stop(self) -> None:
        """Refuse from now on; those on their way go on."""
        self.admission.stop()

    def end_all(self) -> None:
        """End what is still on its way with an error."""
        for call in list(self._calls):
            call.close()


def _place_of(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname}, line {trace.tb_lineno}"
