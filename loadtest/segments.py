"""Figures for each stretch of a profile: what an overload cost, and how soon things were normal after it.  Pure.

A moment (one bin of the timeline) is normal when at least 99 % of the requests that were meant for it were good.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.arrivals import Profile
from loadtest.measure import Samples
from loadtest.summary import quantiles_ms

NORMAL_SHARE = 0.99
_MOST = 60
Json = dict[str, Any]


def segment_figures(samples: Samples, profile: Profile, *, within_s: float, bin_s: float = 0.1) -> list[Json]:
    """One entry for each segment of the profile (the first 60), by intended send time.

    ``settled_after_s`` is the time from the segment's start until the last moment that was not normal has passed: 0
    when all were, None when the last one was not.
    """
    figures, start_s = [], 0.0
    for segment in profile[:_MOST]:
        part = samples.between(start_s, start_s + segment.duration_s)
        good = part.ok & (part.elapsed_s <= within_s)
        figures.append(
            {
                "start_s": start_s,
                "duration_s": segment.duration_s,
                "start_rps": segment.start_rps,
                "end_rps": segment.end_rps,
                "offered_rps": len(part) / segment.duration_s,
                "ok_rps": int(part.ok.sum()) / segment.duration_s,
                "good_rps": int(good.sum()) / segment.duration_s,
                "refused_rps": int(part.refused.sum()) / segment.duration_s,
                "ok_took_ms": quantiles_ms(part.elapsed_s[part.ok]),
                "refused_took_ms": quantiles_ms(part.elapsed_s[part.refused]),
                "settled_after_s": _settled_after(part, good, segment.duration_s, bin_s),
            }
        )
        start_s += segment.duration_s
    return figures


def _settled_after(
    part: Samples, good: np.ndarray[Any, np.dtype[np.bool_]], duration_s: float, bin_s: float
) -> float | None:
    bins = max(1, int(np.ceil(duration_s / bin_s - 1e-9)))
    where = np.minimum((part.due_s / bin_s).astype(np.int64), bins - 1)
    offered = np.bincount(where, minlength=bins)
    normal = np.bincount(where[good], minlength=bins) >= NORMAL_SHARE * offered
    wrong = np.flatnonzero(~normal)
    if len(wrong) == 0:
        return 0.0
    last = int(wrong[-1]) + 1
    return None if last == bins else round(last * bin_s, 6)
