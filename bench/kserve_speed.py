"""``python -m bench.kserve_speed``: our KServe v2 beside a real tritonserver, and what the fleet's engine adds to a call.

Both serve one published recommender, ours by itself and theirs by the python backend with the same graph, the same runtime and
one thread each. They are asked in turns at each rate, so that a slow minute of the machine meets both; the generator is
``loadtest``'s, open loop, latency from the intended send time, refusals and losses counted as infinitely late. Bodies are made by
``tritonclient``, all of one shape, because Triton batches no others together.

Units: seconds; rates in requests a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.real_triton import RealTriton, _free_ports
from bench.tables import table
from build_engines.triton.package import package
from loadtest import pacing
from loadtest.arrivals import poisson, steady
from loadtest.client import ClientOptions, Target
from loadtest.client_grpc import GrpcClient
from loadtest.client_http import HttpClient
from loadtest.measure import Recorder, Samples
from server.artifacts.repository import current_version, open_current

RATES = (200.0, 800.0, 1200.0, 1600.0, 2000.0, 2400.0, 2800.0)
BODIES = 256
WARMUP_S = 1.0
LIMIT_S = 0.020
# A rate is given up when two tries missed the limit in which the generator itself was on time: where it was not, something else
# had the machine, and the try says nothing.
TRIES, DISTURBED_S = 5, 0.003
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Way:
    """One server by one wire."""

    server: str
    protocol: str
    host: str
    port: int


def histories(rows: int, length: int) -> list[np.ndarray]:
    """Histories of 5 to ``length`` items, padded on the left."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(BODIES):
        row = np.zeros((1, length), np.int32)
        count = int(rng.integers(min(5, length), length + 1))
        row[0, length - count :] = rng.integers(1, rows, count)
        made.append(row)
    return made


