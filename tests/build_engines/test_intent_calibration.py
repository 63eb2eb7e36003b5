"""A probability is worth what it says, the threshold keeps what it was chosen for, and figures are counted right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.data.errors import DataError
from build_engines.intents.calibration import (
    chosen_threshold,
    expected_calibration_error,
    fitted_temperature,
    negative_log_likelihood,
    threshold_curve,
)
from build_engines.intents.figures import figures
from build_engines.intents.head import HEAD_FILE, INTENTS_FILE, IntentHead, load_head, save_head, softmax
from build_engines.proof.paired_right import paired_texts, wilson_interval


def told(number: int, seed: int = 0, intents: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth about the labels."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(number, intents)).astype(np.float32) * 2
    labels = np.array([draw.choice(intents, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    return logits, labels.astype(np.int64)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_head_that_is_too_sure_or_not_sure_enough(scale: float) -> None:
    """Logits that were multiplied by something are found out, and the error falls below 2 %."""
    logits, labels = told(6000)

    temperature = fitted_temperature(logits * scale, labels)

    assert temperature == pytest.approx(scale, rel=0.06)
    assert expected_calibration_error(softmax(logits * scale / temperature), labels) < 0.02
    if scale == 4.0:
        assert expected_calibration_error(softmax(logits * scale), labels) > 0.1


def test_the_temperature_found_is_the_best() -> None:
    """No neighbour has a smaller loss."""
    logits, labels = told(500, seed=3)

    best = fitted_temperature(logits, labels)

    found = negative_log_likelihood(logits, labels, best)
    assert found <= negative_log_likelihood(logits, labels, best * 1.05)
    assert found <= negative_log_likelihood(logits, labels, best / 1.05)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    """Always 0.9 sure and right half of the time is an error of 0.4."""
    probabilities = np.tile(np.array([[0.9, 0.1]], np.float32), (100, 1))
    labels = np.array([0, 1] * 50, np.int64)

    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.4, abs=1e-6)


@given(
    seed=st.integers(0, 50), max_out=st.floats(0, 0.3), max_wrong=st.floats(0, 0.5), least=st.floats(0.2, 1)
)
def test_the_threshold_keeps_its_promises_or_the_least_coverage(
    seed: int, max_out: float, max_wrong: float, least: float
) -> None:
    """Lowest that keeps both limits; where none does, as high as the least coverage lets it be."""
    logits, labels = told(120, seed)
    inside, outside = softmax(logits), softmax(told(60, seed + 1000)[0] * 0.5)

    threshold = chosen_threshold(
        inside, labels, outside, max_out_answered=max_out, max_wrong=max_wrong, min_coverage=least
    )

    (point,) = threshold_curve(inside, labels, outside, [threshold])
    assert point.coverage >= least - 1e-9
    if point.out_answered > max_out or 1 - point.accuracy > max_wrong:
        above = np.nextafter(np.float32(threshold), np.float32(2))
        (next_point,) = threshold_curve(inside, labels, outside, [float(above)])
        assert next_point.coverage < least


def test_figures_count_recall_confusions_and_macro_f1() -> None:
    """Against numbers worked out by hand."""
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 1, 2]]
    labels = np.array([0, 0, 0, 1, 1, 2], np.int64)

    found = figures(probabilities, labels, ("a", "b", "c"))

    assert found.accuracy == pytest.approx(5 / 6)
    assert found.rows[0].label == "a"
    assert found.rows[0].recall == pytest.approx(2 / 3)
    assert (found.confusions[0].intent, found.confusions[0].taken_for, found.confusions[0].texts) == (
        "a",
        "b",
        1,
    )
    assert found.macro_f1 == pytest.approx((0.8 + 0.8 + 1.0) / 3)


@given(right=st.integers(0, 50), wrong=st.integers(0, 50))
def test_an_interval_holds_its_share(right: int, wrong: int) -> None:
    """And stays between 0 and 1."""
    if right + wrong:
        low, high = wilson_interval(right, right + wrong)
        assert -1e-9 <= low <= right / (right + wrong) + 1e-9
        assert right / (right + wrong) - 1e-9 <= high <= 1 + 1e-9


def test_mcnemar_looks_at_the_texts_that_differ_alone() -> None:
    """8 lost and 1 won of 1000: exact two-sided p = 20 / 512; the loss is 0.7 points."""
    parent, candidate = np.ones(1000, np.bool_), np.ones(1000, np.bool_)
    candidate[:8] = False
    parent[8] = False

    paired = paired_texts(parent, candidate)

    assert (paired.only_parent, paired.only_candidate) == (8, 1)
    assert paired.p_value == pytest.approx(2 * (1 + 9) / 512)
    assert paired.loss_points == pytest.approx(0.7)
    assert paired.loss_ci[0] < 0.7 < paired.loss_ci[1]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_comparison_turned_round_is_the_same_with_the_other_sign(pairs: list[tuple[bool, bool]]) -> None:
    """Nobody is favoured."""
    one, other = (np.array([pair[at] for pair in pairs], np.bool_) for at in (0, 1))

    forth, back = paired_texts(one, other), paired_texts(other, one)

    assert forth.loss_points == pytest.approx(-back.loss_points)
    assert forth.p_value == back.p_value
    assert 0 < forth.p_value <= 1


def head() -> IntentHead:
    draw = np.random.default_rng(0)
    return IntentHead(
        weights_CD=draw.normal(size=(3, 4)).astype(np.float32),
        bias_C=draw.normal(size=3).astype(np.float32),
        labels=("cancel", "退款", "track"),
        temperature=0.7,
        threshold=0.4,
    )


def test_a_head_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Weights to the bit, labels in their order and script."""
    save_head(head(), tmp_path)

    read = load_head(tmp_path)

    assert read.labels == head().labels
    assert (read.temperature, read.threshold) == (0.7, 0.4)
    np.testing.assert_array_equal(read.weights_CD, head().weights_CD)
    np.testing.assert_array_equal(read.bias_C, head().bias_C)


@pytest.mark.parametrize("name", [HEAD_FILE, INTENTS_FILE])
def test_a_damaged_head_is_refused_with_its_folder(tmp_path: Path, name: str) -> None:
    """Half a file is no head."""
    save_head(head(), tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:20])

    with pytest.raises(DataError, match="the intent head is damaged"):
        load_head(tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"labels": ("a", "b")}, "there are 2 labels"),
        ({"labels": ("a", "a", "b")}, "each once"),
        ({"labels": ("a", "out_of_scope", "b")}, "out_of_scope"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"bias_C": np.array([0, np.nan, 0], np.float32)}, "not finite"),
    ],
)
def test_a_head_whose_parts_do_not_go_together_cannot_be_made(change: dict[str, object], what: str) -> None:
    """Found where it is made, not by the first shopper."""
    whole = {name: getattr(head(), name) for name in IntentHead.__slots__}

    with pytest.raises(ValueError, match=what):
        IntentHead(**{**whole, **change})  # type: ignore[arg-type]


def test_softmax_bears_large_logits() -> None:
    """No overflow, rows add up to one."""
    rows = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))

    assert math.isfinite(float(rows.sum()))
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
