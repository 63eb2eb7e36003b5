"""Ranks and metrics against brute force: the whole catalogue, seen masked, ties against us."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.data.sequences import Sequences
from build_engines.data.splits import Cases
from build_engines.evaluation.evaluate import evaluate_scores, evaluate_topk
from build_engines.evaluation.metrics import (
    NOT_FOUND,
    coverage,
    means,
    per_case,
    ranks_from_scores,
    ranks_from_topk,
    topk_rows,
)
from build_engines.evaluation.slices import SLICES, case_slices, head_items_N1

NUM_ITEMS = 9
rows = st.integers(1, NUM_ITEMS)
few_values = st.sampled_from([-1.0, 0.0, 0.5, 2.0, -math.inf, math.inf, math.nan])
questions = st.lists(
    st.tuples(
        st.lists(few_values, min_size=NUM_ITEMS, max_size=NUM_ITEMS), rows, st.lists(rows, max_size=12)
    ),
    min_size=1,
    max_size=8,
)


def brute_rank(scores: list[float], target: int, seen: list[int]) -> int:
    own = scores[target - 1]
    if target in seen or math.isnan(own):
        return NOT_FOUND
    others = [score for row, score in enumerate(scores, start=1) if row != target and row not in seen]
    return 1 + sum(not score < own for score in others)


@given(questions, st.booleans())
def test_ranks_are_what_counting_one_by_one_gives(
    case: list[tuple[list[float], int, list[int]]], pad: bool
) -> None:
    """Any scores, with ties, infinities, NaN and repeated seen items, with or without a padding column."""
    scores = np.array([one for one, _, _ in case], np.float32)
    if pad:
        scores = np.concatenate([np.full((len(case), 1), np.inf, np.float32), scores], axis=1)
    before = scores.copy()

    ranks = ranks_from_scores(
        scores,
        np.array([target for _, target, _ in case], np.int32),
        Sequences.of([seen for *_, seen in case]),
        first_row=0 if pad else 1,
    )

    assert ranks.tolist() == [brute_rank(*one) for one in case]
    np.testing.assert_array_equal(scores, before)


@given(questions)
def test_an_engine_that_answers_its_best_is_measured_like_one_that_scores_all(
    case: list[tuple[list[float], int, list[int]]],
) -> None:
    """With scores beside its answers, whatever it finds within K is at the exact rank, and it never gains by ties."""
    scores = np.nan_to_num(np.array([one for one, _, _ in case]), nan=-5.0, posinf=9.0, neginf=-9.0)
    targets, seen = (
        np.array([target for _, target, _ in case], np.int32),
        Sequences.of([one for *_, one in case]),
    )
    top = topk_rows(scores, seen, 5)
    top_scores = np.where(top > 0, np.take_along_axis(scores, np.maximum(top - 1, 0), axis=1), -99.0)

    found = ranks_from_topk(top, targets, top_scores)

    exact = ranks_from_scores(scores, targets, seen)
    assert all(one in (rank, NOT_FOUND) for one, rank in zip(found, exact, strict=True))
    assert all(one == rank for one, rank in zip(found, exact, strict=True) if rank < 5)


@given(questions, st.integers(1, 12))
def test_the_best_are_the_best_and_never_seen(case: list[tuple[list[float], int, list[int]]], k: int) -> None:
    """Falling scores, lower row first among equals, no seen item, zeros only where nothing is left."""
    scores = np.array([one for one, _, _ in case], np.float32)
    top = topk_rows(scores, Sequences.of([seen for *_, seen in case]), k)

    for answers, (values, _, seen) in zip(top.tolist(), case, strict=True):
        allowed = [row for row in range(1, NUM_ITEMS + 1) if row not in seen and values[row - 1] > -math.inf]
        best = sorted(allowed, key=lambda row: (-values[row - 1], row))[:k]
        assert answers == best + [0] * (k - len(best))


def test_without_scores_the_engines_own_order_stands() -> None:
    """Position is rank; absent is not found; padding is no answer."""
    top = np.array([[3, 1, 0], [2, 4, 5], [7, 0, 0]])

    assert ranks_from_topk(top, np.array([1, 9, 7], np.int32)).tolist() == [2, NOT_FOUND, 1]


@given(st.lists(st.one_of(st.integers(1, 30), st.just(NOT_FOUND)), min_size=1, max_size=30))
def test_metrics_are_their_textbook_formulas(ranks: list[int]) -> None:
    """Recall, NDCG and MRR with one right answer, at every cutoff."""
    found = means(np.array(ranks, np.int32))

    for k in (5, 10, 20):
        hits = [rank for rank in ranks if rank <= k]
        assert found[f"recall@{k}"] == pytest.approx(len(hits) / len(ranks))
        assert found[f"ndcg@{k}"] == pytest.approx(sum(1 / math.log2(rank + 1) for rank in hits) / len(ranks))
        assert found[f"mrr@{k}"] == pytest.approx(sum(1 / rank for rank in hits) / len(ranks))


def test_no_cases_have_no_figures() -> None:
    """An empty slice is NaN, which passes no gate, and never 0 or 1."""
    assert all(math.isnan(value) for value in means(np.zeros(0, np.int32)).values())


@pytest.mark.parametrize("target", [0, NUM_ITEMS + 1])
def test_a_target_outside_the_catalogue_is_a_fault_not_a_rank(target: int) -> None:
    """Negative indexing would quietly rank another item."""
    with pytest.raises(ValueError, match="outside"):
        ranks_from_scores(
            np.zeros((1, NUM_ITEMS), np.float32), np.array([target], np.int32), Sequences.of([[1]])
        )
    with pytest.raises(ValueError, match="below 1"):
        per_case(np.array([0], np.int32))


def test_coverage_counts_distinct_items_shown() -> None:
    """Padding is not an item."""
    top = np.array([[1, 2, 0], [1, 3, 0]])

    assert coverage(top, 10, cutoffs=(1, 3)) == {"coverage@1": 0.1, "coverage@3": 0.3}


def test_head_is_the_most_popular_fifth_rounded_up() -> None:
    """Of seven items two are head; of equal counts the lower row; padding is never head."""
    counts = np.array([99, 1, 5, 5, 5, 0, 0, 0])

    assert np.flatnonzero(head_items_N1(counts)).tolist() == [2, 3]


def cases_of(histories: list[list[int]], targets: list[int]) -> Cases:
    return Cases(
        np.arange(len(targets), dtype=np.int32), Sequences.of(histories), np.array(targets, np.int32)
    )


def test_slices_divide_the_cases() -> None:
    """Head and tail, short and long: each case in one of each pair; cold within tail."""
    cases = cases_of([[1] * 5, [2] * 6, [3]], [1, 2, 9])
    counts = np.array([0, 50, 1, 1, 1, 1, 1, 1, 1, 0])

    found = case_slices(cases, counts)

    assert {name: mask.tolist() for name, mask in found.items()} == {
        "head": [True, True, False],
        "tail": [False, False, True],
        "cold": [False, False, True],
        "short": [True, False, True],
        "long": [False, True, False],
    }
    assert tuple(found) == SLICES


def test_scores_and_answers_of_one_model_give_one_evaluation() -> None:
    """The torch model and its engine pass through different doors and must come out equal."""
    generator = np.random.default_rng(0)
    table = generator.random((41, 40))
    cases = cases_of(generator.integers(1, 41, (600, 4)).tolist(), generator.integers(1, 41, 600).tolist())
    counts = np.bincount(cases.targets_C, minlength=41)

    def score(histories: Sequences) -> npt.NDArray[np.float64]:
        return np.stack([table[history[-1]] for history in histories])

    def recommend(histories: Sequences, k: int) -> tuple[npt.NDArray[np.int32], None]:
        return topk_rows(score(histories), histories, k), None

    whole = evaluate_scores("model", score, cases, counts)
    engine = evaluate_topk("engine", recommend, cases, counts)

    assert whole.metrics == engine.metrics
    assert whole.as_json()["slices"] == engine.as_json()["slices"]
    assert whole.metrics["coverage@20"] == 1.0
    assert whole.slices["head"].n + whole.slices["tail"].n == whole.n == 600


def test_scores_of_another_catalogue_are_refused() -> None:
    """A model with other rows than the split is named with both sizes."""
    with pytest.raises(ValueError, match=r"model: scores are \(1, 5\), want \[1, 3\]"):
        evaluate_scores(
            "model", lambda _: np.zeros((1, 5), np.float32), cases_of([[1]], [2]), np.zeros(4, np.int64)
        )
