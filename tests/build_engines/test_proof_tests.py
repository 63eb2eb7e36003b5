"""The tests that decide are held against scipy's own, against their definitions, and against what they promise by chance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from build_engines.proof.holm import holm_adjusted
from build_engines.proof.paired_means import paired_verdict
from build_engines.proof.paired_right import paired_texts, wilson_interval
from build_engines.proof.paired_sums import paired_rise
from build_engines.proof.records import SliceRow
from build_engines.proof.sample_size import examples_to_decide
from build_engines.proof.signed_rank import signed_rank
from build_engines.proof.slices import judged, of_right, script_of, slice_evidence, value_masks

right = st.lists(st.booleans(), min_size=1, max_size=60)


@settings(deadline=None)
@given(right, right)
def test_mcnemar_is_the_binomial_test_of_what_differs(one: list[bool], other: list[bool]) -> None:
    """Exactly scipy's, both sided and one-sided."""
    n = min(len(one), len(other))
    paired = paired_texts(np.array(one[:n]), np.array(other[:n]))
    differ = paired.only_parent + paired.only_candidate

    if differ:
        two = stats.binomtest(min(paired.only_parent, paired.only_candidate), differ, 0.5).pvalue
        worse = stats.binomtest(paired.only_parent, differ, 0.5, alternative="greater").pvalue
        assert paired.p_value == pytest.approx(two, abs=1e-9)
        assert paired.p_worse == pytest.approx(worse, abs=1e-9)
    else:
        assert (paired.p_value, paired.p_worse) == (1.0, 1.0)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int) -> None:
    """As scipy computes it."""
    assume(hits <= n)
    wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")

    low, high = wilson_interval(hits, n, z=float(stats.norm.ppf(0.975)))

    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=3, max_size=40))
def test_signed_ranks_with_ties_are_scipys_normal_form(values: list[int]) -> None:
    """Integers tie; zeros are left out."""
    differences = np.array(values, np.float64)
    assume(np.count_nonzero(differences) >= 3)
    found = signed_rank(differences)
    assume(not found.exact)

    for alternative, got in (("two-sided", found.p_two_sided), ("greater", found.p_above)):
        wanted = stats.wilcoxon(differences, alternative=alternative, method="asymptotic", correction=False)
        assert got == pytest.approx(wanted.pvalue, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=25, unique=True), st.integers(0, 2**32 - 1))
