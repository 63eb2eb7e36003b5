"""The HTTP client against real sockets on the loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from loopback import Answer, answer

from loadtest import arrivals, pacing
from loadtest.client import ClientOptions, Target, Unreachable
from loadtest.client_http import HttpClient, prepare
from loadtest.measure import (
    BAD_ANSWER,
    CONNECT_FAILED,
    FALLBACK,
    LOST,
    MODEL,
    NEVER_SENT,
    TIMED_OUT,
    Recorder,
    Samples,
)

pytestmark = pytest.mark.timeout(30)
OPTIONS = ClientOptions(connections=8, preopen=1, timeout_s=5.0)


def drive(
    target: Target, count: int = 40, *, options: ClientOptions = OPTIONS, rate: float = 400, bodies: int = 40
) -> tuple[Samples, HttpClient]:
    recorder = Recorder(arrivals.constant(arrivals.steady(rate, count / rate)))
    clock = pacing.clock_from(time.monotonic())
    wires = prepare(target, [b'{"number": %d}' % number for number in range(bodies)], {"x-test": "yes"})
    client = HttpClient(target, wires, recorder, clock, options)
    try:
        client.open()
        pacing.open_loop(client, recorder, clock)
    finally:
        client.close()
    return recorder.samples(), client


def number_in(request: bytes) -> int:
    return int(request.rsplit(b": ", 1)[1].rstrip(b"}"))


def test_every_request_gets_its_own_answer(http_server: Callable[[Answer], Target]) -> None:
    """Statuses and tiers land on the request that they belong to, on kept connections."""

    def respond(request: bytes) -> bytes:
        assert b"POST /v1/recommendations HTTP/1.1" in request
        assert b"x-test: yes" in request
        number = number_in(request)
        if number % 4 == 0:
            return answer(b"{}", 429, "Retry-After: 1")
        return answer(b'{"served_by":"%s"}' % (b"model" if number % 4 == 1 else b"fallback"))

    samples, client = drive(http_server(respond))

    assert [status == 429 for status in samples.status] == [number % 4 == 0 for number in range(40)]
    expected = [0 if number % 4 == 0 else MODEL if number % 4 == 1 else FALLBACK for number in range(40)]
    assert samples.tier.tolist() == expected
    assert np.all(samples.ended_s >= samples.due_s)
    assert client.stats.connections_opened <= 8


def test_chunked_and_closing_answers_are_understood(http_server: Callable[[Answer], Target]) -> None:
    """A server may stream, or close after each answer, or mark the end by closing."""
    shapes = [
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n14\r\n{"served_by":"model"}'[:-1]
        + b"\r\n0\r\n\r\n",
        answer(b"{}", 200, "Connection: close"),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        answer(b"x" * 600_000),
    ]

    samples, client = drive(http_server(lambda request: shapes[number_in(request) % 4]), rate=200)

    assert samples.statuses() == {"200": 40}
    assert client.stats.connections_opened > 8


def test_a_connection_closed_without_an_answer_is_a_failure(http_server: Callable[[Answer], Target]) -> None:
    """A dropped request is infinitely slow, and its neighbours are not harmed."""
    samples, _ = drive(http_server(lambda request: None if number_in(request) == 5 else answer(b"{}")))

    assert samples.status.tolist().count(LOST) == 1
    assert samples.status[5] == LOST
    assert samples.latency_s[5] == np.inf


def test_garbage_is_a_failure(http_server: Callable[[Answer], Target]) -> None:
    """An answer that is no HTTP is counted as such."""
    samples, _ = drive(http_server(lambda request: b"* OK IMAP4 ready\r\n\r\n"), count=5)

    assert set(samples.status.tolist()) == {BAD_ANSWER}


def test_a_server_that_never_answers_times_out_with_bounded_connections(
    http_server: Callable[[Answer], Target],
) -> None:
    """Every request ends by its time-out: those sent, and those that never found a free connection."""
    samples, client = drive(http_server(lambda request: b""), options=replace(OPTIONS, timeout_s=0.3))

    assert set(samples.status.tolist()) == {TIMED_OUT, NEVER_SENT}
    assert client.stats.in_flight_max == 8
    assert client.stats.waited_for_connection >= 32
    assert float(samples.elapsed_s.max()) < 3


def test_waiting_for_a_connection_counts_from_the_intended_time(
    http_server: Callable[[Answer], Target],
) -> None:
    """With one connection and a server that answers one at a time, the wait in our own queue is latency."""

    def slow(request: bytes) -> bytes:
        time.sleep(0.01)  # the server's work, not a synchronisation
        return answer(b"{}")

    samples, _ = drive(http_server(slow), count=20, rate=2000, options=replace(OPTIONS, connections=1))

    assert samples.statuses() == {"200": 20}
    assert float(samples.latency_s[-1]) > 0.15


def test_nobody_listening_is_said_before_the_run() -> None:
    """A wrong port is one sentence and not a report full of failures."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    with pytest.raises(Unreachable, match="is the server running"):
        drive(Target("http", "127.0.0.1", port, "/"))


def test_a_server_that_goes_away_fails_the_rest_quickly() -> None:
    """Refused connections are counted one by one; the run ends."""
    recorder = Recorder(arrivals.constant(arrivals.steady(1000, 0.3)))
    clock = pacing.clock_from(time.monotonic())
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        target = Target("http", "127.0.0.1", server.getsockname()[1], "/")
        client = HttpClient(target, prepare(target, [b"{}"], {}), recorder, clock, OPTIONS)
        client.open()
    pacing.open_loop(client, recorder, clock)
    client.close()

    samples = recorder.samples()
    assert recorder.finished == len(recorder.due) == 300
    assert set(samples.status.tolist()) <= {CONNECT_FAILED, LOST}
    assert float(samples.elapsed_s.max()) < 2
