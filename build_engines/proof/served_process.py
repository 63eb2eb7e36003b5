"""A process that holds one engine and nothing else, as a server's engine thread does; asked by ``footprint``.

``python -m build_engines.proof.served_process`` reads an ``Ask`` as JSON from standard input and writes a ``Footprint`` to
standard output. It imports the serving code and no torch: memory is then the engine's, the runtime's and nobody else's.

Requests at a rate come one by one at random (Poisson) on the real clock; whatever has arrived when the engine is idle is its
next batch, up to the largest, as in ``server.batching.policy``. A request's time runs from when it should have come, so a
stalled engine is not hidden by requests that were never sent.

Units: seconds, bytes.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from build_engines.proof.records import BatchCost, Footprint
from server.artifacts.manifest import Manifest

Run = Callable[[], object]
MOST_REPEATS, LEAST_REPEATS = 400, 12
BLOCKS = 10  # of a run at a rate, for the interval of its p99


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What to hold and how to ask it.

    Attributes:
        task: of the manifest.
        folder: of the version, or of the engine's files.
        graph: file of the engine in it, for texts and encoders.
        light: file of a text model's second graph; None: it has none.
        manifest: of a recommender, which may not be on disk yet.
        batch_sizes: requests, texts, or decode steps at once.
        seconds: how long each size is timed.
        threads: of the runtime.
        tokens: of each text of an encoder; tokens that a text model's texts hold already.
        vocab_size: of an encoder's or text model's vocabulary; random tokens are drawn from it.
        max_chunk: of a text model.
        rate_per_s: requests a second; None: not asked.
        rate_seconds: how long they come.
        seed: of arrivals and tokens.
        disk_bytes: handed back.
    """

    task: str
    folder: str
    graph: str = ""
    light: str | None = None
    manifest: Manifest | None = None
    batch_sizes: tuple[int, ...] = (1,)
    seconds: float = 0.4
    threads: int = 1
    tokens: int = 32
    vocab_size: int = 0
    max_chunk: int = 64
    rate_per_s: float | None = None
    rate_seconds: float = 4.0
    seed: int = 0
    disk_bytes: int = 0


def measure(ask: Ask) -> Footprint:
    """Load, warm, time.

    Raises:
        ArtifactError, RuntimeError, ValueError: the engine cannot be loaded or run.
    """
    opened = {"recommendation": _recommender, "sentence_encoding": _encoder, "text_generation": _text}
    largest = max(ask.batch_sizes)
    _import_libraries(ask.task)
    gc.collect()
    empty, start_s = resident_bytes(), time.perf_counter()
    run_of = opened[ask.task](ask, largest)
    load_s = time.perf_counter() - start_s
    runs = {size: run_of(size) for size in ask.batch_sizes}
    for run in runs.values():
        for _ in range(3):
            run()
    gc.collect()
    loaded = resident_bytes()
    batches = tuple(_timed(size, run, ask.seconds) for size, run in runs.items())
    at_rate = None
    if ask.rate_per_s is not None:
        every = {size: run_of(size) for size in range(1, largest + 1)}
        at_rate = _at_rate(every, ask.rate_per_s, ask.rate_seconds, ask.seed)
    return Footprint(
        disk_bytes=ask.disk_bytes,
        rss_bytes=loaded,
        engine_bytes=max(0, loaded - empty),
        peak_bytes=max(loaded, peak_bytes()),
        load_s=load_s,
        batches=batches,
        rate_per_s=ask.rate_per_s,
        p99_s=at_rate[0] if at_rate else None,
        p99_interval_s=at_rate[1] if at_rate else None,
        served_per_s=at_rate[2] if at_rate else None,
    )


def _import_libraries(task: str) -> None:
    # What every server has anyway is not this model's memory.
    modules = {
        "recommendation": "server.pipelines.loading",
        "sentence_encoding": "server.engines.onnxruntime_encoder",
        "text_generation": "server.engines.onnxruntime_causal",
    }
    importlib.import_module(modules[task])
    importlib.import_module("onnxruntime")


