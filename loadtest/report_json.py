"""The report as data: one JSON object with a schema name, which HTML and ``compare`` are made from.

Infinite is written ``null``, as JSON has no other word for it; so is a p99 that ``p99_refused`` says is no evidence.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.plan import Plan
from loadtest.run import Outcome
from loadtest.segments import segment_figures
from loadtest.slo import Judgement, Objective, Verdict, overall
from loadtest.summary import summarise

SCHEMA = "vitrine-loadtest/1"
EXIT_PASS, EXIT_FAIL, EXIT_USAGE, EXIT_UNDECIDABLE, EXIT_LATE, EXIT_UNREACHABLE = 0, 1, 2, 3, 4, 5
Json = dict[str, Any]


def exit_code(judgements: tuple[Judgement, ...]) -> int:
    """0 all passed (or none given), 1 one failed, 4 refused because the generator was late, 3 undecidable otherwise."""
    verdict = overall(judgements)
    if verdict is Verdict.PASS:
        return EXIT_PASS
    if verdict is Verdict.FAIL:
        return EXIT_FAIL
    return EXIT_LATE if any(judgement.late for judgement in judgements) else EXIT_UNDECIDABLE


def environment() -> Json:
    """The machine and the interpreter."""
    model = None
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            model = next(
                (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None
            )
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "nice": os.nice(0) if hasattr(os, "nice") else None,
        "realtime": hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_RR,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def describe_load(plan: Plan) -> Json:
    """How the plan loads the server."""
    return {
        "target": str(plan.target),
        "protocol": plan.target.protocol,
        "arrivals": plan.arrivals,
        "offered_rps": plan.offered_rps,
        "profile": [[segment.duration_s, segment.start_rps, segment.end_rps] for segment in plan.profile],
        "concurrency": plan.closed.concurrency if plan.closed is not None else None,
        "duration_s": plan.duration_s,
        "warmup_s": plan.effective_warmup_s,
        "seed": plan.seed,
        "bodies": len(plan.bodies),
        "connections": plan.options.connections,
        "timeout_s": plan.options.timeout_s,
        "deadline_s": plan.options.deadline_s,
        "processes": plan.processes,
        "nap_s": plan.nap_s,
    }


def result_of(
    plan: Plan,
    outcome: Outcome,
    *,
    within_s: float,
    bin_s: float = 0.1,
    objectives: Sequence[Objective] = (),
) -> Json:
    """All figures of one run; an objective for the p99 says how late the generator may have been for it."""
    limits_s = [objective.limit_s for objective in objectives if objective.quantile == 0.99]
    result = summarise(
        outcome.samples,
        plan.duration_s,
        within_s=within_s,
        bin_s=bin_s,
        limit_s=min(limits_s, default=None),
    )
    if len(plan.profile) > 1:
        result["segments"] = segment_figures(outcome.samples, plan.profile, within_s=within_s, bin_s=bin_s)
    used: Json = dict(outcome.used)
    server = used["server_cpu_s"]
    used["wall_s"] = outcome.wall_s
    answered = outcome.ok_in_all
    used["server_cpu_s_per_1000_ok"] = server / answered * 1e3 if server is not None and answered else None
    result["used"] = used
    result["client"] = asdict(outcome.stats)
    return result


def verdicts_of(judgements: Sequence[Judgement]) -> list[Json]:
    """The verdicts as data."""
    rows = []
    for judgement in judgements:
        scale = 1e3 if judgement.objective.quantile is not None else 1.0
        rows.append(
            {
                "objective": judgement.objective.text,
                "verdict": judgement.verdict.value,
                "refused_late": judgement.late,
                "reason": judgement.reason,
                "limit_ms": judgement.objective.limit_s * 1e3
                if judgement.objective.quantile is not None
                else None,
                "observed": _finite(judgement.observed * scale),
                "interval_ms": [_finite(bound * 1e3) for bound in judgement.interval_s],
            }
        )
    return rows


def report_of(
    kind: str, plan: Plan, result: Json, judgements: tuple[Judgement, ...], *, title: str = ""
) -> Json:
    """The whole report of a run (``kind`` run) or of a search (``kind`` find, which adds its probes)."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "title": title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "loadtest", *sys.argv[1:]],
        "environment": environment(),
        "load": describe_load(plan),
        "result": result,
        "verdicts": verdicts_of(judgements),
        "verdict": overall(judgements).value if judgements else None,
        "exit_code": exit_code(judgements),
    }


def write(report: Json, path: Path) -> None:
    """Write a report aside and rename it into place; a NaN is a fault of ours and refused."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    aside.replace(path)


def load(path: Path) -> Json:
    """Read a report.

    Raises:
        ValueError: it is not one, or of another schema.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a report of schema {SCHEMA}")
    return report


def _finite(value: float) -> float | None:
    return round(value, 6) if -1e300 < value < 1e300 else None
