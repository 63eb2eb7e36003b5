"""The pacing loop in virtual time: what a stalled server and a slow generator look like."""

from __future__ import annotations

import heapq

import numpy as np

from loadtest import arrivals, pacing, slo
from loadtest.client import ClientStats
from loadtest.measure import MODEL, Recorder
from loadtest.slo import Verdict
from loadtest.summary import evidence_of, summarise


class VirtualServer:
    """A client whose server answers after ``service_s``, except that nothing is answered during the stall.

    Time moves only in ``poll`` (to what comes next) and by ``cost_s`` for each request sent.
    """

    def __init__(
        self, recorder: Recorder, *, service_s: float, stall: tuple[float, float] = (0, 0), cost_s: float = 0
    ) -> None:
        self.stats = ClientStats()
        self.now_s = 0.0
        self._recorder, self._service_s, self._stall, self._cost_s = recorder, service_s, stall, cost_s
        self._answers: list[tuple[float, int]] = []

    def clock(self) -> float:
        return self.now_s

    def open(self) -> None: ...

    def send(self, row: int) -> None:
        self.now_s += self._cost_s
        done_s = self.now_s + self._service_s
        if self._stall[0] <= done_s < self._stall[1]:
            done_s = self._stall[1]
        heapq.heappush(self._answers, (done_s, row))

    def poll(self, timeout_s: float) -> None:
        until_s = self.now_s + max(timeout_s, 0)
        if self._answers and self._answers[0][0] <= until_s:
            self.now_s = max(self.now_s, self._answers[0][0])
            while self._answers and self._answers[0][0] <= self.now_s:
                self._recorder.end(heapq.heappop(self._answers)[1], 200, MODEL, self.now_s)
        else:
            self.now_s = until_s + 1e-9

    def expire(self, now_s: float) -> None: ...

    def close(self) -> None: ...


def test_a_stall_is_charged_to_everyone_who_would_have_come() -> None:
    """A server that stands still for a second at 100/s made a hundred shoppers wait, half of them over half a second."""
    recorder = Recorder(arrivals.constant(arrivals.steady(100, 5)))
    server = VirtualServer(recorder, service_s=0.001, stall=(2.0, 3.0))

    pacing.open_loop(server, recorder, server.clock)

    samples = recorder.samples()
    assert np.sum(samples.latency_s > 0.5) in range(48, 52)
    judged = slo.judge(slo.parse_objective("p99=20ms"), evidence_of(samples, offered_rps=100, open_loop=True))
    assert judged.verdict is Verdict.FAIL
    line = summarise(samples, 5.0, within_s=0.02)["timeline"]
    assert line["offered"][25] == 10
    assert line["answered"][25] == 0
    assert line["good"][25] == 0
    assert max(line["max_ms"][20:30]) > 900


def test_a_slow_generator_knows_that_it_is_late() -> None:
    """When sending costs more time than there is between requests, the verdict is refused and not blamed on the server."""
    recorder = Recorder(arrivals.constant(arrivals.steady(1000, 2)))
    server = VirtualServer(recorder, service_s=0.001, cost_s=0.002)

    pacing.open_loop(server, recorder, server.clock)

    judged = slo.judge(
        slo.parse_objective("p99=20ms"), evidence_of(recorder.samples(), offered_rps=1000, open_loop=True)
    )
    assert judged.verdict is Verdict.UNDECIDABLE
    assert judged.late


def test_requests_are_handed_over_when_they_are_due() -> None:
    """An idle generator is on time to a microsecond of its clock."""
    recorder = Recorder(arrivals.poisson(arrivals.steady(500, 4), np.random.default_rng(3)))
    server = VirtualServer(recorder, service_s=0.01)

    pacing.open_loop(server, recorder, server.clock)

    samples = recorder.samples()
    assert float(samples.late_s.max()) < 1e-6
    assert np.all(samples.sent_s >= samples.due_s - 1e-6)
    assert recorder.finished == len(recorder.due)


def test_naps_are_taken_at_high_rates_only_and_are_part_of_every_latency() -> None:
    """At 3,000/s answers of 1 ms come 1 to 1.25 ms after they were due; at 500/s nothing is gathered."""
    for rate, longest_s, naps_at_least in ((3000, 0.00152, 2000), (500, 0.001001, 0)):
        recorder = Recorder(arrivals.constant(arrivals.steady(rate, 2)))
        server = VirtualServer(recorder, service_s=0.001)
        naps: list[float] = []

        def sleep(time_s: float, server: VirtualServer = server, naps: list[float] = naps) -> None:
            naps.append(time_s)
            server.now_s += time_s

        pacing.open_loop(server, recorder, server.clock, nap_s=250e-6, sleep=sleep)

        samples = recorder.samples()
        assert float(samples.late_s.max()) <= 251e-6
        assert float(samples.elapsed_s.max()) <= longest_s
        assert (len(naps) >= naps_at_least) if naps_at_least else not naps
        assert recorder.finished == len(recorder.due)


def test_a_closed_loop_keeps_its_number_in_flight() -> None:
    """Eight in flight at 10 ms each make 800 a second, and all end."""
    recorder = Recorder()
    server = VirtualServer(recorder, service_s=0.01)

    pacing.closed_loop(server, recorder, server.clock, pacing.Closed(8, 2.0))

    assert len(recorder.due) in range(1590, 1611)
    assert recorder.finished == recorder.handed == len(recorder.due)
