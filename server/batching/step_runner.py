"""Carries out one step on the engine: copies, calls and the choice of tokens; a failure fails only those it touched.

Engine thread only, but for ``MaskThread``, which makes grammar masks beside the engine.

Units: seconds on the caller's clock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.batching.kv_slots import Slot
from server.batching.token_cost import TokenCosts
from server.batching.token_step import CopySlot, RunCall, Step
from server.engines.causal import CausalCall, CausalEngine
from server.sampling.base import RowSampler, Sampler
from server.text_domain import TokenLogprob


class Fault(NamedTuple):
    """Why a text fails: what happened, for the log, and what its reader is told.

    A cause that is an ``InvalidRequest`` is the reader's own: it is told as it is, and not logged as a failure.
    """

    cause: BaseException | None
    message: str


@dataclass(slots=True)
class StepOutcome:
    """What came of a step.

    Attributes:
        tokens: by key of the text, in order.
        faults: by key of the text.
        engine_s: inside the engine.
        mask_s: making masks, beside it.
        calls: engine calls that were made.
        engine_fault: what the engine did wrong, as a sentence; None: nothing.
    """

    tokens: dict[int, tuple[int, TokenLogprob | None]] = field(default_factory=dict)
    faults: dict[int, Fault] = field(default_factory=dict)
    engine_s: float = 0.0
    mask_s: float = 0.0
    calls: int = 0
    engine_fault: str | None = None


class MaskThread:
    """Calls ``Sampler.prepare`` on a thread of its own, started when the first masked text comes."""

    def __init__(self, name: str, sampler: Sampler, clock: Callable[[], float]) -> None:
        self._sampler, self._clock = sampler, clock
        self._asked: SimpleQueue[Sequence[RowSampler] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[float, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=f"masks-{name}", daemon=True)
        self._started = False

    def begin(self, rows: Sequence[RowSampler]) -> None:
        """Make the masks of these rows."""
        if not self._started:
            self._started = True
            self._thread.start()
        self._asked.put(rows)

    def wait(self) -> tuple[float, BaseException | None]:
        """Seconds that they took, and what went wrong; after ``begin``, once."""
        return self._done.get()

    def stop(self) -> None:
        """Exit when nothing is left to do."""
        if self._started:
            self._asked.put(None)

    def _main(self) -> None:
        while (rows := self._asked.get()) is not None:
            fault: BaseException | None = None
            began_s = ended_s = 0.0
            try:
                began_s = self._clock()
                self._sampler.prepare(rows)
                ended_s = self._clock()
            except BaseException as error:  # the step must go on, whatever it is
                fault = error
            self._done.put((ended_s - began_s, fault))
            del rows


class StepRunner:
    """One engine with its sampler."""

    def __init__(
        self, name: str, engine: CausalEngine, sampler: Sampler, costs: TokenCosts, clock: Callable[[], float]
    ) -> None:
        self._engine, self._sampler, self._costs, self._clock = engine, sampler, costs, clock
        self._masks = MaskThread(name, sampler, clock)

    def run(self, step: Step, rows: Mapping[int, RowSampler]) -> StepOutcome:
        """Carry out a step; never raises for what the engine, the sampler or a grammar does.

        Args:
            step: what to do.
            rows: sampler states by key of the text.
        """
        out = StepOutcome()
        masked = [rows[key] for key in step.samples if rows[key].mask is not None]
        if masked:
            self._masks.begin(masked)
        results: list[tuple[RunCall, npt.NDArray[np.float32]]] = []
        bad_slots: set[Slot] = set()
        try:
            for operation in step.operations:
                if isinstance(operation, CopySlot):
                    self._copy(operation, out, bad_slots)
                elif (logits_BV := self._call(operation, out, bad_slots)) is not None:
                    results.append((operation, logits_BV))
        finally:
            if masked:
                out.mask_s, fault = self._masks.wait()
        if masked and fault is not None:
            for key in step.samples:
                if rows[key].mask is not None:
                    out.faults.setdefault(key, Fault(fault, "making the mask of a constraint failed"))
        for operation, logits_BV in results:
            self._sample(operation, logits_BV, rows, out)
        return out

    def probe(self, slot: Slot) -> str | None:
        """Compute one token in a free slot; a sentence if the engine still fails."""
        out = StepOutcome()
        zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
        call = CausalCall(slot[0], slot[1], zero[:, None], zero, one)
        logits_BV = self._call(RunCall(call, ()), out, set())
        if logits_BV is not None and not np.isfinite(logits_BV[0]).all():
            return "its logits are not finite"
        return out.engine_fault

    def stop(self) -> None:
        """Let the mask thread exit."""
        self._masks.stop()

    def _copy(self, copy: CopySlot, out: StepOutcome, bad_slots: set[Slot]) -> None:
        fault: Fault | None = None
        began_s = self._clock()
        if copy.source in bad_slots:
            fault = Fault(None, "its prefix could not be computed")
        else:
            try:
                self._engine.copy(copy.source, copy.target, copy.tokens)
            except BaseException as error:
                out.engine_fault = f"copying a slot failed: {_said(error)}"
                fault = Fault(error, "the engine failed to copy its cache")
        elapsed_s = self._clock() - began_s
        out.engine_s += elapsed_s
        if fault is None:
            self._costs.copy.observe(copy.tokens, elapsed_s)
        else:
            bad_slots.add(copy.target)
            if copy.key is not None:
                out.faults[copy.key] = fault

    def _call(self, run: RunCall, out: StepOutcome, bad_slots: set[Slot]) -> npt.NDArray[np.float32] | None:
        call = run.call
        count, width = call.input_ids_BT.shape
        began_s = self._clock()
        logits_BV: npt.NDArray[np.float32] | None = None
        try:
            logits_BV = self._engine.run(call)
            if logits_BV.shape[0] != count:
                raise RuntimeError(f"{logits_BV.shape[0]} rows of logits for {count} rows")
        except BaseException as error:  # also SystemExit: an engine may not take the thread with it
            logits_BV = None
            out.engine_fault = f"a call of {count} rows failed: {_said(error)}"
            for row, key, _ in run.rows:
                out.faults.setdefault(key, Fault(error, "the engine failed in a step"))
                bad_slots.add((call.capacity, call.first_slot + row))
        elapsed_s = self._clock() - began_s
        out.engine_s += elapsed_s
        out.calls += 1
        if logits_BV is not None:
            self._costs.observe(call.capacity, count, width, elapsed_s, light=call.light)
        return logits_BV

    def _sample(
        self,
        run: RunCall,
        logits_BV: npt.NDArray[np.float32],
        rows: Mapping[int, RowSampler],
        out: StepOutcome,
    ) -> None:
        chosen = [(row, key) for row, key, samples in run.rows if samples and key not in out.faults]
        if not chosen:
            return
        if len(chosen) != len(logits_BV):
            logits_BV = logits_BV[[row for row, _ in chosen]]
        try:
            sampled = self._sampler.sample(logits_BV, [rows[key] for _, key in chosen])
            tokens, bad, logprobs = sampled.tokens_B.tolist(), sampled.bad_B.tolist(), sampled.logprobs
            for at, (_, key) in enumerate(chosen):
                if bad[at]:
                    self._bad_row(key, rows[key], logits_BV[at], out)
                else:
                    out.tokens[key] = (tokens[at], logprobs[at])
        except Exception as error:
            for _, key in chosen:
                out.tokens.pop(key, None)
                out.faults.setdefault(key, Fault(error, "choosing a token failed"))

    def _bad_row(
        self, key: int, row: RowSampler, logits_V: npt.NDArray[np.float32], out: StepOutcome
    ) -> None:
        refused = None if row.mask is None else row.mask.refused
        if refused is not None:
            out.faults[key] = Fault(refused, refused.message)
        elif row.mask is None or not np.isfinite(logits_V.max()):  # what a constraint forbids is finite
            out.engine_fault = "its logits are not finite"
            out.faults[key] = Fault(None, "the engine's logits are not finite")
        else:
            out.faults[key] = Fault(None, "no token is allowed by the constraint")


def _said(error: BaseException) -> str:
    text = ""
    with contextlib.suppress(Exception):
        text = str(error)
    return (text or type(error).__name__)[:300]
