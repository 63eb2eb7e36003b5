"""Verdicts: what counts as evidence, and what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import slo
from loadtest.report_json import EXIT_FAIL, EXIT_LATE, EXIT_PASS, EXIT_UNDECIDABLE, exit_code
from loadtest.slo import Evidence, Verdict


def evidence(
    latency_ms: object,
    *,
    late_ms: float = 0.0,
    rate: float = 500,
    by_model: int = 0,
    known: int = 0,
    is_open: bool = True,
) -> Evidence:
    latency = np.asarray(latency_ms, dtype=np.float64) / 1e3
    ok = int(np.isfinite(latency).sum())
    return Evidence(latency, np.full(len(latency), late_ms / 1e3), rate, ok, by_model, known, is_open)


@given(
    st.sampled_from(["50", "90", "99", "99.9"]),
    st.integers(1, 10_000),
    st.sampled_from(["us", "ms", "s"]),
    st.integers(1, 9999),
)
def test_an_objective_reads_as_written(percentile: str, limit: int, unit: str, rate: int) -> None:
    """Percentile, limit, unit and rate come out as they went in."""
    read = slo.parse_objective(f"p{percentile}={limit}{unit}@{rate}rps")

    assert read.quantile == pytest.approx(float(percentile) / 100)
    assert read.limit_s == pytest.approx(limit * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit])
    assert read.rate_rps == rate


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing typed on a command line ends in a stack trace."""
    try:
        slo.parse_objective(text)
    except ValueError as error:
        assert "p99=20ms@500rps" in str(error) or "must" in str(error)


@pytest.mark.parametrize(
    "text",
    ["p99", "p100=1ms", "p0=1ms", "p99=0ms", "p99=20", "p99=20ms@0rps", "ok=0%", "ok=101%", "p99=-1ms"],
)
def test_impossible_objectives_are_refused(text: str) -> None:
    """An objective that could not be failed or met is an error."""
    with pytest.raises(ValueError):
        slo.parse_objective(text)


def test_a_percentile_within_its_limit_passes() -> None:
    """Ten of a thousand may miss a p99."""
    judged = slo.judge(slo.parse_objective("p99=20ms@500rps"), evidence([5] * 990 + [80] * 10))

    assert judged.verdict is Verdict.PASS


def test_one_miss_too_many_fails() -> None:
    """Eleven of a thousand may not."""
    judged = slo.judge(slo.parse_objective("p99=20ms@500rps"), evidence([5] * 989 + [80] * 11))

    assert judged.verdict is Verdict.FAIL
    assert "80.00 ms" in judged.reason


def test_a_request_without_success_is_infinitely_slow() -> None:
    """Refusing 2 % at once does not make a p99 good."""
    judged = slo.judge(slo.parse_objective("p99=20ms"), evidence([1] * 980 + [math.inf] * 20))

    assert judged.verdict is Verdict.FAIL
    assert judged.observed == math.inf


def test_a_late_generator_is_refused_a_verdict_and_says_so_by_its_exit_code() -> None:
    """When the tester itself was 3 ms late, 20 ms at p99 is not its to judge."""
    judged = slo.judge(slo.parse_objective("p99=20ms"), evidence([5] * 1000, late_ms=3))

    assert judged.verdict is Verdict.UNDECIDABLE
    assert judged.late
    assert exit_code((judged,)) == EXIT_LATE


def test_lateness_within_a_tenth_of_the_limit_is_allowed() -> None:
    """2 ms late of 20 ms is the most that is let through."""
    assert slo.judge(slo.parse_objective("p99=20ms"), evidence([5] * 1000, late_ms=2)).verdict is Verdict.PASS


def test_too_few_requests_never_pass() -> None:
    """A p99 of a hundred requests is a guess; the sentence says how many would do."""
    judged = slo.judge(slo.parse_objective("p99=20ms"), evidence([1] * 100))

    assert judged.verdict is Verdict.UNDECIDABLE
    assert "500" in judged.reason
    assert exit_code((judged,)) == EXIT_UNDECIDABLE


def test_few_requests_can_still_fail() -> None:
    """When half of fifty miss a p99, no more are needed."""
    assert slo.judge(slo.parse_objective("p99=20ms"), evidence([1] * 25 + [90] * 25)).verdict is Verdict.FAIL


def test_another_rate_is_no_evidence() -> None:
    """A promise about 500 requests/s is not tested by 100."""
    assert (
        slo.judge(slo.parse_objective("p99=20ms@500rps"), evidence([1] * 1000, rate=100)).verdict
        is Verdict.UNDECIDABLE
    )


def test_a_closed_loop_is_no_evidence() -> None:
    """Latency of a loop that waits for the server hides the waiting."""
    assert (
        slo.judge(slo.parse_objective("p99=20ms"), evidence([1] * 1000, is_open=False)).verdict
        is Verdict.UNDECIDABLE
    )


def test_answers_of_the_fallback_tier_can_fail_an_objective() -> None:
    """A quick fallback is not the model."""
    objective = slo.parse_objective("model=95%")

    assert slo.judge(objective, evidence([1] * 1000, by_model=960, known=1000)).verdict is Verdict.PASS
    assert slo.judge(objective, evidence([1] * 1000, by_model=940, known=1000)).verdict is Verdict.FAIL
    assert slo.judge(objective, evidence([1] * 1000, by_model=960, known=990)).verdict is Verdict.UNDECIDABLE


def test_nothing_offered_is_undecidable() -> None:
    """No requests, no verdict, no crash."""
    for text in ("p99=20ms", "ok=99%", "model=90%"):
        assert slo.judge(slo.parse_objective(text), evidence([])).verdict is Verdict.UNDECIDABLE


def test_the_worst_verdict_decides() -> None:
    """FAIL outweighs UNDECIDABLE outweighs PASS."""
    good, bad = evidence([1] * 1000), evidence([99] * 1000)
    passed = slo.judge(slo.parse_objective("p99=20ms"), good)
    failed = slo.judge(slo.parse_objective("p99=20ms"), bad)
    unknown = slo.judge(slo.parse_objective("p99=20ms@900rps"), good)

    assert [exit_code(case) for case in ((), (passed,), (passed, unknown), (unknown, failed))] == [
        EXIT_PASS,
        EXIT_PASS,
        EXIT_UNDECIDABLE,
        EXIT_FAIL,
    ]


@given(st.lists(st.floats(0.1, 100) | st.just(math.inf), min_size=1, max_size=300), st.floats(0.01, 0.999))
def test_a_percentile_is_not_exceeded_by_its_share(values: list[float], quantile: float) -> None:
    """At least that share is within it, and it is the smallest such value."""
    ordered = np.sort(np.array(values))

    value = slo.percentile(ordered, quantile)

    assert np.mean(ordered <= value) >= quantile - 1e-6
    assert np.mean(ordered < value) < quantile + 1e-6


@given(st.integers(500, 5000), st.floats(5, 20), st.integers(0, 2**32))
def test_a_verdict_agrees_with_its_own_percentile(count: int, mean_ms: float, seed: int) -> None:
    """PASS exactly when the observed percentile is within the limit."""
    objective = slo.parse_objective("p99=50ms")

    judged = slo.judge(objective, evidence(np.random.default_rng(seed).exponential(mean_ms, count)))

    assert (judged.verdict is Verdict.PASS) == (judged.observed <= objective.limit_s)
    assert judged.interval_s[0] <= judged.observed <= judged.interval_s[1]