def test_signed_ranks_without_ties_are_scipys_exact_form(sizes: list[int], seed: int) -> None:
    """Counted, not approximated."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(sizes))
    differences = signs * np.array(sizes, np.float64)

    found = signed_rank(differences)

    assert found.exact
    for alternative, got in (("two-sided", found.p_two_sided), ("greater", found.p_above)):
        wanted = stats.wilcoxon(differences, alternative=alternative, method="exact")
        assert got == pytest.approx(wanted.pvalue, abs=1e-9)


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@given(p_values, st.floats(0.001, 0.2))
def test_holm_rejects_what_closed_testing_with_bonferroni_rejects(values: list[float], level: float) -> None:
    """The definition, by brute force: a question is rejected where every set of questions that holds it is."""
    adjusted = holm_adjusted(values)
    everyone = range(len(values))
    sets = [chosen for size in range(1, len(values) + 1) for chosen in itertools.combinations(everyone, size)]
    for one in everyone:
        least = [min(values[other] for other in chosen) * len(chosen) for chosen in sets if one in chosen]
        wanted = min(1.0, max(least))
        assert adjusted[one] == pytest.approx(wanted)
        assert (adjusted[one] <= level) == (wanted <= level) or adjusted[one] == pytest.approx(level)


@given(p_values)
def test_holm_keeps_the_order_and_lowers_nothing(values: list[float]) -> None:
    """What was less likely stays less likely."""
    adjusted = holm_adjusted(values)

    assert all(after >= before for before, after in zip(values, adjusted, strict=True))
    for one, other in itertools.combinations(range(len(values)), 2):
        if values[one] < values[other]:
            assert adjusted[one] <= adjusted[other]


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    """Named by its place."""
    with pytest.raises(ValueError, match="p-value 1 is"):
        holm_adjusted([0.5, wrong])


def _slices(generator: np.random.Generator, count: int) -> list[SliceRow]:
    # A candidate that answers as well as its parent in every slice: whatever is refused is refused falsely.
    rows = []
    for number in range(count):
        parent, candidate = generator.random((2, 300)) < 0.5
        rows.append(of_right(f"slice {number}", "right", parent, candidate, limit_points=0.0))
    return rows


def test_of_twenty_equal_slices_few_models_are_refused_by_chance() -> None:
    """At 2.5 % for all slices together; without the correction it would be about two models in five."""
    generator = np.random.default_rng(0)
    runs = [_slices(generator, 20) for _ in range(400)]

    corrected = np.mean([any(one.verdict == "fail" for one in judged(rows)) for rows in runs])
    plain = np.mean([any(one.p_value <= 0.025 for one in rows) for rows in runs])

    assert corrected <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 400)
    assert plain > 0.2


def test_a_slice_that_is_really_worse_is_found_among_twenty() -> None:
    """Ten points lost in one of them: refused, and no other is."""
    generator = np.random.default_rng(1)
    rows = _slices(generator, 19)
    parent = generator.random(3000) < 0.6
    candidate = parent & (generator.random(3000) < 0.83)
    rows.append(of_right("worse", "right", parent, candidate, limit_points=5.0))

    found = judged(rows)

    assert [one.name for one in found if one.verdict == "fail"] == ["worse"]
    evidence = {one.name.split(" on ")[1].split(",")[0]: one for one in slice_evidence(found)}
    assert not evidence["worse"].passed
    assert all(one.passed for name, one in evidence.items() if name != "worse")


def test_a_paired_mean_at_its_limit_is_refused_about_as_often_as_it_says() -> None:
    """The true loss is the limit: refused in 2.5 % of samples, by the interval and by the p-value alike."""
    generator = np.random.default_rng(2)
    refused = by_p = 0
    for seed in range(300):
        parent = generator.random(400)
        candidate = parent * (0.95 + 0.2 * (generator.random(400) - 0.5))
        found = paired_verdict(parent, candidate, metric="m", limit=0.05, seed=seed, resamples=500)
        refused += found.verdict == "fail"
        by_p += found.p_at_limit <= 0.025
    for count in (refused, by_p):
        assert count / 300 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 300)


def test_perplexity_at_its_limit_is_refused_about_as_often_as_it_says() -> None:
    """Texts of different lengths, a true rise of the limit."""
    generator = np.random.default_rng(3)
    refused = 0
    for seed in range(300):
        tokens = generator.integers(5, 40, 150).astype(np.float64)
        lost = tokens * math.log1p(0.02) + generator.standard_normal(150) * 0.3 * np.sqrt(tokens)
        refused += paired_rise(lost, tokens, limit=0.02, seed=seed, resamples=500).p_at_limit <= 0.025
    assert refused / 300 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 300)


def test_the_number_that_would_decide_decides_four_times_in_five() -> None:
    """A loss of 1 point with a limit of 2: asked how many texts it takes, and then given as many, again and again."""
    generator = np.random.default_rng(4)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        parent = generator.random(n) < 0.8
        flipped = generator.random(n)
        return parent, np.where(parent, flipped >= 0.05, flipped < 0.15)

    first = paired_texts(*sample(400))
    needed = examples_to_decide(400, first.loss_ci[1] - first.loss_points, 2.0 - 1.0)
    assert needed is not None
    decided = [paired_texts(*sample(needed)).loss_ci[1] < 2.0 for _ in range(200)]

    assert 0.68 <= np.mean(decided) <= 0.92


@pytest.mark.parametrize(
    ("n", "width", "distance"), [(0, 1.0, 1.0), (10, math.inf, 1.0), (10, 1.0, math.nan)]
)
def test_what_cannot_be_decided_has_no_number(n: int, width: float, distance: float) -> None:
    """No examples, no interval, no figure."""
    assert examples_to_decide(n, width, distance) is None


def test_a_text_is_told_by_its_script() -> None:
    """Chinese with a brand's name in it is Chinese; digits are nothing."""
    assert script_of("退货需要多久？") == "zh"
    assert script_of("Acme 保温杯，适合旅行") == "zh"
    assert script_of("How do I return an order?") == "en"
    assert script_of("12345 !!") == ""


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=40))
def test_each_value_that_is_frequent_enough_has_its_mask(values: list[str]) -> None:
    """Masks are the examples with the value; "" is none."""
    masks = value_masks("kind", values, most=2, least=3)

    counts = {one: values.count(one) for one in "abc"}
    assert len(masks) == min(2, sum(count >= 3 for count in counts.values()))
    for name, mask in masks.items():
        assert mask.tolist() == [one == name.removeprefix("kind: ") for one in values]
