"""The engine alone, without a server: the floor under every serving figure. FP32 and INT8 are timed in turn.

Units: milliseconds a batch, answers a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.artifacts.repository import open_current
from server.domain import RecommendRequest
from server.pipelines.loading import load_model

SIZES = (1, 2, 4, 8, 16, 32)
ROUNDS = 40


def measure(repository: Path, models: Mapping[str, str]) -> list[dict[str, Any]]:
    """Median time of a batch by size, precision and entry, and CPU time an answer.

    Returns:
        A row a size; "speedup" is the median of the ratios round by round, FP32 over INT8.
    """
    loaded = {name: load_model(open_current(repository, model)) for name, model in models.items()}
    ids = next(iter(loaded.values())).runner.catalogue.index.ids[1:]
    rng = np.random.default_rng(3)
    rows = []
    for size in SIZES:
        requests = [
            RecommendRequest(history=tuple(rng.choice(ids, rng.integers(5, 51)).tolist()), k=20)
            for _ in range(size)
        ]
        packed = {name: model.runner.pack(requests) for name, model in loaded.items()}
        took: dict[str, list[float]] = {name: [] for name in loaded}
        cpu: dict[str, float] = dict.fromkeys(loaded, 0.0)
        for turn in range(ROUNDS + 3):
            for name, model in loaded.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                model.runner.run(packed[name])
                if turn >= 3:
                    took[name].append(time.perf_counter() - start)
                    cpu[name] += time.process_time() - start_cpu
        row: dict[str, Any] = {"batch_size": size}
        for name in loaded:
            row[f"{name}_ms"] = float(np.median(took[name])) * 1e3
            row[f"{name}_answers_s"] = size / float(np.median(took[name]))
            row[f"{name}_cpu_ms_answer"] = cpu[name] / ROUNDS / size * 1e3
        row["speedup"] = float(np.median(np.array(took["fp32"]) / np.array(took["int8"])))
        rows.append(row)
    return rows