def http_wires(way: Way, model: str, rows: Sequence[np.ndarray]) -> list[bytes]:
    """Requests as tritonclient writes their bodies: raw tensors in, raw tensors out."""
    import tritonclient.http as triton

    wires = []
    for row in rows:
        inputs = [triton.InferInput(name, list(row.shape), "INT32") for name in ("item_ids", "exclude_ids")]
        for one in inputs:
            one.set_data_from_numpy(row)
        body, size = triton.InferenceServerClient.generate_request_body(inputs)
        head = (
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {way.host}:{way.port}\r\n"
            f"Inference-Header-Content-Length: {size}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        wires.append(head.encode() + bytes(body))
    return wires


def grpc_messages(model: str, rows: Sequence[np.ndarray]) -> list[bytes]:
    """The messages that tritonclient sends."""
    from tritonclient.grpc import service_pb2 as pb

    messages = []
    for row in rows:
        request = pb.ModelInferRequest(model_name=model)
        for name in ("item_ids", "exclude_ids"):
            request.inputs.add(name=name, datatype="INT32", shape=row.shape)
            request.raw_input_contents.append(row.tobytes())
        messages.append(request.SerializeToString())
    return messages


def run(
    way: Way, model: str, rows: Sequence[np.ndarray], *, rate: float = 0.0, in_flight: int = 0, seconds: float
) -> Samples:
    """One stretch of load, its warm-up left out."""
    times = poisson(steady(rate, WARMUP_S + seconds), np.random.default_rng(int(rate))) if rate else None
    recorder = Recorder(times)
    began_s = time.monotonic()

    def clock() -> float:
        return time.monotonic() - began_s

    options = ClientOptions(connections=256, preopen=64, timeout_s=5.0)
    path = f"/v2/models/{model}/infer" if way.protocol == "http" else GRPC_METHOD
    target = Target(way.protocol, way.host, way.port, path)
    client: Any
    if way.protocol == "http":
        client = HttpClient(target, http_wires(way, model, rows), recorder, clock, options)
    else:
        client = GrpcClient(target, grpc_messages(model, rows), recorder, clock, options)
    try:
        client.open()
        began_s = time.monotonic() + 0.05
        with pacing.no_collector():
            if rate:
                pacing.open_loop(client, recorder, clock, nap_s=pacing.NAP_S)
            else:
                plan = pacing.Closed(in_flight, WARMUP_S + seconds)
                pacing.closed_loop(client, recorder, clock, plan, nap_s=pacing.NAP_S)
    finally:
        client.close()
    return recorder.samples().between(WARMUP_S)


def added_latency(
    address: str, model: str, version: str, rows: Sequence[np.ndarray], calls: int
) -> dict[str, float]:
    """Milliseconds at the median: tritonclient by itself, and the engine that the server runs, in turns."""
    import tritonclient.grpc.aio as triton

    from server.engines.base import TensorSpec
    from server.engines.triton import TritonEngine
    from server.engines.triton_fleet import TritonFleet

    fleet = TritonFleet([address])
    inputs = tuple(
        TensorSpec(name=name, dtype="int32", shape=("B", "L")) for name in ("item_ids", "exclude_ids")
    )
    outputs = (
        TensorSpec(name="ids", dtype="int32", shape=("B", "K")),
        TensorSpec(name="scores", dtype="float32", shape=("B", "K")),
    )
    engine = TritonEngine(fleet, model, version, inputs=inputs, outputs=outputs, wait_s=30.0)

    async def both() -> tuple[list[float], list[float]]:
        alone: list[float] = []
        through: list[float] = []
        async with triton.InferenceServerClient(address) as client:
            for at in range(calls):
                row = rows[at % len(rows)]
                began_s = time.perf_counter()
                given = []
                for name in ("item_ids", "exclude_ids"):
                    one = triton.InferInput(name, list(row.shape), "INT32")
                    one.set_data_from_numpy(row)
                    given.append(one)
                answer = await client.infer(model, given, timeout=10_000_000)
                answer.as_numpy("ids")
                answer.as_numpy("scores")
                alone.append(time.perf_counter() - began_s)
                began_s = time.perf_counter()
                engine.run({"item_ids": row, "exclude_ids": row})
                through.append(time.perf_counter() - began_s)
        return alone, through

    try:
        alone, through = asyncio.run(both())
    finally:
        fleet.close()
    skip = calls // 10
    return {
        "alone_p50_ms": float(np.median(alone[skip:]) * 1e3),
        "engine_p50_ms": float(np.median(through[skip:]) * 1e3),
        "added_p50_ms": float((np.median(through[skip:]) - np.median(alone[skip:])) * 1e3),
    }


@contextlib.contextmanager
def our_server(
    repository: Path, model: str, log: Path, more: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """``python -m server`` on free ports; the ports of HTTP and gRPC."""
    port = _free_ports()
    environment = {
        **os.environ,
        "VITRINE_REPOSITORY": str(repository),
        "VITRINE_MODEL": model,
        "VITRINE_HTTP_PORT": str(port),
        "VITRINE_GRPC_PORT": str(port + 1),
        "VITRINE_METRICS_PORT": str(port + 2),
        "VITRINE_TEXT_ENGINE": "off",
        "VITRINE_ENCODER": "false",
        "VITRINE_ENGINE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **(more or {}),
    }
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "server"], env=environment, stdout=out, stderr=out)
    try:
        began_s = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1).close()
                break
            if process.poll() is not None or time.monotonic() - began_s > 60.0:
                raise RuntimeError(f"our server is not ready; its log: {log}")
            time.sleep(0.05)
        yield port, port + 1
    finally:
        process.terminate()
        process.wait(20)


