"""Owns the clock: hands each request to the client when it is due, and lets answers in between.

Open loop: the schedule is fixed beforehand and nothing that the server does moves it; what is late because
the generator was busy is handed over at once and its lateness is in the row.  Closed loop: a fixed number of
requests is kept in flight, which finds saturation and says nothing about latency.

At a high rate the generator naps for a moment after each round instead of waking for every single answer: on a server's
own cores, each of those wake-ups would take the processor from the server in the middle of a send (measured here: twice
the answers a second without them). A nap is part of every latency, which it can only make longer.

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
_BUSY_RPS = 1000.0  # naps begin here: below, there is nothing to gather
_NAP_CONCURRENCY = 32
_AHEAD = 8  # requests over which the coming rate is seen
NAP_S = 250e-6


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
    client: Client,
    recorder: Recorder,
    clock: Clock,
    *,
    tick: Tick = silent,
    tick_s: float = 0.25,
    nap_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send every row of the recorder when it is due; return when all have ended.

    Rows end at the latest by the client's time-out, so this returns.

    Args:
        client: what sends.
        recorder: the schedule, and where results go.
        clock: seconds since the start of the run.
        tick: told every ``tick_s`` how far it is.
        tick_s: see ``tick``.
        nap_s: how long to gather sends and answers while more than a thousand requests a second are due; 0: never.
        sleep: the system's.
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
        if nap_s and row + _AHEAD < total and due[row + _AHEAD] - now_s < _AHEAD / _BUSY_RPS:
            sleep(nap_s)
            wait_s = 0.0
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
    nap_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Keep ``plan.concurrency`` requests in flight until ``plan.duration_s``; return when all have ended.

    Args: see ``open_loop``; this one naps when it keeps enough in flight that the server has work meanwhile.
    """
    next_sweep, next_tick = _SWEEP_S, tick_s
    finished_before = recorder.finished
    naps = nap_s > 0.0 and plan.concurrency >= _NAP_CONCURRENCY
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
        if naps and recorder.finished > finished_before:
            sleep(nap_s)
        finished_before = recorder.finished
        client.poll(_LONGEST_WAIT_S)
        if now_s >= next_sweep:
            client.expire(clock())
            next_sweep = now_s + _SWEEP_S
        if now_s >= next_tick:
            tick(now_s, recorder)
            next_tick = now_s + tick_s
