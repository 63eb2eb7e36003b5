"""The one admission point: bounded permits over everything in flight, and an honest hint to those refused.

There is no queue here: a permit is taken before any work or not at all, and refusing costs about a
microsecond, since in a flash sale most of what the server does is refuse. The hint is the place in an
imagined queue of those refused, divided by the measured rate at which permits come back: refused callers are
told different times, and so do not return all at once.

How many permits are open follows the measured rate: as many as drain within ``target_wait_s``, never fewer
than ``floor`` (a few batches, so that the engine is never starved by a careful guess) and never more than
``limit``; and ``BURST`` times that for as long as a burst lasts (``BURST_S``), because two hundred shoppers at
once after a quiet moment are soon answered, while a queue that stands is only a delay. A fixed number is right
for one engine on one machine; a queue that is a few hundred milliseconds deep answers everybody too late, and
a shop that is told to come back has lost less than one that waits.

Units: seconds on the injected clock; ``wait_idle`` uses the loop's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from math import exp, inf
from types import TracebackType

from server.batching.conditions import Conditions
from server.errors import InvalidRequest, NotReady, Overloaded, ServeError

RATE_MEMORY_S = 2.0  # the drain rate looks back about this far, over time when there was something to drain
RATE_STEP_S = 0.005  # how stale the rate may be when refusing
RATE_PRIOR_S = 0.1  # seconds of evidence the starting guess counts for
RETRY_MIN_S, RETRY_MAX_S = 0.05, 30.0
BURST_S = 0.1  # how long more may be in flight than drains within the target
BURST = 2  # how many times as much


class Permit:
    """Permits held by one request; ``release`` twice gives them back once."""

    __slots__ = ("_admission", "_cost")

    def __init__(self, admission: Admission, cost: int) -> None:
        self._admission = admission
        self._cost = cost

    def release(self) -> None:
        """Give the permits back, the first time."""
        cost, self._cost = self._cost, 0
        if cost:
            self._admission.release(cost)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """Permits for everything in flight. Runs on one event loop; not thread-safe.

    Attributes:
        limit: permits in all.
        open: permits that may be taken now (<= ``limit``).
        in_flight: permits taken.
    """

    __slots__ = (
        "_calm_s",
        "_clock",
        "_conditions",
        "_drained",
        "_evidence_s",
        "_floor",
        "_line",
        "_line_s",
        "_name",
        "_seen_s",
        "_stopped",
        "_target_wait_s",
        "in_flight",
        "limit",
        "open",
    )

    def __init__(
        self,
        name: str,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        target_wait_s: float = inf,
        floor: int = 1,
    ) -> None:
        """Start with all permits free.

        Args:
            name: what is admitted to, for messages.
            limit: permits in all (> 0).
            clock: monotonic seconds.
            target_wait_s: open as many permits as drain within this (> 0); infinite: always all.
            floor: permits that are always open (1..limit; more counts as ``limit``).

        Raises:
            ValueError: a number is out of range.
        """
        if limit < 1:
            raise ValueError(f"limit = {limit}, must be > 0")
        if not target_wait_s > 0 or floor < 1:
            raise ValueError(f"target_wait_s = {target_wait_s} and floor = {floor}, must be > 0")
        self._name, self._clock, self.limit = name, clock, limit
        self._target_wait_s, self._floor = target_wait_s, min(floor, limit)
        self.open = limit
        self.in_flight = 0
        self._calm_s = clock()  # when less than half of what drains within the target was in flight
        self._stopped = False
        # Decaying sums of permits given back and of the busy seconds in which that happened: their quotient
        # is the rate. Both start with a guess (everything drains in a second), so that the first refusal has
        # an answer too.
        self._evidence_s = RATE_PRIOR_S
        self._drained = RATE_PRIOR_S * limit
        self._seen_s = self._line_s = clock()
        self._line = 0.0  # how many refused callers are imagined to stand in line, as of _line_s
        self._conditions = Conditions()

    def acquire(self, cost: int = 1, *, held: int = 0) -> None:
        """Take ``cost`` permits, all or none, at once or not at all.

        A call for many needs room for its first batches only (``floor``): measured whole against what is open,
        it would never get in beside a steady stream of small ones. Alone, a call gets whatever it asks for.

        Args:
            cost: permits (> 0): one per engine item.
            held: permits that the same call holds already.

        Raises:
            Overloaded: not that many are free; ``retry_after_s`` comes from the measured drain rate.
            InvalidRequest: more than there are in all: trying again would never help.
            NotReady: draining.
            ValueError: ``cost`` is below 1.
        """
        refusal = self.try_acquire(cost, held=held)
        if refusal is not None:
            raise refusal

    def try_acquire(self, cost: int = 1, *, held: int = 0) -> ServeError | None:
        """``acquire`` that returns what the other raises; None when the permits were taken.

        In a flash sale refusing is most of the work, and a raised error is a traceback, a cycle through the
        frame that caught it, and in the end a garbage collection.
        """
        refusal = self.refusal(cost, held=held)
        if refusal is None:
            if cost < 1:
                raise ValueError(f"cost = {cost}, must be > 0")
            if self.in_flight == 0:
                self._seen_s = self._clock()  # idle time says nothing about how fast we drain
            self.in_flight += cost
        return refusal

    def refusal(self, cost: int = 1, *, held: int = 0) -> ServeError | None:
        """What ``acquire`` would raise to this caller, or None; takes nothing."""
        if self._stopped:
            return NotReady(f"{self._name} is draining")
        if self.in_flight + min(cost, self._floor) > self.open or self.in_flight + cost > self.limit:
            if cost + held > self.limit:
                return InvalidRequest(
                    f"{self._name}: {cost + held} items in one request, the limit is {self.limit}; send fewer",
                    limit=str(self.limit),
                )
            if self.in_flight > held:
                return Overloaded(self._name, self.in_flight, self.open, self._retry_after_s(cost))
        return None

    def release(self, cost: int = 1) -> None:
        """Give ``cost`` permits back: exactly once, in a ``finally``.

        Raises:
            ValueError: more than are taken: somebody released twice.
        """
        if not 0 < cost <= self.in_flight:
            raise ValueError(f"{self._name}: released {cost} of {self.in_flight} permits")
        self._pass_time(self._clock())
        self._drained += cost
        self.in_flight -= cost
        if self._target_wait_s != inf:
            drains = max(self._floor, int(self._drained / self._evidence_s * self._target_wait_s))
            if 2 * self.in_flight < drains:  # not merely below: a standing queue dips by a batch at a time
                self._calm_s = self._seen_s
            burst = self._seen_s - self._calm_s < BURST_S
            self.open = min(self.limit, BURST * drains if burst else drains)
        if self.in_flight == 0:
            self._conditions.check()

    def take(self, cost: int = 1) -> Permit:
        """``acquire`` as an object that releases once; raises what ``acquire`` does."""
        self.acquire(cost)
        return Permit(self, cost)

    def stop(self) -> None:
        """Refuse from now on with ``NotReady``; those in flight go on."""
        self._stopped = True

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if that took longer than ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s if timeout_s > 0.0 else 0.0):
                await self._conditions.until(lambda: self.in_flight == 0)
        return self.in_flight == 0

    @property
    def drain_rate(self) -> float:
        """Permits given back per second while there were any to give back."""
        self._pass_time(self._clock())
        return self._drained / self._evidence_s

    def _pass_time(self, now: float) -> None:
        passed = now - self._seen_s
        if passed > 0.0:  # a clock that jumps back teaches nothing
            if self.in_flight:
                kept = exp(-passed / RATE_MEMORY_S)
                self._drained *= kept
                self._evidence_s = self._evidence_s * kept + RATE_MEMORY_S * (1.0 - kept)
            self._seen_s = now
        elif passed < 0.0:
            self._seen_s = now

    def _retry_after_s(self, cost: int) -> float:
        now = self._clock()
        if not -RATE_STEP_S < now - self._seen_s < RATE_STEP_S:  # refusing must stay cheap
            self._pass_time(now)
        rate = max(self._drained / self._evidence_s, 1e-9)
        line = max(0.0, self._line - rate * max(0.0, now - self._line_s)) + cost
        self._line = min(line, RETRY_MAX_S * rate)  # nobody is told to come back later than that
        self._line_s = now
        wait = (self.in_flight - self.open + line) / rate
        return min(max(wait, RETRY_MIN_S), RETRY_MAX_S)