def measure(
    repository: Path, model: str, seconds: float, scratch: Path, protocols: Sequence[str]
) -> dict[str, Any]:
    """Everything, in one run."""
    opened = open_current(repository, model, verify=False)
    version = current_version(repository, model)
    rows = histories(int(opened.manifest.parameters["items"]), opened.manifest.limits["max_history"])
    package(repository, scratch / "fleet", models=[model], backend="python")
    found: dict[str, Any] = {
        "model": model,
        "items": opened.manifest.parameters["items"],
        "rates": [],
        "closed": [],
    }
    with (
        RealTriton(scratch / "fleet", log=scratch / "triton.log") as triton,
        our_server(repository, model, scratch / "ours.log") as (http, grpc_port),
    ):
        there = [int(address.rpartition(":")[2]) for address in (triton.http, triton.grpc)]
        ways = [
            Way(server, protocol, "127.0.0.1", port)
            for protocol, ports in (("http", (there[0], http)), ("grpc", (there[1], grpc_port)))
            for server, port in zip(("tritonserver", "ours"), ports, strict=True)
            if protocol in protocols
        ]
        beaten: set[tuple[str, str]] = set()
        for rate in RATES:
            for way in ways:
                key = (way.server, way.protocol)
                if key in beaten:
                    continue
                tries: list[float] = []
                for _ in range(TRIES):
                    samples = run(way, model, rows, rate=rate, seconds=seconds)
                    p99_s = float(np.quantile(samples.latency_s, 0.99))
                    late_s = float(np.quantile(samples.late_s, 0.99))
                    if p99_s <= LIMIT_S or late_s <= DISTURBED_S:
                        tries.append(p99_s)
                    found["rates"].append(
                        {
                            "server": way.server,
                            "protocol": way.protocol,
                            "rate": rate,
                            "p50_ms": float(np.quantile(samples.latency_s, 0.5) * 1e3),
                            "p99_ms": p99_s * 1e3,
                            "ok": float(samples.ok.mean()),
                            "generator_late_p99_ms": late_s * 1e3,
                        }
                    )
                    print(found["rates"][-1], file=sys.stderr)
                    if p99_s <= LIMIT_S or len(tries) == 2:
                        break
                if min(tries, default=0.0) > LIMIT_S:
                    beaten.add(key)
        for way in ways:
            samples = run(way, model, rows, in_flight=64, seconds=seconds)
            found["closed"].append(
                {
                    "server": way.server,
                    "protocol": way.protocol,
                    "answers_a_second": float(samples.ok.sum() / seconds),
                }
            )
        found["engine"] = added_latency(triton.grpc, model, version, rows, 400)
    return found


def report(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = []
    for protocol in sorted({one["protocol"] for one in found["closed"]}, reverse=True):
        row: list[object] = [protocol]
        for server in ("tritonserver", "ours"):
            held = [
                one["rate"]
                for one in found["rates"]
                if (one["server"], one["protocol"]) == (server, protocol) and one["p99_ms"] <= LIMIT_S * 1e3
            ]
            row.append(f"{max(held, default=0.0):,.0f}")
        for server in ("tritonserver", "ours"):
            (closed,) = (
                one["answers_a_second"]
                for one in found["closed"]
                if (one["server"], one["protocol"]) == (server, protocol)
            )
            row.append(f"{closed:,.0f}")
        for server in ("tritonserver", "ours"):
            first = next(
                one for one in found["rates"] if (one["server"], one["protocol"]) == (server, protocol)
            )
            row.append(f"{first['p50_ms']:.1f} / {first['p99_ms']:.1f}")
        lines.append([str(cell) for cell in row])
    head = [
        "wire",
        "tritonserver, highest of the rates tried with p99 <= 20 ms",
        "ours",
        "tritonserver, 64 in flight, answers/s",
        "ours",
        f"tritonserver, p50 / p99 at {RATES[0]:g}/s, ms",
        "ours",
    ]
    engine = found["engine"]
    return (
        table(head, lines)
        + f"\nThe engine `triton` adds {engine['added_p50_ms']:.2f} ms at the median to a call of {engine['alone_p50_ms']:.2f} ms.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(prog="python -m bench.kserve_speed", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("bench/results/model_repository"))
    parser.add_argument("--model", default="bench-50k-int8")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stretch (default: %(default)s)")
    parser.add_argument("--protocols", nargs="+", default=["http", "grpc"], choices=["http", "grpc"])
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(
            arguments.repository, arguments.model, arguments.seconds, Path(scratch), arguments.protocols
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1))
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
