"""The gate's rules, on figures where the right verdict is plain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.data.sequences import Sequences
from build_engines.errors import GateRefused
from build_engines.gate import (
    ReferenceAgreement,
    floor_evidence,
    parity_evidence,
    quality_evidence,
    refuse_unless_all_hold,
    speed_evidence,
)
from build_engines.proof.paired_means import PairedVerdict, paired_verdict
from build_engines.ranker import Rows, Scores
from build_engines.recipe_parts import GatePart
from build_engines.records import SpeedRow
from build_engines.speed import fit_cost, measure_in_turn, speed_row
from build_engines.trained_files import Reference
from build_engines.verify import agreement


def verdict(candidate_shift: float, *, limit: float, n: int = 4000) -> PairedVerdict:
    """A candidate whose every user loses about ``candidate_shift`` of the metric."""
    generator = np.random.default_rng(3)
    parent = generator.random(n)
    candidate = np.clip(parent * (1 - candidate_shift + 0.001 * generator.standard_normal(n)), 0, None)
    return paired_verdict(parent, candidate, metric="ndcg@10", limit=limit)


def test_a_small_loss_passes_and_a_large_one_is_refused_with_its_figure() -> None:
    """0.2 % below a limit of 1 % passes; 3 % does not, and the message has figure, limit and sample size."""
    part = GatePart()

    good = quality_evidence({"all": verdict(0.002, limit=0.01)}, part)
    bad = quality_evidence({"all": verdict(0.03, limit=0.01)}, part)

    assert good[0].passed
    with pytest.raises(
        GateRefused,
        match=r"(?s)shop: not published.*loss to the FP32 parent: 0\.02998.*at most 0\.01 \(n = 4000\): fail",
    ) as refusal:
        refuse_unless_all_hold("shop", bad, ())
    assert refusal.value.exit_code == 4
    assert refusal.value.failed == tuple(bad)


def test_an_undecided_loss_is_refused_and_says_how_many_users_would_decide() -> None:
    """Twelve users decide nothing about 1 %."""
    evidence = quality_evidence({"all": verdict(0.0095, limit=0.01, n=12)}, GatePart())

    assert evidence[0].verdict == "undecidable"
    assert "users would decide it" in evidence[0].note
    with pytest.raises(GateRefused, match="undecidable"):
        refuse_unless_all_hold("shop", evidence, ())


def test_a_slice_is_refused_only_where_it_is_decidedly_worse() -> None:
    """A tail that lost 20 % is refused even if the whole looks fine; a small undecided slice is not."""
    verdicts = {
        "all": verdict(0.002, limit=0.01),
        "tail": verdict(0.2, limit=0.05),
        "short": verdict(0.04, limit=0.05, n=12),
        "cold": paired_verdict(np.zeros(3), np.zeros(3), metric="ndcg@10", limit=0.05),
    }

    evidence = {
        item.name.split(" on ")[-1].split(",")[0]: item for item in quality_evidence(verdicts, GatePart())
    }

    assert not evidence["tail"].passed
    assert evidence["short"].passed
    assert "cold" not in evidence, "nobody there: nothing to say"


def test_the_floor_must_be_beaten_decidedly() -> None:
    """Better than the counts passes; worse, equal or undecided is refused, or published under a flag."""
    strict, lenient = GatePart(), GatePart(allow_below_floor=True)
    better, worse = verdict(-0.1, limit=0.0), verdict(0.1, limit=0.0)
    equal = paired_verdict(np.ones(50), np.ones(50), metric="ndcg@10", limit=0.0)

    assert floor_evidence(better, strict)[0].passed
    assert floor_evidence(better, lenient)[1] == ()
    for bad, flag in ((worse, "below_floor"), (equal, "floor_undecided")):
        item, flags = floor_evidence(bad, strict)
        assert (item.passed, flags) == (False, ())
        with pytest.raises(GateRefused, match="lead over the transition counts"):
            refuse_unless_all_hold("shop", [item], flags)
        item, flags = floor_evidence(bad, lenient)
        assert flags == (flag,)
        refuse_unless_all_hold("shop", [item], flags)


def test_a_floor_that_is_not_a_number_is_never_waived() -> None:
    """Nobody was served by either: there is nothing to compare, and no flag helps."""
    nothing = paired_verdict(np.zeros(9), np.zeros(9), metric="ndcg@10", limit=0.0)
    item, flags = floor_evidence(nothing, GatePart(allow_below_floor=True))

    with pytest.raises(GateRefused) as refusal:
        refuse_unless_all_hold("shop", [item], flags)
    assert refusal.value.failed == (item,)
    assert (
        "shop: not published, 1 of 1 measurements does not hold:\n  - ndcg@10 lead over the transition counts: "
        "not measurable, must be at least 0 (n = 9): undecidable" in str(refusal.value)
    )


def test_a_refusal_names_what_failed_and_what_is_undecided_and_not_what_is_waived() -> None:
    """Each with figure, limit and sample size; the list is never empty."""
    part = GatePart(allow_below_floor=True)
    waived, flags = floor_evidence(verdict(0.1, limit=0.0), part)
    evidence = [
        *quality_evidence({"all": verdict(0.0095, limit=0.01, n=12)}, part),
        *speed_evidence([row(0.8, 0.7, 0.9), row(1.5, 1.4, 1.6)], part),
        waived,
    ]

    with pytest.raises(GateRefused, match="2 of 4 measurements do not hold") as refusal:
        refuse_unless_all_hold("shop", evidence, flags)

    named = [line for line in str(refusal.value).splitlines() if line.startswith("  - ")]
    assert len(named) == 2
    assert "must be at most 0.01 (n = 12): undecidable" in named[0]
    assert "0.8 [0.7, 0.9] x, must be at least 1 x (n = 60): fail" in named[1]


def row(speedup: float, low: float, high: float) -> SpeedRow:
    """A speed-up with its interval."""
    return SpeedRow(
        batch_size=8,
        parent_s=1e-3,
        candidate_s=1e-3 / speedup,
        speedup=speedup,
        interval=(low, high),
        rounds=60,
    )


@pytest.mark.parametrize(
    ("measured", "limit", "wanted"),
    [
        (row(1.5, 1.4, 1.6), 1.0, "pass"),
        (row(0.8, 0.7, 0.9), 1.0, "fail"),
        (row(1.02, 0.97, 1.05), 1.0, "undecidable"),
        (row(1.5, 1.4, 1.6), 2.0, "fail"),
    ],
)
def test_a_candidate_that_is_not_faster_is_not_published(
    measured: SpeedRow, limit: float, wanted: str
) -> None:
    """Smaller is not faster until it is measured to be; at the batch size served."""
    item = speed_evidence([measured], GatePart(min_speedup=limit))[0]

    assert (item.verdict, item.passed) == (wanted, wanted == "pass")
    assert "batch 8" in item.name


def test_parity_has_a_limit_for_each_precision() -> None:
    """What INT8 may swap, FP32 may not; the recipe can be stricter."""
    found = ReferenceAgreement(overlap=0.93, rows=32, items=20)

    assert parity_evidence("candidate", found, "int8", GatePart()).passed
    assert not parity_evidence("parent", found, "fp32", GatePart()).passed
    assert not parity_evidence("candidate", found, "int8", GatePart(min_overlap=0.95)).passed


class Ticking:
    """A clock that moves by what was run: parent 3 ms, candidate 2 ms, and everything slows down over time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.order: list[str] = []

    def runs(self, name: str, seconds: float):  # type: ignore[no-untyped-def]
        def run() -> None:
            self.order.append(name)
            self.now_s += seconds * (1 + len(self.order) / 50)

        return run


