"""A real server in its own process, the real load tester in another, and what they say of each other.

Histories have 5 to 50 items, 20 answers are asked for; latency counts from the intended send time, and a request without
a successful answer counts as infinitely slow. CPU is the server's whole process tree.

Units: seconds, except where a name says ``_ms``; rates in requests a second.
"""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.artifacts.repository import current_version

Json = dict[str, Any]
HTTP, GRPC, METRICS = 18200, 18201, 18202


def machine() -> Json:
    """Where this was measured."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def write_bodies(repository: Path, model: str, path: Path, count: int = 512) -> None:
    """Requests like a shop's: 5 to 50 items of the model's own catalogue, uniformly drawn, seeded."""
    folder = repository / model / current_version(repository, model)
    ids = json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))
    rng = random.Random(3)
    lines = [json.dumps({"history": rng.choices(ids, k=rng.randint(5, 50)), "k": 20}) for _ in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        pid: of its process.
        ready_s: from the start of the process until ``/readyz`` said 200.
    """

    pid: int
    ready_s: float

    def rss_mib(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@dataclass(frozen=True)
class Bench:
    """Starts servers and loads them.

    Attributes:
        repository: of published models.
        bodies: requests, one a line.
        seconds: of each timed run.
        say: told what is measured now.
        path: that is asked; empty: recommendations.
        env: what servers find in their environment besides this process's own.
    """

    repository: Path
    bodies: Path
    seconds: float
    say: Callable[[str], None]
    path: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def start_up(self, model: str) -> Json:
        """Time until ready, and memory then; the median of five starts."""
        self.say(f"{model}: time to ready")
        starts = []
        for _ in range(5):
            with self.server(model) as running:
                starts.append((running.ready_s, running.rss_mib()))
        return {
            "ready_s": statistics.median(ready for ready, _ in starts),
            "rss_mib": statistics.median(rss for _, rss in starts),
        }

    def serving(self, model: str) -> Json:
        """Light load, saturation, and the highest rates within 20 and 50 ms."""
        with self.server(model) as running:
            self.say(f"{model}: light load")
            self.load("run", "--arrivals", "closed", "--concurrency", "16", "--duration", "2")
            light = self.load("run", "--rate", "50", "--duration", "8", pid=running.pid)
            self.say(f"{model}: saturation")
            full = self.closed(running.pid)
            found = {}
            for limit_ms in (20, 50):
                self.say(f"{model}: highest rate with p99 <= {limit_ms} ms")
                found[limit_ms] = self.highest(limit_ms, start=0.7 * full["rps"])
            return {
                "p50_ms_at_50rps": light["result"]["latency_ms"]["p50"],
                "p99_ms_at_50rps": light["result"]["latency_ms"]["p99"],
                "saturation": full,
                "highest_rps_20ms": found[20],
                "highest_rps_50ms": found[50],
                "rss_mib_after_load": running.rss_mib(),
            }

    def overload(self, model: str, best_rps: float | None) -> Json:
        """Best rate for 10 s, twice that for 30 s, and a light load for 10 s, in one run."""
        with self.server(model) as running:
            self.load("run", "--arrivals", "closed", "--concurrency", "16", "--duration", "2")
            rate = best_rps or self.highest(50, start=1500.0)
            self.say(f"{model}: overload, {rate:.0f} then {2 * rate:.0f} requests/s")
            report = self.load(
                "run", "--arrivals", "steps", "--steps", f"10s@{rate:.0f},30s@{2 * rate:.0f},10s@{0.5 * rate:.0f}",
                "--within", "50ms", "--connections", "4096", "--warmup", "0", pid=running.pid,
            )  # fmt: skip
            return {"best_rps": rate, "report": report["result"]}

    def grpc(self, model: str) -> Json:
        """Saturation and highest rate within 50 ms over HTTP and over gRPC, on one server."""
        with self.server(model) as running:
            self.load("run", "--arrivals", "closed", "--concurrency", "16", "--duration", "2")
            rows = {}
            for name, target in (("http", f"http://127.0.0.1:{HTTP}"), ("grpc", f"grpc://127.0.0.1:{GRPC}")):
                self.say(f"{model}: {name}")
                full = self.closed(running.pid, target=target)
                rows[name] = {
                    **full,
                    "highest_rps_50ms": self.highest(50, start=0.7 * full["rps"], target=target),
                }
            rows["ratio"] = {
                key: rows["grpc"][key] / rows["http"][key]
                for key in ("rps", "highest_rps_50ms")
                if rows["http"][key]
            }
            return rows

    def metrics_cost(self, model: str, rounds: int = 5) -> Json:
        """CPU an answer with metrics on and off, two servers in turn at one rate that both hold."""
        cost: dict[str, list[float]] = {"on": [], "off": []}
        for turn in range(rounds):
            for name in ("on", "off"):
                self.say(f"{model}: metrics {name}, round {turn + 1} of {rounds}")
                with self.server(model, *(() if name == "on" else ("--no-metrics",))) as running:
                    self.load("run", "--arrivals", "closed", "--concurrency", "16", "--duration", "1")
                    report = self.load(
                        "run", "--rate", "1500", "--duration", str(self.seconds), pid=running.pid
                    )
                    cost[name].append(report["result"]["used"]["server_cpu_s_per_1000_ok"])
        ratios = [on / off for on, off in zip(cost["on"], cost["off"], strict=True)]
        return {"cpu_s_per_1000": cost, "ratio_median": statistics.median(ratios)}

    def closed(self, pid: int, target: str | None = None) -> Json:
        """64 in flight, always."""
        report = self.load(
            "run", "--arrivals", "closed", "--concurrency", "64", "--duration", str(self.seconds), pid=pid, target=target
        )  # fmt: skip
        result = report["result"]
        return {
            "rps": result["ok_rps"],
            "server_cpu_s_per_1000": result["used"]["server_cpu_s_per_1000_ok"],
            "foreign_cores": result["used"]["foreign_cores"],
        }

    def highest(self, limit_ms: int, *, start: float, target: str | None = None) -> float:
        """Highest rate found whose p99 over all offered requests is within the limit; 0 when none was."""
        report = self.load(
            "find", "--slo", f"p99={limit_ms}ms", "--start", f"{start:.0f}", "--duration", str(self.seconds),
            "--tolerance", "0.08", target=target,
        )  # fmt: skip
        return float(report["highest_passed_rps"] or 0.0)

    def load(self, *words: str, pid: int | None = None, target: str | None = None) -> Json:
        """Run the load tester and read its report.

        Raises:
            RuntimeError: it could not run; holds what it said.
        """
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "report.json"
            command = [
                sys.executable,
                "-m",
                "loadtest",
                words[0],
                "--target",
                target or f"http://127.0.0.1:{HTTP}{self.path}",
            ]
            command += ["--bodies", str(self.bodies), "--json", str(out), "--quiet", *words[1:]]
            if pid is not None:
                command += ["--server-pid", str(pid)]
            if os.geteuid() == 0:
                command.append("--realtime")  # on two busy cores nothing less is on time
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if not out.exists():
                raise RuntimeError(f"{' '.join(command)} exited {ran.returncode}: {ran.stderr[-500:]}")
            return dict(json.loads(out.read_text(encoding="utf-8")))

    @contextmanager
    def server(self, model: str, *flags: str, within_s: float = 60.0) -> Iterator[Running]:
        """A server on its own ports for the length of a block, of a recommender unless ``model`` is empty; drained at its end."""
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", HTTP)) == 0:
                raise RuntimeError(f"port {HTTP} is taken: something else would be measured")
        ports = ["--http-port", str(HTTP), "--grpc-port", str(GRPC), "--metrics-port", str(METRICS)]
        command = [
            sys.executable,
            "-m",
            "server",
            "--repository",
            str(self.repository),
            *(("--model", model) if model else ()),
            *ports,
            *flags,
        ]
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.env},
        )
        try:
            ready_s = _until_ready(process, began, within_s)
            yield Running(process.pid, ready_s)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_ready(process: subprocess.Popen[str], began: float, within_s: float) -> float:
    while time.perf_counter() - began < within_s:
        if process.poll() is not None:
            said = process.stderr.read()[-1000:] if process.stderr else ""
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready: {said}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return time.perf_counter() - began
        except (urllib.error.URLError, OSError):
            time.sleep(0.005)
    raise RuntimeError(f"the server was not ready within {within_s:g} s")
