"""What was found about slices, groups and the cost of serving; part of a gate's record, of reports and of comparisons.

Units: seconds, bytes; losses are relative to the parent unless a name says otherwise, positive is worse.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["pass", "fail", "undecidable"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SliceRow(_Record, frozen=True, kw_only=True):
    """One slice of the gate's examples, parent against candidate.

    Attributes:
        name: "tail", "category: shoes", "language: zh".
        metric: what was measured.
        n: examples in it.
        parent, candidate: means.
        loss: of the candidate, in ``unit``.
        interval: 95 %, of ``loss``; None: too few examples to say anything.
        unit: "ratio" (relative to the parent) or "points" (of a share, in percentage points).
        limit: of the loss.
        p_value: how likely so large a loss is, or a larger one, where the true one is at the limit; one-sided.
        p_holm: the same, corrected for all slices that were looked at.
        verdict: "fail" where the corrected test refuses, "pass" where the whole interval is below the limit.
        n_to_decide: examples that would decide; None: none would, or it is decided.
    """

    name: str
    metric: str
    n: int
    parent: float | None
    candidate: float | None
    loss: float | None
    interval: tuple[float, float] | None
    unit: str = "ratio"
    limit: float = 0.0
    p_value: float = 1.0
    p_holm: float = 1.0
    verdict: Outcome = "undecidable"
    n_to_decide: int | None = None


class GroupRow(_Record, frozen=True, kw_only=True):
    """One group of items or users, held against a limit of fairness.

    Attributes:
        kind: what is looked at: exposure of items against the parent's or against what people chose; quality for users.
        by: how the groups were made ("category", "popularity", "activity").
        group: its name.
        n: users it rests on.
        before: the parent's figure, or the figure that is aimed at.
        after: the candidate's.
        change: relative, negative is less than before.
        interval: 95 %, of ``change``.
        high_of_all: the upper end of the interval, corrected for all groups that were looked at.
        limit: smallest change that is allowed.
        verdict: "fail" where that end is below the limit.
    """

    kind: Literal["exposure", "representation", "quality", "gap"]
    by: str
    group: str
    n: int
    before: float
    after: float
    change: float
    interval: tuple[float, float]
    high_of_all: float
    limit: float
    verdict: Outcome


class BatchCost(_Record, frozen=True, kw_only=True):
    """A batch of one size, in a process of its own.

    Attributes:
        batch_size: requests, texts, or decode steps at once.
        median_s, p90_s, p99_s: of a run.
        cpu_s_per_1000: seconds of CPU for 1,000 requests (texts, tokens) in batches of this size.
        repeats: runs.
    """

    batch_size: int
    median_s: float
    p90_s: float
    p99_s: float
    cpu_s_per_1000: float
    repeats: int


class Footprint(_Record, frozen=True, kw_only=True):
    """What a version takes where it serves, measured in a process of its own.

    Attributes:
        disk_bytes: engine and tables.
        rss_bytes: resident memory of the process, loaded and warm.
        engine_bytes: of those, what loading added to the empty process with its libraries.
        peak_bytes: most resident memory so far.
        load_s: until it could answer.
        batches: by size.
        p99_s: of requests that arrive at ``rate_per_s``, one by one, at random; None: not asked.
        p99_interval_s: its 95 % interval, over parts of the run.
        rate_per_s: that was asked for.
        served_per_s: that was reached.
    """

    disk_bytes: int
    rss_bytes: int
    engine_bytes: int
    peak_bytes: int
    load_s: float
    batches: tuple[BatchCost, ...]
    p99_s: float | None = None
    p99_interval_s: tuple[float, float] | None = None
    rate_per_s: float | None = None
    served_per_s: float | None = None
