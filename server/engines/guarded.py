"""A GPU engine with a CPU engine of the same version behind it: what happens on the GPU never leaves a shop without an answer.

    preferred -- fails, hangs, was never there --> the stand-in answers, this batch and all later ones
       ^                                                        |
       +---- rebuilt in the background, checked, fast enough ---+

Both engines compute the same graph, so a batch that failed on the GPU is computed again by the stand-in: its requests notice a
delay. Rebuilding waits longer after each failure. What is rebuilt must replay the golden answers and be faster than the
stand-in before it serves again. A *lost* device (see ``server.engines.cuda``) is not tried again by this process.

Units: seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from server.engines.base import Arrays, Engine, TensorSpec
from server.engines.cuda import is_lost

log = logging.getLogger("vitrine.engine")

State = Literal["preferred", "rebuilding", "waiting", "given up"]
FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
Spawn = Callable[[Callable[[], None]], None]


class _NotFaster(RuntimeError):
    """An engine that is not worth having."""


class GuardRecorder(Protocol):
    """What is counted."""

    def engine_failed(self, wanted: str, reason: str) -> None:
        """The preferred engine failed, or could not be made; ``reason`` is one of a few words."""

    def engine_state(self, wanted: str, state: State) -> None:
        """What serves changed."""


def _thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="engine-rebuild", daemon=True).start()


@dataclass(slots=True)
class _Books:
    """What two threads look at, under ``lock``."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    ready: Engine | None = None  # made in the background, taken at the next batch
    tables: Arrays | None = None
    generation: int = 0  # of the tables
    stale: bool = False  # whether ``ready`` has tables that do not serve any more
    closed: bool = False


