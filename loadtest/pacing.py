"""Owns the clock: hands each request to the client when it is due, and lets answers in between.

Open loop: the schedule is fixed beforehand and nothing that the server does moves it; what is late because
the generator was busy is handed over at once and its lateness is in the row.  Closed loop: a fixed number of
requests is kept in flight, which finds saturation and says nothing about latency.

The garbage collector is off while a run lasts: its pauses would be the generator's lateness.

Units: seconds since the start of the run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from loadtest.client import Client, Clock
from loadtest.measure import Recorder

Tick = Callable[[float, Recorder], None]
_SWEEP_S = 0.02
_LONGEST_WAIT_S = 0.05
_ROW_LIMIT = 50_000_000


def silent(now_s: float, recorder: Recorder) -> None:
    """A tick that tells nobody."""


def clock_from(start: float) -> Clock:
    """Seconds since ``start`` on the system's monotonic clock, which all processes share."""
    monotonic = time.monotonic

    def now() -> float:
        return monotonic() - start

    return now


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep the garbage collector out; everything alive now is never looked at again."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def open_loop(
    client: Client, recorder: Recorder, clock: Clock, *, tick: Tick = silent, tick_s: float = 0.25
) -> None:
    """Send every row of the recorder when it is due; return when all have ended.

    Rows end at the latest by the client's time-out, so this returns.
    """
    due, total = recorder.due, len(recorder.due)
    row = 0
    next_sweep, next_tick = _SWEEP_S, tick_s
    while row < total or recorder.finished < total:
        now_s = clock()
        while row < total and due[row] <= now_s:
            recorder.hand(row, now_s)
            client.send(row)
            row += 1
            now_s = clock()
        wait_s = _LONGEST_WAIT_S
        if row < total:
            wait_s = min(wait_s, due[row] - now_s)
        client.poll(wait_s)
        if now_s >= next_sweep:
            client.expire(clock())
            next_sweep = now_s + _SWEEP_S
        if now_s >= next_tick:
            tick(now_s, recorder)
            next_tick = now_s + tick_s


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed loop.

    Attributes:
        concurrency: requests kept in flight (>= 1).
        duration_s: how long new ones are started (> 0).
    """

    concurrency: int
    duration_s: float

    def __post_init__(self) -> None:
        if self.concurrency < 1 or not self.duration_s > 0:
            raise ValueError(
                f"a closed loop of {self.concurrency} requests for {self.duration_s} s: both must be over 0"
            )


def closed_loop(
    client: Client,
    recorder: Recorder,
    clock: Clock,
    plan: Closed,
    *,
    tick: Tick = silent,
    tick_s: float = 0.25,
) -> None:
    """Keep ``plan.concurrency`` requests in flight until ``plan.duration_s``; return when all have ended."""
    next_sweep, next_tick = _SWEEP_S, tick_s
    while True:
        now_s = clock()
        if now_s >= plan.duration_s or recorder.handed >= _ROW_LIMIT:
            if recorder.finished == recorder.handed:
                return
        else:
            for _ in range(plan.concurrency - recorder.handed + recorder.finished):
                now_s = clock()
                row = recorder.add(now_s)
                recorder.hand(row, now_s)
                client.send(row)
        client.poll(_LONGEST_WAIT_S)
        if now_s >= next_sweep:
            client.expire(clock())
            next_sweep = now_s + _SWEEP_S
        if now_s >= next_tick:
            tick(now_s, recorder)
            next_tick = now_s + tick_s
