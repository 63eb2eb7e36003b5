"""What an overload cost, and how soon things were normal after it."""

from __future__ import annotations

import numpy as np

from loadtest.arrivals import Segment, constant
from loadtest.measure import MODEL, Recorder
from loadtest.segments import segment_figures

PROFILE = (Segment(2, 100, 100), Segment(3, 400, 400), Segment(2, 100, 100))


def test_goodput_and_recovery_are_read_from_the_segments() -> None:
    """A server that refuses three of four under overload keeps its goodput, and is normal 0.3 s after it ends."""
    due = constant(PROFILE)
    recorder = Recorder(due)
    for row, at in enumerate(due.tolist()):
        recorder.hand(row, at)
        if 2 <= at < 5:
            recorder.end(row, 200 if row % 4 == 0 else 429, MODEL, at + 0.004)
        else:
            recorder.end(row, 200, MODEL, at + (0.2 if 5 <= at < 5.25 else 0.004))

    before, during, after = segment_figures(recorder.samples(), PROFILE, within_s=0.05)

    assert before["settled_after_s"] == 0
    assert during["settled_after_s"] is None
    assert after["settled_after_s"] == 0.3
    assert during["good_rps"] == 100
    assert during["refused_rps"] == 300
    assert np.isclose(during["refused_took_ms"]["p99"], 4.0)


def test_an_empty_segment_is_normal() -> None:
    """A pause in the profile is not a fault."""
    figures = segment_figures(
        Recorder(np.array([0.5])).samples(), (Segment(1, 1, 1), Segment(1, 0, 0)), within_s=1
    )

    assert figures[1]["settled_after_s"] == 0
    assert figures[0]["settled_after_s"] is not None
