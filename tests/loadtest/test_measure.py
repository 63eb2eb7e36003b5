"""Rows and figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.measure import CLASSES, GRPC, LOST, MODEL, TIMED_OUT, Recorder, Samples, joined, status_name
from loadtest.summary import summarise

statuses = st.sampled_from([200, 200, 429, 503, 504, 500, 422, TIMED_OUT, LOST, GRPC + 8, GRPC + 13])
rows = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1), statuses), max_size=60)


def recorded(rows: list[tuple[float, float, int]]) -> Samples:
    rows = sorted(rows)
    recorder = Recorder(np.array([due for due, _, _ in rows]))
    for number, (due, took, status) in enumerate(rows):
        recorder.hand(number, due)
        recorder.end(number, status, MODEL, due + took)
    return recorder.samples()


@given(rows)
def test_every_request_is_in_one_class_and_one_moment(rows: list[tuple[float, float, int]]) -> None:
    """What was offered is what was answered, refused and failed: nothing is lost and nothing is counted twice."""
    result = summarise(recorded(rows), 3.0, within_s=0.5)

    line = result["timeline"]
    assert sum(result["classes"][name]["count"] for name in CLASSES) == len(rows)
    assert sum(result["status"].values()) == len(rows)
    assert sum(line["offered"]) == len(rows)
    for number, offered in enumerate(line["offered"]):
        assert offered == sum(line[name][number] for name in CLASSES)
        assert line["good"][number] <= line["ok"][number]


@given(rows)
def test_figures_are_json_without_nan(rows: list[tuple[float, float, int]]) -> None:
    """A report can be read by anything; infinite is null."""
    json.dumps(summarise(recorded(rows), 3.0, within_s=0.5), allow_nan=False)


def late_by(late_s: float, *, took_s: float = 0.005, status: int = 200) -> Samples:
    recorder = Recorder(np.arange(600) / 200)
    for number in range(600):
        recorder.hand(number, number / 200 + late_s)
        recorder.end(number, status, MODEL, number / 200 + late_s + took_s)
    return recorder.samples()


@pytest.mark.parametrize(
    ("late_ms", "limit_ms", "refused"),
    [(0.1, None, False), (3.0, None, True), (3.0, 20.0, True), (3.0, 40.0, False), (0.7, 20.0, False)],
)
def test_a_p99_is_refused_when_the_generator_was_late(
    late_ms: float, limit_ms: float | None, refused: bool
) -> None:
    """More than a tenth of the limit, or of the p99 itself where there is no limit: null and a sentence, nothing else."""
    limit_s = None if limit_ms is None else limit_ms / 1e3
    result = summarise(late_by(late_ms / 1e3), 3.0, within_s=0.5, limit_s=limit_s)

    if refused:
        assert result["latency_ms"]["p99"] is None
        assert f"{late_ms:.2f} ms late at p99" in result["p99_refused"]
    else:
        assert result["latency_ms"]["p99"] is not None
        assert result["p99_refused"] is None
    assert result["latency_ms"]["p50"] is not None
    assert result["late_ms"]["p99"] == late_ms


def test_an_infinite_p99_is_no_refused_one() -> None:
    """Lateness does not hide that nobody was answered."""
    assert summarise(late_by(0.003, status=500), 3.0, within_s=0.5)["p99_refused"] is None


@given(rows)
def test_the_distribution_rises_to_the_share_answered(rows: list[tuple[float, float, int]]) -> None:
    """The curve never falls, and what failed is missing at its top."""
    samples = recorded(rows)
    points = summarise(samples, 3.0, within_s=0.5)["cdf_ms"]

    assert points == sorted(points)
    if points:
        assert math.isclose(points[-1][1], samples.ok.mean())


def test_a_row_ends_once() -> None:
    """A second answer to the same request changes nothing."""
    recorder = Recorder(np.array([0.0]))
    recorder.hand(0, 0.0)
    recorder.end(0, 429, 0, 0.5)
    recorder.end(0, 200, MODEL, 0.9)

    assert recorder.finished == 1
    assert recorder.samples().status.tolist() == [429]
    assert recorder.samples().ended_s.tolist() == [0.5]


def test_parts_of_several_generators_are_one_run() -> None:
    """Rows dealt out to processes come together in the order they were meant."""
    whole = joined([recorded([(0.2, 0.1, 200), (2.0, 0.1, 500)]), recorded([(1.0, 0.3, 429)])])

    assert whole.due_s.tolist() == [0.2, 1.0, 2.0]
    assert whole.status.tolist() == [200, 429, 500]


def test_the_warm_up_is_cut_off() -> None:
    """Rows of the warm-up are in no figure, and time starts anew after it."""
    cut = recorded([(0.5, 0.1, 200), (1.5, 0.25, 200)]).between(1.0)

    assert cut.due_s.tolist() == [0.5]
    assert np.allclose(cut.elapsed_s, [0.25])


def test_statuses_have_names() -> None:
    """A reader sees words."""
    assert [status_name(code) for code in (200, GRPC + 8, TIMED_OUT)] == [
        "200",
        "RESOURCE_EXHAUSTED",
        "timed_out",
    ]
