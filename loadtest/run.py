"""Runs one plan: makes clients, shares the schedule between processes, gives back what was measured.

With several processes the schedule is dealt out like cards, so together they send exactly the one schedule;
all count from the same moment on the machine's monotonic clock.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from loadtest import pacing, usage
from loadtest.arrivals import Times
from loadtest.client import Client, ClientStats, Clock, Unreachable
from loadtest.client_http import HttpClient, prepare
from loadtest.measure import Recorder, Samples, joined
from loadtest.plan import Plan

_LEAD_S = 0.05


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is, for a progress line."""

    now_s: float
    handed: int
    finished: int
    succeeded: int
    refused: int


Watcher = Callable[[Counts], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run measured.

    Attributes:
        samples: rows of the measured time only, times counted from its start.
        stats: of the clients, added up.
        used: see ``usage.between``; over the whole run with its warm-up.
        wall_s: how long the whole run took.
        ok_in_all: answers with success over the whole run with its warm-up.
    """

    samples: Samples
    stats: ClientStats
    used: dict[str, float | None]
    wall_s: float
    ok_in_all: int


def make_client(plan: Plan, recorder: Recorder, clock: Clock) -> Client:
    """The client for the plan's protocol."""
    if plan.target.protocol == "http":
        wires = prepare(plan.target, plan.bodies, dict(plan.options.headers))
        return HttpClient(plan.target, wires, recorder, clock, plan.options)
    from loadtest.client_grpc import GrpcClient, serialize  # the stubs are needed for gRPC only

    return GrpcClient(plan.target, serialize(plan.bodies), recorder, clock, plan.options)


def run_plan(plan: Plan, *, watch: Watcher | None = None, server_pid: int | None = None) -> Outcome:
    """Run a plan to its end.

    Args:
        plan: what to do.
        watch: told four times a second how far it is.
        server_pid: process whose tree is the server, to know what it cost.

    Raises:
        Unreachable: no connection could be made.
    """
    before = usage.read(server_pid)
    schedule = plan.schedule() if plan.closed is None else None
    if plan.processes == 1:
        samples, stats = _generate(plan, schedule, watch, lambda: time.monotonic() + _LEAD_S)
    else:
        samples, stats = _generate_together(plan, schedule, watch)
    after = usage.read(server_pid)
    return Outcome(
        samples=samples.between(plan.effective_warmup_s),
        stats=stats,
        used=usage.between(before, after),
        wall_s=after.at_s - before.at_s,
        ok_in_all=int(samples.ok.sum()),
    )


def _generate(
    plan: Plan, schedule: Times | None, watch: Watcher | None, when: Callable[[], float]
) -> tuple[Samples, ClientStats]:
    recorder = Recorder(schedule)
    origin = [time.monotonic()]

    def clock() -> float:
        return time.monotonic() - origin[0]

    client = make_client(plan, recorder, clock)
    try:
        client.open()
        origin[0] = when()
        tick = _ticker(watch)
        with pacing.no_collector():
            time.sleep(max(0.0, -clock() - 0.005))
            if plan.closed is None:
                pacing.open_loop(client, recorder, clock, tick=tick, nap_s=plan.nap_s)
            else:
                closed = pacing.Closed(plan.closed.concurrency, plan.closed.duration_s + plan.warmup_s)
                pacing.closed_loop(client, recorder, clock, closed, tick=tick, nap_s=plan.nap_s)
    finally:
        client.close()
    return recorder.samples(), client.stats


def _ticker(watch: Watcher | None) -> pacing.Tick:
    if watch is None:
        return pacing.silent

    def tick(now_s: float, recorder: Recorder) -> None:
        watch(Counts(now_s, recorder.handed, recorder.finished, recorder.succeeded, recorder.refused))

    return tick


def _generate_together(
    plan: Plan, schedule: Times | None, watch: Watcher | None
) -> tuple[Samples, ClientStats]:
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    shared = context.Array("q", 4 * plan.processes, lock=False)
    pipes, workers = [], []
    try:
        for number in range(plan.processes):
            here, there = context.Pipe()
            worker = context.Process(
                target=_work,
                args=(_share(plan, number), _deal(schedule, plan, number), number, shared, there),
                daemon=True,
            )
            worker.start()
            there.close()
            pipes.append(here)
            workers.append(worker)
        for pipe in pipes:
            _receive(pipe)  # connected
        starts_at = time.monotonic() + _LEAD_S
        for pipe in pipes:
            pipe.send(starts_at)
        parts = [_result(pipe, shared, starts_at, watch) for pipe in pipes]
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            worker.join(1.0)
            worker.terminate()
            worker.join()
    stats = ClientStats(*(sum(column) for column in zip(*(astuple(part) for _, part in parts), strict=True)))
    return joined([samples for samples, _ in parts]), stats


def _receive(pipe: Connection[Any, Any]) -> Any:
    try:
        message = pipe.recv()
    except EOFError as error:
        raise RuntimeError("a generator process ended without a result; its message is above") from error
    if isinstance(message, Exception):
        raise message
    return message


def _result(
    pipe: Connection[Any, Any], shared: Any, starts_at: float, watch: Watcher | None
) -> tuple[Samples, ClientStats]:
    while not pipe.poll(0.25):
        if watch is not None:
            totals = np.array(shared[:]).reshape(-1, 4).sum(axis=0).tolist()
            watch(Counts(time.monotonic() - starts_at, *totals))
    samples, stats = _receive(pipe)
    return samples, stats


def _work(plan: Plan, schedule: Times | None, number: int, shared: Any, pipe: Connection[Any, Any]) -> None:
    def watch(counts: Counts) -> None:
        shared[4 * number : 4 * number + 4] = [
            counts.handed,
            counts.finished,
            counts.succeeded,
            counts.refused,
        ]

    def when() -> float:
        pipe.send("connected")
        return float(pipe.recv())

    try:
        pipe.send(_generate(plan, schedule, watch, when))
    except Unreachable as error:
        pipe.send(error)


def _deal(schedule: Times | None, plan: Plan, number: int) -> Times | None:
    return None if schedule is None else schedule[number :: plan.processes].copy()


def _share(plan: Plan, number: int) -> Plan:
    """The part of one process: its bodies, its connections, its share of a closed loop."""
    parts = plan.processes
    options = replace(
        plan.options,
        connections=max(1, plan.options.connections // parts),
        preopen=max(1, plan.options.preopen // parts),
    )
    closed = None
    if plan.closed is not None:
        mine = plan.closed.concurrency // parts + (number < plan.closed.concurrency % parts)
        closed = pacing.Closed(max(1, mine), plan.closed.duration_s)
    bodies = plan.bodies[number::parts] or plan.bodies
    return replace(plan, options=options, closed=closed, bodies=bodies)
