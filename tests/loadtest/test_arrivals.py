"""Arrivals keep the rate that was asked for, whatever the shape."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import arrivals
from loadtest.arrivals import Profile, Segment

rates = st.floats(0, 3000)
segments = st.builds(Segment, st.floats(0.05, 5), rates, rates)
profiles = st.lists(segments, min_size=1, max_size=5).map(tuple)
seeds = st.integers(0, 2**32)


def _expected(profile: Profile, until_s: float) -> float:
    total, start = 0.0, 0.0
    for segment in profile:
        length = min(max(until_s - start, 0.0), segment.duration_s)
        slope = (segment.end_rps - segment.start_rps) / segment.duration_s
        total += segment.start_rps * length + slope * length**2 / 2
        start += segment.duration_s
    return total


@given(profiles, seeds)
def test_times_are_ascending_and_inside_the_run(profile: Profile, seed: int) -> None:
    """No request is meant for before the start, after the end, or out of order."""
    for times in (arrivals.poisson(profile, np.random.default_rng(seed)), arrivals.constant(profile)):
        assert np.all(np.diff(times) >= 0)
        assert np.all((times >= 0) & (times < arrivals.duration_of(profile)))


@given(profiles, seeds)
def test_the_same_seed_gives_the_same_load(profile: Profile, seed: int) -> None:
    """A run can be repeated exactly."""
    first = arrivals.poisson(profile, np.random.default_rng(seed))
    second = arrivals.poisson(profile, np.random.default_rng(seed))

    assert np.array_equal(first, second)


@given(profiles, st.floats(0, 1))
def test_even_spacing_follows_the_profile_everywhere(profile: Profile, share: float) -> None:
    """At any moment as many requests were sent as the profile's area up to there says, give or take one."""
    times = arrivals.constant(profile)

    until_s = share * arrivals.duration_of(profile)

    assert abs(int(np.searchsorted(times, until_s)) - _expected(profile, until_s)) <= 1 + 1e-6


@settings(max_examples=50)
@given(profiles, seeds, st.floats(0.1, 1))
def test_poisson_follows_the_profile_within_its_noise(profile: Profile, seed: int, share: float) -> None:
    """The count up to any moment is the profile's area up to there, within six standard deviations."""
    times = arrivals.poisson(profile, np.random.default_rng(seed))

    until_s = share * arrivals.duration_of(profile)
    expected = _expected(profile, until_s)

    assert abs(int(np.searchsorted(times, until_s)) - expected) <= 6 * math.sqrt(expected) + 6


def test_poisson_gaps_are_exponential() -> None:
    """Arrivals bunch as independent shoppers do: the gaps' deviation equals their mean."""
    gaps = np.diff(arrivals.poisson(arrivals.steady(1000, 60), np.random.default_rng(7)))

    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.03)


@given(st.floats(0.2, 5), st.floats(0.01, 0.99), st.floats(0.5, 20))
def test_bursts_fill_the_run_exactly(every_s: float, share: float, duration_s: float) -> None:
    """A burst profile is as long as asked, and only ever has the two rates."""
    profile = arrivals.burst(10, 100, every_s=every_s, burst_s=every_s * share, duration_s=duration_s)

    assert arrivals.duration_of(profile) == pytest.approx(duration_s)
    assert {segment.start_rps for segment in profile} <= {10, 100}


def test_steps_read_as_written() -> None:
    """``5s@1000,30s@5000`` is five seconds at a thousand, then thirty at five thousand."""
    assert arrivals.parse_steps("5s@1000, 30@5000rps") == (Segment(5, 1000, 1000), Segment(30, 5000, 5000))


@pytest.mark.parametrize("text", ["", "5s", "5s@", "x@5", "-1s@5", "5s@-1", "nan@5"])
def test_bad_steps_are_refused(text: str) -> None:
    """A step that cannot be meant is an error and not a guess."""
    with pytest.raises(ValueError):
        arrivals.parse_steps(text)


def test_a_trace_is_replayed_in_order_from_zero(tmp_path: Path) -> None:
    """Unix times in any order become seconds from the first, and each body stays with its time."""
    path = tmp_path / "trace.jsonl"
    path.write_text('# monday\n{"t": 1700000002, "body": {"k": 2}}\n\n{"t": 1700000000, "body": {"k": 1}}\n')

    trace = arrivals.read_trace(path, speed=2)

    assert trace.times_s.tolist() == [0.0, 1.0]
    assert trace.bodies == (b'{"k":1}', b'{"k":2}')


@pytest.mark.parametrize("text", ["", "abc", "inf", '{"t": "x"}', '{"body": {}}', '{"t": 1, "body": {}}\n2'])
def test_a_bad_trace_names_its_file(tmp_path: Path, text: str) -> None:
    """A line that cannot be replayed is refused and found again."""
    path = tmp_path / "trace.txt"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"trace\.txt"):
        arrivals.read_trace(path)
