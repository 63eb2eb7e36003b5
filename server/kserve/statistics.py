"""What was asked of a model by this protocol, as its statistics calls show it: counts and sums, never percentiles.

``/metrics`` is where latencies are; these sums are there because clients of the protocol (``perf_analyzer``) read them.

Units: nanoseconds, as the protocol has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How many, and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """One more."""
        self.count += count
        self.ns += int(seconds * 1e9)


@dataclass(slots=True)
class ModelStatistics:
    """Sums since the start.

    Attributes:
        inferences: rows answered.
        executions: runs of the engine, a run that several callers shared counted for each by its share of the rows.
        last_ms: Unix milliseconds of the last request.
        success, fail: from arrival to the end.
        queue, compute_input, compute_infer, compute_output: parts of the requests that went well.
    """

    now_s: Callable[[], float] = time.time
    inferences: int = 0
    executions: float = 0.0
    last_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def failed(self, seconds: float) -> None:
        """A request that was admitted has no answer."""
        self.last_ms = int(self.now_s() * 1e3)
        self.fail.add(seconds)

    def answered(
        self,
        seconds: float,
        *,
        rows: int,
        executions: float,
        queue_s: float,
        input_s: float,
        infer_s: float,
        output_s: float,
    ) -> None:
        """A request was answered."""
        self.last_ms = int(self.now_s() * 1e3)
        self.inferences += rows
        self.executions += executions
        self.success.add(seconds)
        self.queue.add(queue_s)
        self.compute_input.add(input_s)
        self.compute_infer.add(infer_s)
        self.compute_output.add(output_s)
