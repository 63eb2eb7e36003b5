"""Turns the rows of a run into figures.  Pure.

Figures "over all" count a request without success as infinitely slow (written ``null`` in JSON); figures per
class say how long the answers, refusals and failures themselves took.

Units: rows in seconds; every figure here in milliseconds or per second, as its name says.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.measure import CLASSES, FALLBACK, MODEL, Samples
from loadtest.slo import Evidence, lateness_refusal, percentile

QUANTILES = (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
_CDF_POINTS = 200
Array = npt.NDArray[np.float64]
Json = dict[str, Any]


def evidence_of(samples: Samples, *, offered_rps: float, open_loop: bool) -> Evidence:
    """What the verdicts are given on."""
    ok = samples.ok
    return Evidence(
        latency_s=samples.latency_s,
        late_s=samples.late_s,
        offered_rps=offered_rps,
        ok=int(ok.sum()),
        by_model=int((ok & (samples.tier == MODEL)).sum()),
        tier_known=int((ok & (samples.tier != 0)).sum()),
        open_loop=open_loop,
    )


def quantiles_ms(values_s: Array) -> Json:
    """Percentiles, mean and maximum; None stands for infinite, or for a figure of nothing."""
    ordered = np.sort(values_s)
    figures: Json = {name: _ms(percentile(ordered, quantile)) for name, quantile in QUANTILES}
    figures["max"] = _ms(float(ordered[-1])) if len(ordered) else None
    figures["mean"] = _ms(float(ordered.mean())) if len(ordered) else None
    return figures


def summarise(
    samples: Samples,
    duration_s: float,
    *,
    within_s: float,
    bin_s: float = 0.1,
    limit_s: float | None = None,
) -> Json:
    """All figures of a run.

    A p99 over all is refused (``null``, with the reason in ``p99_refused``) where the generator was too late for it.

    Args:
        samples: rows of the measured time, times counted from its start.
        duration_s: length of the measured time.
        within_s: an answer counts as good when it comes within this.
        bin_s: resolution of the timeline.
        limit_s: what the p99 is held to, which says how late is too late; None: the p99 itself says it.
    """
    count, span = len(samples), max(duration_s, 1e-9)
    elapsed, ok = samples.elapsed_s, samples.ok
    good = ok & (elapsed <= within_s)
    tiers = samples.tier[ok]
    p99_s, late_s = (percentile(np.sort(values), 0.99) for values in (samples.latency_s, samples.late_s))
    p99_refused = lateness_refusal(late_s, p99_s if limit_s is None else limit_s, "p99")
    latency_ms = quantiles_ms(samples.latency_s)
    if p99_refused is not None:
        latency_ms["p99"] = None
    classes = {}
    for name in CLASSES:
        mask = samples.in_class(name)
        many = int(mask.sum())
        classes[name] = {
            "count": many,
            "share": many / count if count else None,
            "took_ms": quantiles_ms(elapsed[mask]),
        }
    return {
        "offered": count,
        "offered_rps": count / span,
        "ok": int(ok.sum()),
        "ok_rps": int(ok.sum()) / span,
        "good": int(good.sum()),
        "good_rps": int(good.sum()) / span,
        "good_within_ms": within_s * 1e3,
        "latency_ms": latency_ms,
        "p99_refused": p99_refused,
        "classes": classes,
        "status": samples.statuses(),
        "served_by": {
            "model": int((tiers == MODEL).sum()),
            "fallback": int((tiers == FALLBACK).sum()),
            "unknown": int((tiers == 0).sum()),
        },
        "late_ms": quantiles_ms(samples.late_s),
        "cdf_ms": _cdf(samples.latency_s),
        "timeline": timeline(samples, duration_s, good, bin_s),
    }


def timeline(samples: Samples, duration_s: float, good: npt.NDArray[np.bool_], bin_s: float) -> Json:
    """What became of the requests of each ``bin_s``, by intended send time; ``answered`` is by the time of the end."""
    bins = max(1, math.ceil(duration_s / bin_s - 1e-9))
    where = np.minimum((samples.due_s / bin_s).astype(np.int64), bins - 1)

    def per_bin(mask: npt.NDArray[np.bool_]) -> list[int]:
        return [int(count) for count in np.bincount(where[mask], minlength=bins)]

    ok = samples.ok
    ends = (samples.ended_s[ok] / bin_s).astype(np.int64)
    result: Json = {"bin_s": bin_s, "start_s": [round(number * bin_s, 6) for number in range(bins)]}
    result["offered"] = per_bin(np.ones(len(samples), dtype=np.bool_))
    result["good"] = per_bin(good)
    for name in CLASSES:
        result[name] = per_bin(samples.in_class(name))
    result["answered"] = np.bincount(ends[(ends >= 0) & (ends < bins)], minlength=bins).tolist()
    result.update(_bin_percentiles(where[ok], samples.elapsed_s[ok], bins))
    return result


def _bin_percentiles(where: npt.NDArray[np.int64], elapsed: Array, bins: int) -> Json:
    order = np.lexsort((elapsed, where))
    edges = np.searchsorted(where[order], np.arange(bins + 1))
    values = elapsed[order]
    columns: Json = {"p50_ms": [], "p99_ms": [], "max_ms": []}
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[start:end]
        for name, quantile in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
            columns[name].append(_ms(percentile(part, quantile)))
    return columns


def _cdf(latency_s: Array) -> list[list[float]]:
    """``[latency_ms, share]`` points, dense where it matters: towards the slow end."""
    count = len(latency_s)
    if count == 0:
        return []
    ordered = np.sort(latency_s)
    tail = 1 - np.geomspace(1.0, 1 / count, _CDF_POINTS // 2)
    shares = np.unique(np.concatenate([np.linspace(0, 1, _CDF_POINTS // 2), tail]))
    ranks = np.unique(np.clip(np.ceil(shares * count - 1e-9).astype(np.int64), 1, count))
    return [
        [round(float(ordered[rank - 1]) * 1e3, 4), rank / count]
        for rank in ranks.tolist()
        if math.isfinite(ordered[rank - 1])
    ]


def _ms(seconds: float) -> float | None:
    return round(seconds * 1e3, 4) if math.isfinite(seconds) else None
