"""``python -m loadtest``: offer a load, give a verdict, find a limit, compare two reports."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import flags, report_json
from loadtest.client import Unreachable, parse_target
from loadtest.compare import table
from loadtest.find import SearchLimits
from loadtest.probe import find_highest
from loadtest.progress import ProgressLine
from loadtest.report_html import page
from loadtest.report_json import Json
from loadtest.run import run_plan
from loadtest.slo import Objective, judge_all
from loadtest.static_server import loop_factory, serve
from loadtest.summary import evidence_of
from loadtest.text import text_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except Unreachable as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return report_json.EXIT_UNREACHABLE
    except (ValueError, OSError, RuntimeError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return report_json.EXIT_USAGE
    except KeyboardInterrupt:
        print("loadtest: interrupted, nothing was written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description=(
            "Offers a load to a running server and says whether an objective held. Latency counts from the intended"
            " send time; a request without a successful answer counts as infinitely slow."
        ),
        epilog=flags.EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shape = argparse.RawDescriptionHelpFormatter
    epilog = f"{flags.RUN_EXAMPLES}\n{flags.EXIT_CODES}"
    run = commands.add_parser(
        "run", help="one load, one report, one verdict", epilog=epilog, formatter_class=shape
    )
    flags.add_run(run)
    run.set_defaults(run=_run)
    find = commands.add_parser(
        "find",
        help="the highest rate at which the objectives hold",
        epilog=flags.EXIT_CODES,
        formatter_class=shape,
    )
    _add_find(find)
    compare = commands.add_parser("compare", help="two JSON reports side by side, with ratios")
    compare.add_argument("first", type=Path, metavar="A.json")
    compare.add_argument("second", type=Path, metavar="B.json")
    compare.set_defaults(run=_compare)
    html = commands.add_parser("html", help="make the page of a JSON report again")
    html.add_argument("report", type=Path)
    html.add_argument("page", type=Path)
    html.set_defaults(run=_html)
    static = commands.add_parser("serve-static", help="a fixed answer: finds the generator's own ceiling")
    static.add_argument(
        "--listen", type=parse_target, default="http://127.0.0.1:8080", help="default: %(default)s"
    )
    static.add_argument(
        "--delay", type=flags.milliseconds, default=0.0, help="answer after this (default: at once)"
    )
    static.set_defaults(run=_serve_static)
    return parser


def _add_find(parser: argparse.ArgumentParser) -> None:
    flags.add_shared(parser)
    search = parser.add_argument_group("search")
    search.add_argument(
        "--start", type=flags.positive, default=200.0, help="first rate (default: %(default)s)"
    )
    search.add_argument(
        "--least", type=flags.positive, default=10.0, help="give up below this (default: %(default)s)"
    )
    search.add_argument(
        "--most", type=flags.positive, default=20_000.0, help="never try more (default: %(default)s)"
    )
    search.add_argument(
        "--tolerance",
        type=flags.positive,
        default=0.05,
        help="width of the last bracket (default: %(default)s)",
    )
    search.add_argument(
        "--attempts",
        type=flags.count,
        default=2,
        help="probes before a rate is given up (default: %(default)s)",
    )
    search.add_argument(
        "--settle", type=float, default=1.0, help="seconds of rest between probes (default: %(default)s)"
    )
    search.add_argument("--constant", action="store_true", help="evenly spaced arrivals instead of Poisson")
    parser.set_defaults(run=_find)


def _run(args: argparse.Namespace) -> int:
    plan = flags.plan_of(args)
    _come_first(args.nice, args.realtime)
    line = ProgressLine(plan.duration_s + plan.effective_warmup_s)
    outcome = run_plan(plan, watch=None if args.quiet else line, server_pid=args.server_pid)
    line.done()
    is_open = plan.closed is None
    evidence = evidence_of(outcome.samples, offered_rps=plan.offered_rps, open_loop=is_open)
    judgements = judge_all(tuple(args.slo), evidence)
    result = report_json.result_of(plan, outcome, within_s=_within(args), objectives=args.slo)
    return _publish(args, report_json.report_of("run", plan, result, judgements, title=args.title))


def _find(args: argparse.Namespace) -> int:
    if not args.slo:
        raise ValueError("find needs an objective, such as --slo p99=20ms")
    limits = SearchLimits(
        start_rps=args.start,
        least_rps=args.least,
        most_rps=args.most,
        tolerance=args.tolerance,
        attempts=args.attempts,
    )
    chosen = flags.bodies_of(args)
    _come_first(args.nice, args.realtime)
    report = find_highest(args, chosen, limits, within_s=_within(args))
    return _publish(args, report)


def _publish(args: argparse.Namespace, report: Json) -> int:
    if args.json is not None:
        report_json.write(report, args.json)
    if args.html is not None:
        args.html.write_text(page(report), encoding="utf-8")
    if not args.quiet:
        print(text_of(report))
    return int(report["exit_code"])


def _within(args: argparse.Namespace) -> float:
    limits = [
        slo.limit_s
        for slo in args.slo
        if isinstance(slo, Objective) and slo.quantile is not None and slo.quantile >= 0.9
    ]
    return float(args.within) if args.within is not None else min(limits, default=0.050)


def _come_first(nice: int, realtime: bool) -> None:
    try:
        if nice:
            os.nice(nice)
        if realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError as error:
        raise ValueError(
            f"--nice {nice}, --realtime {realtime}: {error}; only root may come first"
        ) from error


def _compare(args: argparse.Namespace) -> int:
    print(
        table(
            report_json.load(args.first),
            report_json.load(args.second),
            names=(args.first.stem, args.second.stem),
        )
    )
    return 0


def _html(args: argparse.Namespace) -> int:
    args.page.write_text(page(report_json.load(args.report)), encoding="utf-8")
    return 0


def _serve_static(args: argparse.Namespace) -> int:
    print(
        f"answering on {args.listen.protocol}://{args.listen.host}:{args.listen.port} until interrupted",
        flush=True,
    )
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(args.listen.protocol, args.listen.host, args.listen.port, args.delay))
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
