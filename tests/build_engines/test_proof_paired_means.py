"""Paired verdicts: same is a pass, much worse a fail, too few undecidable."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engines.evaluation.metrics import NOT_FOUND, per_case
from build_engines.proof.paired_means import PairedVerdict, paired_verdict

Values = npt.NDArray[np.float64]


def ndcg(n: int, seed: int = 0) -> Values:
    """NDCG@10 of a model that finds a tenth of its targets in the first ten."""
    ranks = np.random.default_rng(seed).integers(1, 101, n).astype(np.int32)
    return per_case(ranks)["ndcg@10"]


def judged(parent: Values, candidate: Values, limit: float = 0.01) -> PairedVerdict:
    return paired_verdict(parent, candidate, metric="ndcg@10", limit=limit)


def test_a_model_that_answers_alike_passes() -> None:
    """Twenty thousand equal answers: the loss is 0 and surely below 1 %."""
    verdict = judged(ndcg(20_000), ndcg(20_000))

    assert (verdict.verdict, verdict.relative_loss) == ("pass", 0.0)
    assert verdict.n_to_decide is not None
    assert verdict.n_to_decide <= 20_000


def test_a_model_that_lost_half_its_hits_fails() -> None:
    """Half the quality gone is a fail, with the figures in the sentence."""
    parent = ndcg(20_000)
    verdict = judged(parent, parent * (np.arange(20_000) % 2))

    assert verdict.verdict == "fail"
    assert verdict.relative_loss == pytest.approx(0.5, abs=0.05)
    assert verdict.ci_low < verdict.relative_loss < verdict.ci_high
    assert not verdict.passed
    assert "limit 1.00%, n = 20000: fail" in verdict.sentence()


@pytest.mark.parametrize("n", [1, 5, 60, 400])
def test_few_users_decide_nothing_even_when_all_agree(n: int) -> None:
    """Nobody differs among a few: that does not show that nobody differs; the verdict says how many would."""
    parent = np.maximum(ndcg(n), 0.05)[:n] * (np.arange(n) % 10 == 0)
    verdict = judged(parent, parent)

    assert verdict.verdict == "undecidable"
    assert verdict.n_to_decide is not None
    assert verdict.n_to_decide > n
    assert f"about {verdict.n_to_decide} cases would decide" in verdict.sentence()


def test_the_number_that_would_decide_decides() -> None:
    """Given that many users of the same kind, the verdict is no longer open."""

    def pair(n: int) -> tuple[Values, Values]:
        parent, coin = ndcg(n), np.random.default_rng(1).random(n)
        return parent, np.where(coin < 0.05, ndcg(n, seed=2), parent)

    few = judged(*pair(3_000), limit=0.04)
    assert few.verdict == "undecidable"
    assert few.n_to_decide is not None
    many = judged(*pair(4 * few.n_to_decide), limit=0.04)

    assert many.verdict == "pass"


def test_pairing_decides_what_separate_means_cannot() -> None:
    """A few users in a hundred differ: the interval is several times narrower than that of unrelated answers."""
    parent, other = ndcg(20_000), ndcg(20_000, seed=5)
    swapped = np.where(np.random.default_rng(1).random(20_000) < 0.02, other, parent)

    paired, separate = judged(parent, swapped), judged(parent, other)

    assert (separate.ci_high - separate.ci_low) > 4 * (paired.ci_high - paired.ci_low)


def test_a_limit_of_zero_asks_to_be_better() -> None:
    """The floor's question: equal is not enough, clearly better is."""
    floor = ndcg(20_000)

    assert judged(floor, floor, limit=0.0).verdict == "undecidable"
    assert judged(floor, np.minimum(floor * 1.2, 1.0), limit=0.0).verdict == "pass"
    assert judged(floor, floor * 0.8, limit=0.0).verdict == "fail"


@pytest.mark.parametrize("n", [0, 1, 100])
def test_a_parent_that_finds_nothing_decides_nothing(n: int) -> None:
    """Relative to nothing there is no loss; NaN is never a pass."""
    verdict = judged(np.zeros(n), np.ones(n))

    assert verdict.verdict == "undecidable"
    assert math.isnan(verdict.relative_loss)
    assert verdict.n_to_decide is None
    assert "no number of cases" in verdict.sentence()


def test_the_same_seed_gives_the_same_interval() -> None:
    """A verdict can be checked by anybody."""
    assert judged(ndcg(5_000), ndcg(5_000, 1)) == judged(ndcg(5_000), ndcg(5_000, 1))


@pytest.mark.parametrize(
    ("parent", "candidate"), [([0.1], [0.1, 0.2]), ([math.nan], [0.1]), ([0.1], [math.inf]), ([-0.1], [0.1])]
)
def test_values_that_are_no_metric_are_refused(parent: list[float], candidate: list[float]) -> None:
    """NaN, infinity, a negative value, another number of users: an error, never a verdict."""
    with pytest.raises(ValueError, match="ndcg@10"):
        judged(np.array(parent), np.array(candidate))


ranks = st.lists(st.one_of(st.integers(1, 20), st.just(NOT_FOUND)), min_size=1, max_size=50)


@settings(deadline=None)
@given(ranks, ranks, st.floats(-0.5, 0.5))
def test_a_verdict_is_what_its_interval_says(one: list[int], two: list[int], limit: float) -> None:
    """Pass: all of it below the limit. Fail: all above. The interval always holds the loss."""
    n = min(len(one), len(two))
    parent, candidate = (per_case(np.array(some[:n], np.int32))["ndcg@10"] for some in (one, two))

    verdict = judged(parent, candidate, limit)

    assert verdict.passed == (verdict.ci_high < limit)
    assert (verdict.verdict == "fail") == (verdict.ci_low > limit)
    if not math.isnan(verdict.relative_loss):
        assert verdict.ci_low - 1e-9 <= verdict.relative_loss <= verdict.ci_high + 1e-9