def test_drift_of_the_machine_does_not_decide() -> None:
    """On a machine that gets steadily slower, the candidate's 1.5 x is still found: both are timed in turn."""
    clock = Ticking()
    runs = {"parent": clock.runs("parent", 3e-3), "candidate": clock.runs("candidate", 2e-3)}

    times = measure_in_turn(runs, rounds=40, clock=lambda: clock.now_s)
    found = speed_row(1, times["parent"], times["candidate"])

    assert 1.4 < found.interval[0] <= found.speedup <= found.interval[1] < 1.6
    assert clock.order[4:8] == ["parent", "candidate", "candidate", "parent"]


@pytest.mark.parametrize("times", [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([math.nan], [1.0])])
def test_times_that_make_no_sense_are_refused(times: tuple[list[float], list[float]]) -> None:
    """No rounds, unequal rounds, or a clock that stands still."""
    with pytest.raises(ValueError, match=r"rounds of the parent|clock is broken"):
        speed_row(1, np.array(times[0]), np.array(times[1]))


@given(
    base_s=st.floats(0, 1e-2),
    per_item_s=st.floats(1e-6, 1e-3),
    sizes=st.sets(st.integers(1, 64), min_size=1, max_size=5),
)
def test_the_cost_of_a_batch_is_found_and_never_negative(
    base_s: float, per_item_s: float, sizes: set[int]
) -> None:
    """From exact times the line comes back; a and b are times whatever was measured."""
    cost = fit_cost({size: np.full(5, base_s + per_item_s * size) for size in sizes}, "a machine")

    assert cost.base_s >= 0
    assert cost.per_item_s >= 0
    assert [one.batch_size for one in cost.measured] == sorted(sizes)
    for size in sizes:
        assert cost.base_s + cost.per_item_s * size == pytest.approx(
            base_s + per_item_s * size, rel=1e-3, abs=1e-9
        )


class Answers:
    """A ranker that answers what it is told."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def top_k(self, histories: Sequences, k: int) -> tuple[Rows, Scores]:
        rows = np.array(self.rows, np.int32)[:, :k]
        return rows, np.zeros(rows.shape, np.float32)

    def prepared(self, histories: Sequences):  # type: ignore[no-untyped-def]
        return lambda: None


def test_agreement_forgives_ties_and_finds_wrong_items() -> None:
    """An item that scores as much as the reference's last one is as good; a seen or a worse one is not."""
    scores = np.array([[-np.inf, 9.0, 8.0, 7.0, 7.0, 1.0]], np.float32)  # row 1 was seen: 2 and then 3 or 4
    reference = Reference(histories=Sequences.of([[1]]), scores_BN=scores)

    assert agreement(Answers([[2, 3]]), reference, items=2).overlap == 1.0
    assert agreement(Answers([[2, 4]]), reference, items=2).overlap == 1.0
    assert agreement(Answers([[2, 5]]), reference, items=2).overlap == 0.5
    assert agreement(Answers([[1, 2]]), reference, items=2).overlap == 0.5
    assert agreement(Answers([[2, 0]]), reference, items=2).overlap == 0.5