def resident_bytes() -> int:
    """Resident memory of this process now."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_bytes()  # no Linux: the peak is all that is told
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """Most resident memory so far; Linux's own count where there is one, since the other holds the parent's peak, too."""
    import resource

    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        kilo = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


def _recommender(ask: Ask, largest: int) -> Callable[[int], Run]:
    from server.artifacts.golden import GOLDEN_FILE, read_golden
    from server.artifacts.repository import OpenedVersion
    from server.domain import RecommendRequest
    from server.pipelines.loading import load_model

    assert ask.manifest is not None, "a recommender is asked for with its manifest"
    opened = OpenedVersion(manifest=ask.manifest, folder=Path(ask.folder))
    runner = load_model(opened, engine="onnxruntime", threads=ask.threads).runner
    ids = runner.catalogue.index.ids
    histories = read_golden(opened.path(GOLDEN_FILE)).inputs["item_ids"]
    known = [tuple(ids[row] for row in rows[rows > 0].tolist()) for rows in histories]
    k = ask.manifest.limits["max_k"]
    requests = [RecommendRequest(history=known[place % len(known)], k=k) for place in range(largest)]

    def run_of(size: int) -> Run:
        chosen = requests[:size]

        def run() -> object:
            packed = runner.pack(chosen)
            return runner.unpack(packed, runner.run(packed), chosen)

        return run

    return run_of


def _encoder(ask: Ask, largest: int) -> Callable[[int], Run]:
    from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder

    engine = OnnxRuntimeEncoder(Path(ask.folder) / ask.graph, threads=ask.threads)
    ids_BT = np.random.default_rng(ask.seed).integers(1, ask.vocab_size, (largest, ask.tokens))
    lengths_B = np.full(largest, ask.tokens, np.int64)

    def run_of(size: int) -> Run:
        chosen = ids_BT[:size].astype(np.int64)
        return lambda: engine.run(chosen, lengths_B[:size])

    return run_of


def _text(ask: Ask, largest: int) -> Callable[[int], Run]:
    from server.engines.causal import CausalCall
    from server.engines.onnxruntime_causal import OnnxRuntimeCausal

    folder, capacity = Path(ask.folder), ask.tokens + 64
    engine = OnnxRuntimeCausal(
        folder / ask.graph,
        pools={capacity: largest},
        threads=ask.threads,
        max_chunk=ask.max_chunk,
        light=folder / ask.light if ask.light else None,
    )
    ids_BT = np.random.default_rng(ask.seed).integers(1, ask.vocab_size, (largest, 1))

    def run_of(size: int) -> Run:
        call = CausalCall(
            capacity,
            0,
            ids_BT[:size].astype(np.int64),
            np.full(size, ask.tokens, np.int64),
            np.ones(size, np.int64),
            engine.limits.light,
        )
        return lambda: engine.run(call)

    return run_of


def _timed(size: int, run: Run, seconds: float) -> BatchCost:
    times: list[float] = []
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    while len(times) < MOST_REPEATS and (
        len(times) < LEAST_REPEATS or time.perf_counter() - began_s < seconds
    ):
        start_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - start_s)
    cpu_s = time.process_time() - began_cpu_s
    median_s, p90_s, p99_s = (float(one) for one in np.quantile(times, [0.5, 0.9, 0.99]))
    return BatchCost(
        batch_size=size,
        median_s=median_s,
        p90_s=p90_s,
        p99_s=p99_s,
        cpu_s_per_1000=1000 * cpu_s / (len(times) * size),
        repeats=len(times),
    )


def _at_rate(
    runs: dict[int, Run], rate_per_s: float, seconds: float, seed: int
) -> tuple[float, tuple[float, float], float]:
    generator = np.random.default_rng(seed)
    count = max(BLOCKS * 10, round(rate_per_s * seconds))
    due_s = np.cumsum(generator.exponential(1 / rate_per_s, count))
    took_s = np.full(count, np.inf)
    largest, served, start_s = max(runs), 0, time.perf_counter()
    give_up_s = 3 * due_s[-1] + 1  # an engine that cannot keep up is not waited for
    while served < count:
        now_s = time.perf_counter() - start_s
        if now_s > give_up_s:
            break
        if due_s[served] > now_s:
            time.sleep(due_s[served] - now_s)
            continue
        arrived = int(np.searchsorted(due_s, now_s, side="right"))
        size = min(arrived - served, largest)
        runs[size]()
        took_s[served : served + size] = time.perf_counter() - start_s - due_s[served : served + size]
        served += size
    p99_s = _p99(took_s)
    parts = [block for block in np.array_split(took_s, BLOCKS) if block.size]
    drawn = generator.integers(0, len(parts), (500, len(parts)))
    again = [_p99(np.concatenate([parts[one] for one in row])) for row in drawn]
    low, high = np.quantile(again, [0.025, 0.975], method="nearest")
    return p99_s, (float(low), float(high)), served / max(time.perf_counter() - start_s, 1e-9)


def _p99(took_s: np.ndarray) -> float:
    return float(np.quantile(took_s, 0.99, method="higher"))


def main() -> int:
    """Answer one question."""
    ask = msgspec.json.decode(sys.stdin.buffer.read(), type=Ask)
    sys.stdout.buffer.write(msgspec.json.encode(measure(ask)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
