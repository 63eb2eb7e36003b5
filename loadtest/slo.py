"""Objectives and verdicts: what was promised, and whether what was measured shows that it held.  Pure.

A request that was not answered with success counts as infinitely slow, so a percentile is over *all* that was
offered.  Three verdicts, and the third is not a soft failure: UNDECIDABLE means that this run is no evidence
either way.

* The generator's own lateness is part of every latency.  When its lateness, at the percentile of the
  objective, is more than 10 % of the limit (but at least 0.25 ms, what a timer can do), the verdict is
  refused: ``late`` is set.
* PASS needs at least ``5 / (1 - q)`` requests (500 for p99).  With fewer, FAIL is still possible where the
  misses could hardly be chance (binomial tail under 1 %).
* An objective ``@500rps`` says nothing about a run that offered less.

Units: seconds inside, milliseconds in text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

LATE_SHARE = 0.10
LATE_FLOOR_S = 0.25e-3
_TAIL = 5
_CHANCE = 0.01
_FORM = re.compile(
    r"^(?:p(?P<percentile>\d{1,2}(?:\.\d+)?)=(?P<limit>\d+(?:\.\d+)?)(?P<unit>us|ms|s)"
    r"|(?P<share>ok|model)=(?P<least>\d+(?:\.\d+)?)%)(?:@(?P<rate>\d+(?:\.\d+)?)rps)?$"
)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class Verdict(Enum):
    """Whether an objective held."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNDECIDABLE = "UNDECIDABLE"


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise.

    Attributes:
        text: as it was written.
        quantile: 0.99 for p99; None for a share.
        limit_s: the percentile's limit in seconds; 0 for a share.
        share_of: ``ok`` (answered with success) or ``model`` (answered by the model tier, of those with
            success).
        least: least share, 0..1; 0 for a percentile.
        rate_rps: the load it is about; None: whatever was offered.
    """

    text: str
    quantile: float | None
    limit_s: float
    share_of: str
    least: float
    rate_rps: float | None

    @property
    def samples_needed(self) -> int:
        """Fewest requests with which it can pass."""
        rare = 1 - (self.quantile if self.quantile is not None else self.least)
        return math.ceil(_TAIL / rare - 1e-9) if rare > 0 else 1000


def parse_objective(text: str) -> Objective:
    """Read ``p99=20ms@500rps``, ``p50=2ms``, ``ok=99.9%@500rps`` or ``model=95%``.

    Raises:
        ValueError: it is not of that form, or a number is out of range.
    """
    found = _FORM.match(text.strip().lower().replace(" ", ""))
    if found is None:
        raise ValueError(
            f"objective {text!r}: write it as p99=20ms@500rps, p50=2ms, ok=99.9%@500rps or model=95%"
        )
    rate = float(found["rate"]) if found["rate"] else None
    if rate is not None and rate <= 0:
        raise ValueError(f"objective {text!r}: the rate must be more than 0")
    if found["share"]:
        least = float(found["least"]) / 100
        if not 0 < least <= 1:
            raise ValueError(f"objective {text!r}: the share must be over 0 % and at most 100 %")
        return Objective(text, None, 0.0, found["share"], least, rate)
    quantile = float(found["percentile"]) / 100
    limit_s = float(found["limit"]) * _UNITS[found["unit"]]
    if not 0 < quantile < 1 or limit_s <= 0:
        raise ValueError(
            f"objective {text!r}: the percentile must lie between p0 and p100 and the limit be more than 0"
        )
    return Objective(text, quantile, limit_s, "", 0.0, rate)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run has to say about objectives.

    Attributes:
        latency_s: one for each request offered; infinite where it was not answered with success.
        late_s: how late the generator was with each of them.
        offered_rps: mean rate that the run meant to offer.
        ok: how many were answered with success.
        by_model: how many of those say that the model answered.
        tier_known: how many of those say who answered at all.
        open_loop: whether sending did not wait for answers.
    """

    latency_s: npt.NDArray[np.float64]
    late_s: npt.NDArray[np.float64]
    offered_rps: float
    ok: int
    by_model: int
    tier_known: int
    open_loop: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason.

    Attributes:
        objective: what was promised.
        verdict: whether it held.
        reason: one sentence with the figure and the limit.
        observed: the percentile in seconds, or the share; NaN when nothing was offered.
        interval_s: 95 % interval of the percentile (order statistics); (NaN, NaN) for a share.
        late: the verdict was refused because of the generator.
    """

    objective: Objective
    verdict: Verdict
    reason: str
    observed: float
    interval_s: tuple[float, float] = (math.nan, math.nan)
    late: bool = False


def percentile(sorted_s: npt.NDArray[np.float64], quantile: float) -> float:
    """The smallest value that at least this share of the values do not exceed; NaN of nothing.

    Nearest rank and not interpolated: between a number and infinity there is nothing to interpolate.
    """
    if len(sorted_s) == 0:
        return math.nan
    rank = math.ceil(quantile * len(sorted_s) - 1e-9)
    return float(sorted_s[min(max(rank, 1), len(sorted_s)) - 1])


def lateness_refusal(late_s: float, limit_s: float, name: str) -> str | None:
    """Why a percentile is no evidence: the generator was late by more than its share; None: it was not.

    Args:
        late_s: the generator's lateness at the percentile.
        limit_s: the percentile's limit, or what was measured where there is none.
        name: of the percentile, such as p99.
    """
    allowed_s = max(LATE_SHARE * limit_s, LATE_FLOOR_S)
    if not late_s > allowed_s:
        return None
    return (
        f"refused: the generator itself was {_ms(late_s)} late at {name}, {_ms(allowed_s)} is allowed;"
        " try --nice -10, --realtime or --processes 2, or give it its own core"
    )


def judge(objective: Objective, evidence: Evidence) -> Judgement:
    """Give the verdict on one objective."""
    if objective.rate_rps is not None and evidence.offered_rps < objective.rate_rps * 0.999:
        return _undecidable(
            objective,
            f"the run offered {evidence.offered_rps:.0f} requests/s, the objective is about {objective.rate_rps:g}",
        )
    if not evidence.open_loop and objective.quantile is not None:
        return _undecidable(objective, "a closed loop waits for the server, so its latencies are no evidence")
    if objective.quantile is None:
        return _judge_share(objective, evidence)
    return _judge_percentile(objective, objective.quantile, evidence)


def judge_all(objectives: tuple[Objective, ...], evidence: Evidence) -> tuple[Judgement, ...]:
    """Give the verdict on each objective, in their order."""
    return tuple(judge(objective, evidence) for objective in objectives)


def overall(judgements: tuple[Judgement, ...]) -> Verdict:
    """FAIL if any failed, else UNDECIDABLE if any is, else PASS."""
    verdicts = {judgement.verdict for judgement in judgements}
    for verdict in (Verdict.FAIL, Verdict.UNDECIDABLE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS


def _judge_percentile(objective: Objective, quantile: float, evidence: Evidence) -> Judgement:
    ordered = np.sort(evidence.latency_s)
    count, observed = len(ordered), percentile(ordered, quantile)
    late_s = percentile(np.sort(evidence.late_s), quantile)
    name = f"p{quantile * 100:g}"
    interval = _interval(ordered, quantile)
    reason = lateness_refusal(late_s, objective.limit_s, name)
    if reason is not None:
        return Judgement(objective, Verdict.UNDECIDABLE, reason, observed, interval, late=True)
    misses = count - int(np.searchsorted(ordered, objective.limit_s, side="right"))
    said = f"{name} {_ms(observed)}, limit {_ms(objective.limit_s)}, {misses} of {count} requests missed it"
    verdict = _decide(misses, count, 1 - quantile, objective.samples_needed)
    if verdict is Verdict.UNDECIDABLE:
        return Judgement(objective, verdict, f"{said}; {_too_few(objective)}", observed, interval)
    return Judgement(objective, verdict, said, observed, interval)


def _judge_share(objective: Objective, evidence: Evidence) -> Judgement:
    if objective.share_of == "model":
        hits, count, what = evidence.by_model, evidence.ok, "answered by the model"
        if evidence.tier_known < evidence.ok:
            return _undecidable(
                objective, f"{evidence.ok - evidence.tier_known} answers do not say who answered (served_by)"
            )
    else:
        hits, count, what = evidence.ok, len(evidence.latency_s), "answered with success"
    observed = hits / count if count else math.nan
    said = f"{hits} of {count} {what}, {objective.least * 100:g} % asked"
    verdict = _decide(count - hits, count, 1 - objective.least, objective.samples_needed)
    if verdict is Verdict.UNDECIDABLE:
        said = f"{said}; {_too_few(objective)}"
    return Judgement(objective, verdict, said, observed)


def _decide(misses: int, count: int, allowed: float, needed: int) -> Verdict:
    within = misses <= allowed * count + 1e-9
    if count >= needed:
        return Verdict.PASS if within else Verdict.FAIL
    if not within and _at_least(misses, count, allowed) < _CHANCE:
        return Verdict.FAIL
    return Verdict.UNDECIDABLE


def _at_least(misses: int, count: int, share: float) -> float:
    """How likely so many misses or more are if each request misses with this chance."""
    if share <= 0:
        return 0.0 if misses > 0 else 1.0
    logs = math.log(share), math.log1p(-share)
    below = math.fsum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * logs[0]
            + (count - k) * logs[1]
        )
        for k in range(misses)
    )
    return max(0.0, 1 - below)


def _interval(ordered: npt.NDArray[np.float64], quantile: float) -> tuple[float, float]:
    count = len(ordered)
    if count == 0:
        return math.nan, math.nan
    spread = 1.96 * math.sqrt(count * quantile * (1 - quantile))
    low = max(math.floor(quantile * count - spread), 1)
    high = math.ceil(quantile * count + spread) + 1
    return float(ordered[low - 1]), float(ordered[high - 1]) if high <= count else math.inf


def _too_few(objective: Objective) -> str:
    return f"too few to tell, {objective.samples_needed} would be enough"


def _undecidable(objective: Objective, reason: str) -> Judgement:
    return Judgement(objective, Verdict.UNDECIDABLE, reason, math.nan)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if math.isfinite(seconds) else "infinite"
