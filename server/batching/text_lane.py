"""One loaded version at work: the thread that plans, computes and tells, step after step, without waiting for the loop.

The scheduler runs on the engine thread: nothing of a busy event loop comes between two steps. What arrives and leaves in
the meantime comes by a queue and counts from the next step on; what a step has brought goes to the loop in one call.

Units: seconds on the caller's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple

from server.batching.step_runner import Fault, StepOutcome, StepRunner
from server.batching.text_call import TextCall
from server.batching.text_model import TextLimits, TextModel
from server.batching.token_cost import TokenCosts
from server.batching.token_schedule import TokenScheduler
from server.batching.token_step import Step
from server.sampling.base import RowSampler
from server.text_domain import FinishReason, TokenLogprob

PROBE_S = 1.0  # how often an idle engine that has failed is tried again

log = logging.getLogger(__name__)


class NewToken(NamedTuple):
    """A token of a text, and the end if it is the last: why, and by which token."""

    text: TextCall
    token: int
    logprob: TokenLogprob | None
    end: FinishReason | None
    by: int | None


class StepDone(NamedTuple):
    """A step as the event loop is told of it; times on the clock."""

    step: Step
    outcome: StepOutcome
    tokens: list[NewToken]
    faults: list[tuple[TextCall, Fault]]
    expired: list[TextCall]
    began_s: float
    planned_s: float
    ended_s: float


class TextLane:
    """Runs one version. All methods are for the event-loop thread.

    Attributes:
        model: the version.
        texts: that have not ended, by key; the event loop's.
        costs: of the engine; read by both threads, taught by the engine's.
        began_s: when the running step began; None between steps.
        progress_s: when the last step ended.
        why: what is wrong with the engine, as a sentence; empty: nothing.
        hung: whether its texts were failed because a step took too long.
        exited: whether the thread is gone.
    """

    def __init__(
        self,
        model: TextModel,
        limits: TextLimits,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        told: Callable[[TextLane, StepDone], None],
        gone: Callable[[TextLane, BaseException | None], None],
    ) -> None:
        self.model, self._limits, self._clock = model, limits, clock
        self._loop, self._told, self._gone = loop, told, gone
        self.costs = model.costs or TokenCosts(model.engine.limits.pools, light=model.engine.limits.light)
        self.texts: dict[int, TextCall] = {}
        self.began_s: float | None = None
        self.progress_s = clock()
        self.why = ""
        self.hung = False
        self.exited = False
        self._stopping = False
        self._inbox: SimpleQueue[tuple[TextCall, bool] | None] = SimpleQueue()
        self._rows: dict[int, RowSampler] = {}
        self._mine: dict[int, TextCall] = {}
        self.scheduler = TokenScheduler(model.engine.limits, limits, self.costs)
        name = f"{model.info.name}-{model.info.version}"
        self._runner = StepRunner(name, model.engine, model.sampler, self.costs, clock)
        # A daemon: an engine that hangs for ever must not keep the process from exiting.
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, text: TextCall) -> None:
        """Write this text from the next step on."""
        self._inbox.put((text, True))

    def drop(self, text: TextCall) -> None:
        """Stop writing it; ignored if it has ended or never began."""
        self._inbox.put((text, False))

    def stop(self) -> None:
        """Exit after the running step; a second call changes nothing."""
        if not self._stopping:
            self._stopping = True
            self._inbox.put(None)

    def _main(self) -> None:
        death: BaseException | None = None
        try:
            while self._take_in():
                if self._mine:
                    self._turn()
        except BaseException as error:
            death = error
        finally:
            self._runner.stop()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._gone, self, death)

    def _take_in(self) -> bool:
        inbox = self._inbox
        while not self._mine or not inbox.empty():
            try:
                came = inbox.get(timeout=PROBE_S if self.why and not self._mine else None)
            except Empty:
                self._probe()
                continue
            if came is None:
                return False
            text, joins = came
            key = text.job.key
            if joins:
                assert text.row is not None
                self._mine[key], self._rows[key] = text, text.row
                self.scheduler.add(text.job)
            else:
                self._forget(key)
                self.scheduler.end(key)
        return True

    def _turn(self) -> None:
        began_s = self.began_s = self._clock()
        try:
            step = self.scheduler.plan(began_s)
            planned_s = self._clock()
            outcome = self._runner.run(step, self._rows)
            tokens, faults = self._settle(step, outcome)
        except Exception as error:  # a bug of ours: nobody may wait for it, and the books start anew
            log.exception("%s: a step could not be made", self.model.info.name)
            step, outcome, planned_s, tokens = Step(), StepOutcome(), began_s, []
            outcome.engine_fault = "a step could not be made; the log says more"
            faults = [(text, Fault(error, "the step could not be made")) for text in self._mine.values()]
            self._mine, self._rows = {}, {}
            self.scheduler = TokenScheduler(self.model.engine.limits, self._limits, self.costs)
        expired = [self._forget(key) for key in step.expired]
        if outcome.calls:
            self.why = outcome.engine_fault or ""
        elif outcome.engine_fault:
            self.why = outcome.engine_fault
        ended_s = self.progress_s = self._clock()
        self.began_s = None
        done = StepDone(step, outcome, tokens, faults, _known(expired), began_s, planned_s, ended_s)
        self._loop.call_soon_threadsafe(self._told, self, done)

    def _settle(
        self, step: Step, outcome: StepOutcome
    ) -> tuple[list[NewToken], list[tuple[TextCall, Fault]]]:
        tokens: list[NewToken] = []
        for key, (token, logprob) in outcome.tokens.items():
            text, end, by = self._mine[key], None, None
            room = self.scheduler.accept(key, token)
            if token in text.end_ids:
                end, by = FinishReason.STOP, token
            elif self._constraint_done(text, outcome):
                end = FinishReason.STOP
            elif not room:
                end = FinishReason.LENGTH
            if key in outcome.faults:
                continue
            if end is not None:
                self.scheduler.end(key)
                self._forget(key)
            tokens.append(NewToken(text, token, logprob, end, by))
        faults = []
        for key, fault in outcome.faults.items():
            self.scheduler.end(key, keep=False)
            gone = self._forget(key)
            if gone is not None:
                faults.append((gone, fault))
        return tokens, faults

    def _constraint_done(self, text: TextCall, outcome: StepOutcome) -> bool:
        mask = text.row.mask if text.row is not None else None
        if mask is None:
            return False
        try:
            return mask.done()
        except Exception as error:
            outcome.faults[text.job.key] = Fault(error, "its constraint failed")
            return False

    def _forget(self, key: int) -> TextCall | None:
        self._rows.pop(key, None)
        return self._mine.pop(key, None)

    def _probe(self) -> None:
        slots = self.scheduler.slots
        for capacity, pool in slots.pools.items():
            for index in pool.open_slots():
                slots.forget((capacity, index))
                self.began_s = self._clock()
                self.why = self._runner.probe((capacity, index)) or ""
                self.progress_s, self.began_s = self._clock(), None
                return


def _known(texts: list[TextCall | None]) -> list[TextCall]:
    return [text for text in texts if text is not None]
