"""The search against servers whose capacity is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.find import Search, SearchLimits
from loadtest.slo import Verdict

LIMITS = SearchLimits(start_rps=200, least_rps=10, most_rps=20_000, tolerance=0.05, attempts=2)


def _search(limits: SearchLimits, probe: object) -> tuple[Search, int]:
    search, probes = Search(limits), 0
    while (rate := search.next_rate()) is not None:
        assert limits.least_rps <= rate <= limits.most_rps
        search.tell(rate, probe(rate))  # type: ignore[operator]
        probes += 1
        assert probes < 100, "a search ends"
    return search, probes


@given(st.floats(10, 20_000))
def test_it_finds_the_capacity_of_a_steady_server(capacity: float) -> None:
    """What is found passed, and the true limit is within the tolerance above it."""
    search, probes = _search(LIMITS, lambda rate: Verdict.PASS if rate <= capacity else Verdict.FAIL)

    assert search.passed_rps <= capacity
    assert search.passed_rps >= capacity / 1.06 or search.passed_rps == 20_000
    assert probes <= 32


def test_a_server_that_never_passes_has_no_rate() -> None:
    """Nothing passed is said as nothing, after trying down to the least."""
    search, _ = _search(LIMITS, lambda rate: Verdict.FAIL)

    assert search.passed_rps == 0
    assert search.missed_rps == 10


def test_undecidable_is_never_a_pass() -> None:
    """A rate that the generator could not offer on time is not one the server held."""
    search, _ = _search(LIMITS, lambda rate: Verdict.PASS if rate < 1000 else Verdict.UNDECIDABLE)

    assert search.passed_rps < 1000


def test_one_unlucky_probe_does_not_end_it() -> None:
    """A rate is given up only when every attempt missed."""
    seen: dict[float, int] = {}

    def flaky(rate: float) -> Verdict:
        seen[rate] = seen.get(rate, 0) + 1
        return Verdict.FAIL if rate > 1500 or seen[rate] == 1 else Verdict.PASS

    search, _ = _search(LIMITS, flaky)

    assert search.passed_rps > 1400


@given(st.integers(0, 2**32), st.floats(20, 15_000))
def test_it_ends_whatever_the_noise(seed: int, capacity: float) -> None:
    """A server that answers at random near its limit cannot keep the search busy for ever."""
    chance = random.Random(seed)

    def noisy(rate: float) -> Verdict:
        return Verdict.PASS if rate * chance.uniform(0.8, 1.25) <= capacity else Verdict.FAIL

    search, _ = _search(LIMITS, noisy)

    assert search.passed_rps <= capacity * 1.26


@pytest.mark.parametrize(
    "wrong",
    [{"start_rps": 5.0}, {"most_rps": 100.0}, {"tolerance": 0.0}, {"attempts": 0}, {"least_rps": 0.0}],
)
def test_impossible_bounds_are_refused(wrong: dict[str, float]) -> None:
    """A search that could not begin or end is an error that names the bound."""
    with pytest.raises(ValueError):
        SearchLimits(**wrong)  # type: ignore[arg-type]
