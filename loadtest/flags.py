"""The command line: its flags, and a plan out of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from loadtest import arrivals, bodies
from loadtest.client import ClientOptions, Target, parse_target
from loadtest.pacing import Closed
from loadtest.plan import OPEN_SHAPES, Plan
from loadtest.slo import Objective, parse_objective

EXIT_CODES = """exit codes:
  0  every objective passed, or none was given
  1  an objective failed
  2  the command line or a file is wrong
  3  an objective could not be decided (too few requests, another rate than its own, a closed loop)
  4  a verdict was refused because the generator itself was late
  5  the target could not be reached"""
RUN_EXAMPLES = """examples:
  python -m loadtest run --repository model_repository --slo p99=20ms@500rps
  python -m loadtest run --target grpc://127.0.0.1:8001 --repository model_repository --rate 800 --duration 30
  python -m loadtest run --arrivals steps --steps 5s@1000,30s@6000,10s@1000 --within 50ms --connections 4096 --html out.html
  python -m loadtest run --arrivals closed --concurrency 64            # saturation
  python -m loadtest run --arrivals replay --trace monday.jsonl --speed 2
"""


def milliseconds(text: str) -> float:
    """Read ``20ms``, ``0.5s``, ``300us`` or a bare number of milliseconds; returns seconds."""
    for unit, scale in (("ms", 1e-3), ("us", 1e-6), ("s", 1.0)):
        if text.endswith(unit):
            value = float(text.removesuffix(unit)) * scale
            break
    else:
        value = float(text) * 1e-3
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time over 0")
    return value


def nap(text: str) -> float:
    """Read a time of at most 10 ms, or ``0``; returns seconds."""
    value = 0.0 if text == "0" else milliseconds(text)
    if value > 0.01:
        raise argparse.ArgumentTypeError(f"{text!r} is over 10 ms")
    return value


def positive(text: str) -> float:
    """Read a number over 0."""
    value = float(text)
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0")
    return value


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not at least 1")
    return value


def objective(text: str) -> Objective:
    """Read an objective."""
    try:
        return parse_objective(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def target(text: str) -> Target:
    """Read a target."""
    try:
        return parse_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Flags that ``run`` and ``find`` share."""
    where = parser.add_argument_group("where to")
    where.add_argument(
        "--target", type=target, default="http://127.0.0.1:8000",
        help="http://HOST:PORT[/path] or grpc://HOST:PORT[/package.Service/Method] (default: %(default)s; paths default"
        " to the recommendations)",
    )  # fmt: skip
    where.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="sent with each request; repeatable",
    )
    where.add_argument(
        "--timeout", type=milliseconds, default="10s", help="give a request up after this (default: 10s)"
    )
    where.add_argument(
        "--deadline", type=milliseconds, help="deadline told to the server: deadline_ms, or gRPC's own"
    )
    where.add_argument(
        "--connections", type=count, default=512, help="most connections at once (default: %(default)s)"
    )
    where.add_argument(
        "--preopen", type=count, default=64, help="connections opened beforehand (default: %(default)s)"
    )
    where.add_argument("--channels", type=count, default=4, help="gRPC connections (default: %(default)s)")
    what = parser.add_argument_group("what is asked")
    what.add_argument("--bodies", type=Path, help="file of one JSON body a line, sent in turn")
    what.add_argument(
        "--repository", type=Path, help="draw histories from the items of this model repository"
    )
    what.add_argument(
        "--model", default="recommender", help="model in it, or on the server (default: %(default)s)"
    )
    what.add_argument("--synthetic-items", type=count, metavar="N", help="draw from sku-1..sku-N instead")
    what.add_argument(
        "--distinct", type=count, default=20_000, help="different bodies prepared (default: %(default)s)"
    )
    what.add_argument(
        "--mean-history", type=positive, default=8.0, help="mean history length (default: %(default)s)"
    )
    what.add_argument("--max-history", type=count, default=50, help="longest history (default: %(default)s)")
    what.add_argument(
        "--zipf", type=float, default=0.9, help="skew of the items' popularity (default: %(default)s)"
    )
    what.add_argument("--k", type=count, default=10, help="items asked for (default: %(default)s)")
    how = parser.add_argument_group("how")
    how.add_argument("--slo", type=objective, action="append", default=[], metavar="OBJECTIVE",
                     help="p99=20ms@500rps, p50=2ms, ok=99.9%%, model=95%%; repeatable; @rate may be left out")  # fmt: skip
    how.add_argument(
        "--duration", type=positive, default=None, help="measured seconds (default: run 10, find 6)"
    )
    how.add_argument(
        "--warmup", type=float, default=1.0, help="seconds before that are not counted (default: %(default)s)"
    )
    how.add_argument("--seed", type=int, default=1, help="of arrivals and histories (default: %(default)s)")
    how.add_argument(
        "--processes", type=count, default=1, help="generators to share the load (default: %(default)s)"
    )
    how.add_argument(
        "--nap",
        type=nap,
        default="250us",
        help="above 1,000 requests per second, gather sends and answers for this long, so that on the server's own"
        " cores not every answer interrupts it; part of every latency; 0: never (default: %(default)s)",
    )
    how.add_argument(
        "--nice",
        type=int,
        default=0,
        help="scheduling priority, -20 is first; needs the right to (default: 0)",
    )
    how.add_argument(
        "--realtime",
        action="store_true",
        help="run before everything else (SCHED_RR; root only): on a busy machine nothing less is on time",
    )
    how.add_argument(
        "--server-pid", type=count, help="report CPU and memory of this process and its children"
    )
    how.add_argument(
        "--within", type=milliseconds, help="what counts as good (default: tightest objective, else 50ms)"
    )
    out = parser.add_argument_group("reports")
    out.add_argument("--json", type=Path, help="write the report as JSON")
    out.add_argument("--html", type=Path, help="write the report as one self-contained page")
    out.add_argument("--title", default="", help="heading of the report")
    out.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Flags of ``run``."""
    add_shared(parser)
    load = parser.add_argument_group("load")
    load.add_argument(
        "--arrivals", choices=(*OPEN_SHAPES, "closed"), default="poisson", help="default: %(default)s"
    )
    load.add_argument(
        "--rate", type=positive, help="requests per second (default: the objectives' rate, else 100)"
    )
    load.add_argument("--to-rate", type=positive, help="ramp: rate at the end; burst: rate in a burst")
    load.add_argument(
        "--burst-every", type=positive, default=5.0, help="burst: period, seconds (default: %(default)s)"
    )
    load.add_argument(
        "--burst-length", type=positive, default=1.0, help="burst: length, seconds (default: %(default)s)"
    )
    load.add_argument("--steps", help="steps: 5s@1000,30s@5000,10s@1000")
    load.add_argument(
        "--trace", type=Path, help='replay: file of times in seconds, or {"t": s, "body": {...}} lines'
    )
    load.add_argument(
        "--speed", type=positive, default=1.0, help="replay: 2 sends it in half the time (default: 1)"
    )
    load.add_argument(
        "--concurrency", type=count, default=64, help="closed: requests in flight (default: %(default)s)"
    )


def headers_of(args: argparse.Namespace) -> dict[str, str]:
    """The ``--header`` flags as a mapping."""
    headers = {}
    for text in args.header:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or any(ord(letter) < 32 for letter in text):
            raise ValueError(f"--header {text!r}: write it as NAME:VALUE")
        headers[name.strip()] = value.strip()
    return headers


def bodies_of(args: argparse.Namespace) -> tuple[bytes, ...]:
    """The bodies that the flags ask for: a file, a repository, made-up items, or what the server lists."""
    if args.bodies is not None:
        return tuple(bodies.bodies_from_file(args.bodies))
    if args.synthetic_items is not None:
        items = [f"sku-{number}" for number in range(1, args.synthetic_items + 1)]
    elif args.repository is not None:
        items = bodies.item_ids_from_repository(args.repository, args.model)
    elif args.target.protocol == "http":
        items = bodies.item_ids_from_server(args.target, args.model)
    else:
        raise ValueError("a gRPC target needs --repository, --bodies or --synthetic-items")
    shape = bodies.HistoryShape(
        distinct=args.distinct,
        mean_length=args.mean_history,
        max_length=args.max_history,
        zipf=args.zipf,
        k=args.k,
    )
    deadline_ms = (
        args.deadline * 1e3 if args.deadline is not None and args.target.protocol == "http" else None
    )
    rng = np.random.default_rng([args.seed, 1])
    return tuple(bodies.recommendation_bodies(items, shape, rng, deadline_ms=deadline_ms))


def options_of(args: argparse.Namespace) -> ClientOptions:
    """The client options that the flags ask for."""
    return ClientOptions(
        connections=args.connections,
        timeout_s=args.timeout,
        deadline_s=args.deadline,
        headers=headers_of(args),
        preopen=args.preopen,
        channels=args.channels,
    )


def rate_of(args: argparse.Namespace) -> float:
    """The rate: as given, else the one that all objectives name, else 100.

    Raises:
        ValueError: objectives name different rates; one run offers one.
    """
    if args.rate is not None:
        return float(args.rate)
    rates = {slo.rate_rps for slo in args.slo if slo.rate_rps is not None}
    if len(rates) > 1:
        raise ValueError(
            f"objectives about different rates {sorted(rates)}: give --rate, or run them one by one"
        )
    return float(rates.pop()) if rates else 100.0


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan that the flags of ``run`` ask for."""
    duration = args.duration if args.duration is not None else 10.0
    if args.arrivals == "closed":
        return _plan(args, bodies_of(args), closed=Closed(args.concurrency, duration))
    if args.arrivals == "replay":
        if args.trace is None:
            raise ValueError("--arrivals replay needs --trace")
        trace = arrivals.read_trace(args.trace, speed=args.speed)
        return _plan(args, trace.bodies or bodies_of(args), trace=trace.times_s)
    return _plan(args, bodies_of(args), profile=_profile(args, duration))


