"""Embeddings over HTTP against the engine alone: ``python -m bench.embeddings [--repository FOLDER] [--model NAME]``.

A real server in its own process. Latency is of one short question at an open-loop rate, from the intended send time. Each
rate of embeddings stands beside the engine's own on the same texts, timed in turn with it, and beside CPU time: where others
compute as well, only that is a figure of the server. CPU time is by thread as the kernel's scheduler counts it.

Units: milliseconds, embeddings a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.serving import machine
from server.artifacts.repository import current_version, open_version
from server.encoder_domain import InputKind, Truncate
from server.engines.onnxruntime_encoder import padded
from server.pipelines.encoder_loading import load_encoder

Json = dict[str, Any]
QUESTIONS = (
    "Where is my order?", "How do I return shoes that do not fit?", "Can I pay by invoice?", "Do you ship to Norway?",
    "What does express delivery cost?", "My kettle arrived broken, what now?", "How long is the warranty on headphones?",
    "Which size should I take if I am between two?", "I want my money back", "When will it be in stock again?",
    "Can I change the delivery address of an order?", "Is there a discount for students?", "cancel my order please",
    "Do I have to pay customs?", "The voucher code does not work", "Can somebody call me?",
)  # fmt: skip
# Callers at once, texts of each request.
LOADS = ((1, 1), (16, 1), (4, 32), (2, 256))
BATCHES = (1, 8, 32)


class Connection:
    """One keep-alive HTTP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, texts: str | Sequence[str]) -> float:
        """Encode; returns the engine's milliseconds as the server tells them."""
        body = json.dumps({"input": texts, "encoding_format": "base64"}).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        await self._reader.readexactly(int(lines.split("content-length: ")[1].split("\r\n")[0]))
        if not lines.startswith("http/1.1 200"):
            raise RuntimeError(lines.splitlines()[0])
        return float(lines.split("engine;dur=")[1].split(",")[0])


async def connect(port: int) -> Connection:
    """Open a connection."""
    return Connection(*await asyncio.open_connection("127.0.0.1", port))


async def light(port: int, rate: float, seconds: float) -> Json:
    """One question at a time, at random, at this rate."""
    rng = random.Random(1)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(32):
        free.put_nowait(await connect(port))
    took: list[float] = []
    engine_ms: list[float] = []

    async def one(due: float) -> None:
        connection = await free.get()
        engine_ms.append(await connection.ask(rng.choice(QUESTIONS)))
        took.append((time.perf_counter() - due) * 1e3)
        free.put_nowait(connection)

    tasks = []
    due = time.perf_counter()
    end = due + seconds
    while (due := due + rng.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    p50, p99 = np.percentile(took, (50, 99))
    return {"rate": rate, "n": len(took), "p50_ms": p50, "p99_ms": p99, "engine_p50_ms": np.median(engine_ms)}


async def saturated(port: int, callers: int, texts: int, seconds: float) -> int:
    """Everybody asks again as soon as there is an answer; returns how many texts were encoded."""
    end = time.perf_counter() + seconds
    done = 0

    async def caller(seed: int) -> None:
        nonlocal done
        rng = random.Random(seed)
        connection = await connect(port)
        while time.perf_counter() < end:
            await connection.ask(rng.choices(QUESTIONS, k=texts) if texts > 1 else rng.choice(QUESTIONS))
            done += texts

    await asyncio.gather(*(caller(seed) for seed in range(callers)))
    return done


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9


class Alone:
    """The engine without a server, on the same questions, each batch of texts of nearly one length."""

    def __init__(self, repository: Path, model: str) -> None:
        loaded = load_encoder(open_version(repository / model / current_version(repository, model)))
        tokens = loaded.codec.encode(QUESTIONS, InputKind.PLAIN, Truncate.END)
        self._texts = sorted((one.ids for one in tokens), key=len) * 4
        self._texts.sort(key=len)
        self._engine = loaded.tokens.engine

    def measure(self, batch: int, seconds: float) -> Json:
        """Embeddings a second, and CPU-ms of each."""
        rng = random.Random(2)
        done, began, cpu = 0, time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < seconds:
            at = rng.randrange(len(self._texts) - batch + 1)
            self._engine.run(*padded(self._texts[at : at + batch]))
            done += batch
        wall_s, cpu_used_s = time.perf_counter() - began, time.thread_time() - cpu
        return {"batch": batch, "rate": done / wall_s, "cpu_ms": cpu_used_s / done * 1e3}


async def measure(repository: Path, model: str, seconds: float) -> Json:
    """Everything, with one server."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "VITRINE_ENCODER_MODEL": model}
    for off in ("GRPC", "COPY", "SUPPORT"):
        env[f"VITRINE_{off}"] = "false"
    command = [sys.executable, "-m", "server", "--repository", str(repository), "--http-port", "0"]
    more = ["--metrics-port", "0"]
    server = subprocess.Popen([*command, *more], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "HTTP" in line)
        port = int(line.split("127.0.0.1:")[1].split()[0])
        await (await connect(port)).ask("Is anybody there?")
        alone = Alone(repository, model)
        result: Json = {"machine": machine(), "model": model, "loads": [], "light": []}
        for rate in (50.0, 100.0):
            before = cpu_s(server.pid)
            row = await light(port, rate, seconds)
            result["light"].append({**row, "cpu_ms": (cpu_s(server.pid) - before) / row["n"] * 1e3})
        for callers, texts in LOADS:
            before, began = cpu_s(server.pid), time.perf_counter()
            done = await saturated(port, callers, texts, seconds)
            rate = done / (time.perf_counter() - began)
            row = {"callers": callers, "texts": texts, "rate": rate}
            result["loads"].append({**row, "cpu_ms": (cpu_s(server.pid) - before) / done * 1e3})
            result.setdefault("alone", []).append(alone.measure(32, seconds / 4))
        result["alone"] += [alone.measure(batch, seconds / 4) for batch in BATCHES]
        result["rss_mib"] = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096 / 2**20
        return result
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def tables(result: Json) -> str:
    """As Markdown."""
    lines = [
        "| questions/s | p50 ms | p99 ms | engine p50 ms | server CPU-ms each |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['rate']:.0f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['engine_p50_ms']:.2f} | {row['cpu_ms']:.2f} |"
        for row in result["light"]
    ]
    lines += ["", "| callers x texts | embeddings/s | CPU-ms each |", "|---|---|---|"]
    lines += [
        f"| {row['callers']} x {row['texts']} | {row['rate']:.0f} | {row['cpu_ms']:.2f} |"
        for row in result["loads"]
    ]
    lines += [
        f"| engine alone, batch {row['batch']} | {row['rate']:.0f} | {row['cpu_ms']:.2f} |"
        for row in result["alone"]
    ]
    return "\n".join([*lines, "", f"Resident memory of the server: {result['rss_mib']:.0f} MiB.", ""])


def main() -> int:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--repository", type=Path, default=Path("model_repository"))
    arguments.add_argument("--model", default="sample-support", help="name of the encoder")
    arguments.add_argument("--seconds", type=float, default=6.0, help="of each timed run")
    arguments.add_argument("--json", type=Path, help="write the figures here as well")
    given = arguments.parse_args()
    result = asyncio.run(measure(given.repository, given.model, given.seconds))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1, default=float), encoding="utf-8")
    print(tables(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
