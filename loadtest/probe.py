"""Drives a search: one run a probe, and a report of all of them."""

from __future__ import annotations

import argparse
import math
import time

from loadtest import arrivals, report_json
from loadtest.find import Search, SearchLimits
from loadtest.flags import options_of
from loadtest.plan import Plan
from loadtest.progress import ProgressLine
from loadtest.report_json import Json
from loadtest.run import Outcome, run_plan
from loadtest.slo import Judgement, Objective, Verdict, judge_all, overall
from loadtest.summary import evidence_of

LONGEST_STRETCH = 4  # a probe that decides nothing is made at most this many times as long


def find_highest(
    args: argparse.Namespace, bodies: tuple[bytes, ...], limits: SearchLimits, *, within_s: float
) -> Json:
    """Search, and report the highest rate that passed with its own run in full.

    Objectives are applied at every rate that is tried; a rate named in one (``@500rps``) is passed over.
    """
    objectives = tuple(_at_any_rate(objective) for objective in args.slo)
    search, probes = Search(limits), []
    best: tuple[Plan, Outcome, tuple[Judgement, ...]] | None = None
    last: tuple[Plan, Outcome, tuple[Judgement, ...]] | None = None
    number = 0
    while (rate := search.next_rate()) is not None:
        stretch = 1
        while True:
            if number:
                time.sleep(args.settle)
            plan = _plan(args, bodies, rate, args.seed + number, stretch)
            line = ProgressLine(plan.duration_s + plan.effective_warmup_s, f"{rate:g}/s")
            outcome = run_plan(plan, watch=None if args.quiet else line, server_pid=args.server_pid)
            line.done()
            evidence = evidence_of(outcome.samples, offered_rps=plan.offered_rps, open_loop=True)
            judgements = judge_all(objectives, evidence)
            verdict = overall(judgements)
            number += 1
            if verdict is not Verdict.UNDECIDABLE or stretch >= LONGEST_STRETCH:
                break
            stretch *= 2  # too short to decide says nothing about the rate: a longer probe does
            if not args.quiet:
                print(f"{rate:8g}/s  {verdict.value:<11}  trying again, twice as long", flush=True)
        search.tell(rate, verdict)
        probe = _probe(plan, outcome, judgements, rate, within_s)
        probes.append(probe)
        if not args.quiet:
            print(
                f"{rate:8g}/s  {verdict.value:<11}  {'; '.join(judgement.reason for judgement in judgements)}",
                flush=True,
            )
        last = (plan, outcome, judgements)
        if verdict is Verdict.PASS and (best is None or rate >= best[0].offered_rps):
            best = last
    assert last is not None, "a search probes at least once"
    plan, outcome, judgements = best or last
    result = report_json.result_of(plan, outcome, within_s=within_s, objectives=objectives)
    report = report_json.report_of("find", plan, result, judgements, title=args.title)
    report["probes"] = probes
    report["highest_passed_rps"] = search.passed_rps or None
    report["lowest_missed_rps"] = search.missed_rps if search.missed_rps < math.inf else None
    return report


def _plan(args: argparse.Namespace, bodies: tuple[bytes, ...], rate: float, seed: int, stretch: int) -> Plan:
    return Plan(
        target=args.target,
        bodies=bodies,
        arrivals="constant" if args.constant else "poisson",
        profile=arrivals.steady(rate, stretch * (args.duration if args.duration is not None else 6.0)),
        warmup_s=args.warmup,
        seed=seed,
        options=options_of(args),
        processes=args.processes,
        nap_s=args.nap,
    )


def _probe(
    plan: Plan, outcome: Outcome, judgements: tuple[Judgement, ...], rate: float, within_s: float
) -> Json:
    objectives = [judgement.objective for judgement in judgements]
    result = report_json.result_of(plan, outcome, within_s=within_s, objectives=objectives)
    kept = (
        "offered_rps",
        "ok_rps",
        "good_rps",
        "latency_ms",
        "p99_refused",
        "late_ms",
        "status",
        "served_by",
        "used",
    )
    return {
        "rate_rps": rate,
        "verdict": overall(judgements).value,
        "verdicts": report_json.verdicts_of(judgements),
        **{name: result[name] for name in kept},
    }


def _at_any_rate(objective: Objective) -> Objective:
    return Objective(
        objective.text, objective.quantile, objective.limit_s, objective.share_of, objective.least, None
    )