def _profile(args: argparse.Namespace, duration: float) -> arrivals.Profile:
    if args.arrivals == "steps":
        if args.steps is None:
            raise ValueError("--arrivals steps needs --steps")
        return arrivals.parse_steps(args.steps)
    rate = rate_of(args)
    if args.arrivals in ("ramp", "burst") and args.to_rate is None:
        raise ValueError(f"--arrivals {args.arrivals} needs --to-rate")
    if args.arrivals == "ramp":
        return arrivals.ramp(rate, args.to_rate, duration)
    if args.arrivals == "burst":
        return arrivals.burst(
            rate, args.to_rate, every_s=args.burst_every, burst_s=args.burst_length, duration_s=duration
        )
    return arrivals.steady(rate, duration)


def _plan(
    args: argparse.Namespace,
    chosen: tuple[bytes, ...],
    *,
    profile: arrivals.Profile = (),
    trace: arrivals.Times | None = None,
    closed: Closed | None = None,
) -> Plan:
    return Plan(
        target=args.target,
        bodies=chosen,
        arrivals=args.arrivals,
        profile=profile,
        trace=trace,
        closed=closed,
        warmup_s=args.warmup,
        seed=args.seed,
        options=options_of(args),
        processes=args.processes,
        nap_s=args.nap,
    )