class GuardedEngine:
    """One engine for whoever runs batches; see ``Engine`` for the thread rules.

    Args:
        open_preferred: makes the GPU engine without tables, or raises; see ``cuda.is_lost`` for when it is not tried again.
        stand_in: the CPU engine, its tables bound or not; closed with this one.
        wanted: runner that ``open_preferred`` makes.
        check: replays golden answers on an engine whose tables are bound; raises RuntimeError or ValueError.
        recorder: of failures and states.
        faster: whether an engine is worth having beside the stand-in, by running both; None: any is.
        clock: monotonic.
        spawn: runs the rebuilding; a thread of its own.
    """

    def __init__(
        self,
        open_preferred: Callable[[], Engine],
        stand_in: Engine,
        *,
        wanted: str,
        check: Callable[[Engine], None],
        recorder: GuardRecorder,
        faster: Callable[[Engine, Engine], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        spawn: Spawn = _thread,
    ) -> None:
        self._open, self._stand_in, self.wanted = open_preferred, stand_in, wanted
        self._check, self._recorder, self._faster = check, recorder, faster
        self._clock, self._spawn = clock, spawn
        self._books = _Books()
        self._preferred: Engine | None = None
        self._retry_s, self._retry_at_s = FIRST_RETRY_S, 0.0
        self.state: State = "waiting"
        self.inputs: tuple[TensorSpec, ...] = stand_in.inputs
        self.outputs: tuple[TensorSpec, ...] = stand_in.outputs

    @property
    def kind(self) -> str:
        """The runner that serves now."""
        return self.wanted if self._preferred is not None else self._stand_in.kind

    def start(self) -> None:
        """Make the preferred engine here and now, before there is traffic; if that fails, the stand-in serves."""
        self._build()
        self._take()

    def bind(self, constants: Arrays) -> None:
        """Give both engines their tables; where the preferred one refuses them, the stand-in serves."""
        self._stand_in.bind(constants)
        with self._books.lock:
            self._books.tables = constants
            self._books.generation += 1
        if self._preferred is not None:
            try:
                self._preferred.bind(constants)
            except (ValueError, RuntimeError) as error:
                self._fail(error, "tables")

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch where it can be run; see ``Engine.run``.

        Raises:
            ValueError: an input does not fit.
            RuntimeError: the stand-in failed too.
        """
        self._take()
        if self._preferred is not None:
            try:
                return self._preferred.run(inputs)
            except ValueError:
                raise
            except Exception as error:  # whatever a driver comes up with: the shop gets its answer
                self._fail(error, "run")
        self._rebuild_if_due()
        return self._stand_in.run(inputs)

    def close(self) -> None:
        """Close both; what is being rebuilt is closed when it is done."""
        with self._books.lock:
            self._books.closed = True
            ready, self._books.ready = self._books.ready, None
        for engine in (ready, self._preferred, self._stand_in):
            if engine is not None:
                engine.close()
        self._preferred = None

    def _fail(self, error: BaseException, reason: str) -> None:
        failed, self._preferred = self._preferred, None
        lost = is_lost(error)
        log.error(
            "the GPU engine failed; the CPU serves this version",
            extra={"engine": self.wanted, "reason": f"{reason}: {error}"},
        )
        self._recorder.engine_failed(self.wanted, "lost" if lost else reason)
        if failed is not None:
            failed.close()
        self._later("given up" if lost else "waiting")

    def _later(self, state: State) -> None:
        self._retry_at_s = self._clock() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
        self._now(state)

    def _now(self, state: State) -> None:
        self.state = state
        self._recorder.engine_state(self.wanted, state)

    def _rebuild_if_due(self) -> None:
        if self.state == "waiting" and self._clock() >= self._retry_at_s:
            self._now("rebuilding")
            self._spawn(self._build)

    def _build(self) -> None:
        """Make, check and time a preferred engine; it is taken at the next batch. Never raises."""
        engine: Engine | None = None
        try:
            engine = self._open()
            with self._books.lock:
                tables, generation = self._books.tables, self._books.generation
            if tables is not None:
                engine.bind(tables)
            self._check(engine)
            if self._faster is not None and not self._faster(engine, self._stand_in):
                raise _NotFaster("it is not faster than the CPU here")
        except Exception as error:
            if engine is not None:
                engine.close()
            lost = is_lost(error) or isinstance(error, _NotFaster)
            log.error(
                "no GPU engine could be made; the CPU serves this version",
                extra={"engine": self.wanted, "reason": str(error)},
            )
            self._recorder.engine_failed(self.wanted, "lost" if lost else "build")
            self._later("given up" if lost else "waiting")
            return
        with self._books.lock:
            if not self._books.closed:
                self._books.ready, engine = engine, None
                self._books.stale = generation != self._books.generation
        if engine is not None:
            engine.close()

    def _take(self) -> None:
        if self._books.ready is None:
            return
        with self._books.lock:
            engine, self._books.ready = self._books.ready, None
            tables, stale = self._books.tables, self._books.stale
        if engine is None:
            return
        try:
            if stale and tables is not None:
                engine.bind(tables)
        except (ValueError, RuntimeError) as error:
            engine.close()
            self._fail(error, "tables")
            return
        self._preferred, self._retry_s = engine, FIRST_RETRY_S
        self._now("preferred")


def faster_at(
    sizes: dict[str, Arrays], clock: Callable[[], float] = time.perf_counter, repeats: int = 5
) -> Callable[[Engine, Engine], bool]:
    """A ``faster`` that runs both engines on these batches, and compares the sums of medians.

    Args:
        sizes: inputs by what they are called.
        clock: to time with.
        repeats: of each, after one that is not counted.
    """  # fmt: skip

    def measured(engine: Engine) -> float:
        total_s = 0.0
        for inputs in sizes.values():
            engine.run(inputs)
            took = []
            for _ in range(repeats):
                began_s = clock()
                engine.run(inputs)
                took.append(clock() - began_s)
            total_s += float(np.median(took))
        return total_s

    return lambda candidate, stand_in: measured(candidate) < measured(stand_in)
