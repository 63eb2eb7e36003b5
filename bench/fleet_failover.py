"""``python -m bench.fleet_failover``: one of two tritonservers is killed under load; how many requests are touched by it.

Our server asks both by its engine ``triton``; shoppers' requests come in an open loop. Touched is what was not answered by the model:
answered by the fallback tier, refused, failed or lost. Both servers share this machine's cores, so the rate is a modest one.

Units: seconds; rates in requests a second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from bench.kserve_speed import our_server
from bench.real_triton import RealTriton
from build_engines.triton.package import package
from loadtest import pacing
from loadtest.arrivals import poisson, steady
from loadtest.client import ClientOptions, Target
from loadtest.client_http import HttpClient, prepare
from loadtest.measure import MODEL, Recorder
from server.artifacts.repository import open_current
from server.encoding.catalogue import ITEM_IDS_FILE

BODIES = 64


def failover(repository: Path, model: str, *, rate: float, seconds: float, scratch: Path) -> dict[str, float]:
    """Kill one of two in the middle of the run.

    Returns:
        ``requests``, ``touched``, ``touched_before`` (in the half before the kill), ``share``, ``p99_ms``.
    """
    opened = open_current(repository, model, verify=False)
    items = msgspec.json.decode(opened.path(ITEM_IDS_FILE).read_bytes(), type=list[str])
    rng = np.random.default_rng(5)
    bodies = [
        msgspec.json.encode({"history": [items[int(n)] for n in rng.integers(0, len(items), 12)], "k": 10})
        for _ in range(BODIES)
    ]
    package(repository, scratch / "fleet", models=[model], backend="python")
    hosts = [RealTriton(scratch / "fleet", log=scratch / f"triton{n}.log") for n in (1, 2)]
    recorder = Recorder(poisson(steady(rate, seconds), np.random.default_rng(1)))
    try:
        for host in hosts:
            host.start()
        remote = {
            "VITRINE_ENGINE": "triton",
            "VITRINE_TRITON_HOSTS": ",".join(host.grpc for host in hosts),
            "VITRINE_DEFAULT_DEADLINE_MS": "1000",
        }
        with our_server(repository, model, scratch / "ours.log", remote) as (http, _):
            target = Target("http", "127.0.0.1", http, "/v1/recommendations")
            time.sleep(1.5)  # both hosts have been looked at
            began_s = [time.monotonic()]

            def clock() -> float:
                return time.monotonic() - began_s[0]

            client = HttpClient(
                target,
                prepare(target, bodies, {}),
                recorder,
                clock,
                ClientOptions(connections=128, timeout_s=5.0),
            )
            client.open()
            began_s[0] = time.monotonic()
            killing = threading.Timer(seconds / 2, hosts[0].kill)
            killing.start()
            with pacing.no_collector():
                pacing.open_loop(client, recorder, clock)
            client.close()
            killing.join()
    finally:
        for host in hosts:
            host.kill()
    samples = recorder.samples()
    touched = ~(samples.ok & (samples.tier == MODEL))
    return {
        "requests": float(len(samples)),
        "touched": float(touched.sum()),
        "touched_before": float(touched[samples.due_s < seconds / 2 - 0.1].sum()),
        "share": float(touched.mean()),
        "p99_ms": float(np.quantile(samples.latency_s, 0.99) * 1e3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet_failover", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("bench/results/model_repository"))
    parser.add_argument("--model", default="bench-50k-int8")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        found = failover(
            arguments.repository,
            arguments.model,
            rate=arguments.rate,
            seconds=arguments.seconds,
            scratch=Path(scratch),
        )
    print(
        f"{found['requests']:.0f} requests, {found['touched']:.0f} touched ({100 * found['share']:.2f} %), "
        f"{found['touched_before']:.0f} of them before the kill; p99 {found['p99_ms']:.1f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
