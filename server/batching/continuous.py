"""Continuous batching: texts join and leave the running batch between two steps of the engine. The loop's side of it.

What is computed next is decided in ``token_schedule.py`` (pure) on the engine's own thread (``text_lane.py``); here texts
are let in, told of their tokens, and ended.

**Every text ends exactly once**: it is in its lane's ``texts`` until ``_end``, the only way out, has told its reader; and
one timer, at the earliest deadline or at the time when a step must be taken for hung, holds even when the engine does not
return.

Units: seconds on the injected clock; only timer delays use the loop's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

from server.batching.alarm import Alarm
from server.batching.compile_pool import CompilePool
from server.batching.conditions import Conditions
from server.batching.step_runner import Fault
from server.batching.text_admission import TextAdmission
from server.batching.text_call import TextCall
from server.batching.text_lane import NewToken, StepDone, TextLane
from server.batching.text_model import TextLimits, TextModel
from server.batching.text_reports import TextReports
from server.errors import DeadlineExceeded, EngineFault, InvalidRequest, NotReady, Overloaded, ServeError
from server.sampling.base import Mask
from server.text_domain import (
    Chunk,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    TextEvent,
    TextModelInfo,
)
from server.text_generator import Generation, Sink, TextCodec
from server.text_telemetry import BACKLOG, COMPILES, INVALID, NOT_READY, TEXTS, NullTextRecorder, TextRecorder

__all__ = ["ContinuousBatcher", "TextLimits", "TextModel"]

EXIT_S = 1.0  # how long ``close`` waits for a thread that has nothing left to do
LATE = "the first token did not come in time; try again, or with a longer deadline_ms"
OVERDUE = "the text was not whole within its deadline; ask for fewer tokens, or with a longer deadline_ms"

log = logging.getLogger(__name__)


class ContinuousBatcher:
    """A ``TextGenerator`` over one engine. Lives on one event loop."""

    def __init__(
        self,
        model: TextModel,
        limits: TextLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        recorder: TextRecorder | None = None,
    ) -> None:
        self._model, self._limits = model, limits or TextLimits()
        self._name = model.info.name
        self._clock = clock
        self._reports = TextReports(self._name, recorder or NullTextRecorder())
        self._refusal = f"{self._name} has not started"
        self._started = False  # and not closing
        self._lanes: list[TextLane] = []  # oldest first; the last one writes new texts
        self._admission = TextAdmission(self._name, self._limits)
        self._conditions = Conditions()

    def start(self) -> None:
        """Start the engine's thread; called once, inside the loop that will serve."""
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._watch)
        self._compiles = CompilePool(self._limits.compile_threads, self._loop)
        self._open_lane(self._model)
        self._started, self._refusal = True, ""

    def info(self) -> TextModelInfo:
        """What is served."""
        return self._model.info

    @property
    def codec(self) -> TextCodec:
        """Tokens of the model that new texts begin with."""
        return self._model.codec

    def submit(self, request: GenerateRequest, sink: Sink) -> Generation:
        """Begin to write; see ``TextGenerator.submit``."""
        try:
            return self._admit(request, sink)
        except InvalidRequest:
            self._reports.refused(INVALID)
            raise
        except NotReady:
            self._reports.refused(NOT_READY)
            raise

    def ready(self) -> tuple[bool, str]:
        """Whether texts can be written now, and a sentence if not."""
        if self._refusal or not self._lanes:
            return False, self._refusal or f"{self._name} has lost its engine thread"
        lane = self._lanes[-1]
        if lane.hung:
            return (
                False,
                f"{self._name}: the engine hangs in a step that began {self._step_age_s(lane):.3g} s ago",
            )
        if lane.why:
            return False, f"{self._name}: {lane.why}"
        return True, ""

    def swap(self, model: TextModel) -> TextModel:
        """Write new texts with another version; those under way are finished by theirs. Returns the old one."""
        old, self._model = self._model, model
        if self._started:
            lanes = list(self._lanes)
            self._open_lane(model)
            for lane in lanes:
                self._settle(lane)
        return old

    async def drained(self, model: TextModel) -> None:
        """Return once nothing uses ``model`` any more, so that it may be closed."""
        await self._conditions.until(lambda: all(lane.model is not model for lane in self._lanes))

    async def close(self, drain_s: float) -> None:
        """Refuse new texts, finish those under way within ``drain_s``, fail the rest, stop."""
        started, self._started = self._started, False
        self._refusal = self._refusal or f"{self._name} is closing"
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s if drain_s > 0.0 else 0.0):
                    await self._conditions.until(lambda: not self.texts)
        finally:
            for lane in self._lanes:
                self._fail_all(lane, lambda: NotReady(f"{self._name} closed before the text was whole"))
                lane.stop()
            if started:
                self._alarm.cancel()
                self._compiles.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_S):
                await self._conditions.until(lambda: all(lane.hung for lane in self._lanes))

    @property
    def last_progress_s(self) -> float:
        """On the clock: now when idle, else when the engine last finished a step or began the running one."""
        if not self._lanes or not self._lanes[-1].texts:
            return self._clock()
        lane = self._lanes[-1]
        return max(lane.progress_s, lane.began_s or -math.inf)

    @property
    def texts(self) -> int:
        """Texts that have not ended."""
        return sum(len(lane.texts) for lane in self._lanes)

    def _admit(self, request: GenerateRequest, sink: Sink) -> TextCall:
        if self._refusal or not self._lanes or self._lanes[-1].hung:
            raise NotReady(self.ready()[1])
        lane, admission, now = self._lanes[-1], self._admission, self._clock()
        job = admission.job(request, lane, now)
        with self._refusals(TEXTS):
            admission.check_count(job, lane, self.texts, now)
        if request.constraint is not None:
            with self._refusals(COMPILES):
                admission.check_compiles(self._compiles.waiting)
        with self._refusals(BACKLOG):
            predicted_s = admission.check_backlog(job, lane, now)
        text = TextCall(lane, request, sink, job, now, lane.model.writer(request), self._left)
        text.predicted_s = predicted_s
        if request.constraint is None:
            text.row = lane.model.sampler.open(request, None)
            lane.put(text)
        else:
            compiler = lane.model.compiler
            self._compiles.put(compiler, request, lambda mask, fault: self._compiled(text, mask, fault))
        lane.texts[job.key] = text
        self._alarm.set(min(text.due_s, now + self._limits.hang_s), now)
        return text

    @contextlib.contextmanager
    def _refusals(self, reason: str) -> Iterator[None]:
        try:
            yield
        except Overloaded:
            self._reports.refused(reason)
            raise

    def _compiled(self, text: TextCall, mask: Mask | None, fault: BaseException | None) -> None:
        if text.ended:
            return
        try:
            if fault is not None:
                raise fault
            text.row = text.lane.model.sampler.open(text.request, mask)
        except ServeError as error:
            self._end(text, Failed(error, text.usage()))
        except BaseException as error:
            log.error("%s: a constraint could not be compiled", self._name, exc_info=error)
            self._end(text, Failed(_fault("the constraint could not be compiled", error), text.usage()))
        else:
            text.lane.put(text)

    def _stepped(self, lane: TextLane, done: StepDone) -> None:
        if lane.hung:
            lane.hung = False
            log.warning("%s: the engine came back after %.3g s", self._name, done.ended_s - done.began_s)
        first_s: list[float] = []
        inter_s: list[float] = []
        for new in done.tokens:
            text = new.text
            if text.ended:
                continue
            if text.first_s is None:
                text.first_s = done.ended_s
                first_s.append(done.ended_s - text.arrived_s)
                if text.request.constraint is None:  # waiting for a compiler says nothing of the engine
                    self._admission.backlog.began(text.predicted_s, done.ended_s - text.submitted_s)
            else:
                inter_s.append(done.ended_s - text.last_s)
            text.last_s = done.ended_s
            try:
                self._tell(text, new)
            except Exception as error:  # a writer or reader that raises ends its own text only
                log.exception("%s: a text could not be told of its token", self._name)
                self._end(text, Failed(_fault("the text could not be read", error), text.usage()))
        self._failed(done.faults)
        for text in done.expired:
            self._end(text, Failed(DeadlineExceeded(LATE, stage="queue"), text.usage()))
        self._reports.step(done, first_s, inter_s)
        self._settle(lane)

    def _tell(self, text: TextCall, new: NewToken) -> None:
        text.told += 1
        end, by = new.end, new.by
        stop: str | int | None = by
        if by is None:
            chunk = text.writer.push(new.token, new.logprob)
            if text.writer.stopped is not None:
                end, stop = FinishReason.STOP, text.writer.stopped
        else:
            chunk = None
        if chunk is not None:
            self._say(text, chunk)
        if end is None or text.ended:
            return
        if not isinstance(stop, str):
            rest = text.writer.finish()
            if rest is not None:
                self._say(text, rest)
            if text.writer.stopped is not None:  # by characters that were held back
                end, stop = FinishReason.STOP, text.writer.stopped
        if text.ended:  # its reader left while it was told
            return
        job, began_s = text.job, text.job.began_s
        self._admission.backlog.ended(text.told, job.most_tokens - job.prompt_tokens)
        finished = Finished(
            reason=end,
            usage=text.usage(),
            queue_s=max(0.0, (text.last_s if began_s is None else began_s) - text.arrived_s),
            first_token_s=(text.first_s or text.last_s) - text.arrived_s,
            total_s=text.last_s - text.arrived_s,
            stop=stop,
        )
        self._end(text, finished)

    def _say(self, text: TextCall, chunk: Chunk) -> None:
        if not text.ended:
            text.sink(chunk)

    def _failed(self, faults: Sequence[tuple[TextCall, Fault]]) -> None:
        logged: set[tuple[str, int]] = set()
        for text, fault in faults:
            if isinstance(fault.cause, InvalidRequest):
                self._end(text, Failed(fault.cause, text.usage()))
                continue
            if (
                fault.message,
                id(fault.cause),
            ) not in logged:  # a call that fails takes several texts with it
                logged.add((fault.message, id(fault.cause)))
                log.error("%s: %s", self._name, fault.message, exc_info=fault.cause)
            self._end(text, Failed(_fault(f"{self._name}: {fault.message}", fault.cause), text.usage()))

    def _left(self, text: TextCall) -> None:
        self._leave(text, "cancelled")
        self._settle(text.lane)

    def _end(self, text: TextCall, event: TextEvent) -> None:
        """The only way out of a text: it leaves the books, then its reader is told, once."""
        if text.ended:
            return
        outcome = event.reason.value if isinstance(event, Finished) else "internal"
        if isinstance(event, Failed):
            outcome = event.error.code.value
        self._leave(text, outcome)
        try:
            text.sink(event)
        except Exception:
            log.exception("%s: a reader failed at the end of its text", self._name)

    def _leave(self, text: TextCall, outcome: str) -> None:
        text.ended = True
        text.lane.texts.pop(text.job.key, None)
        text.lane.drop(text)
        self._reports.ended(outcome, self._clock() - text.arrived_s, text.told)

    def _fail_all(self, lane: TextLane, error: Callable[[], ServeError]) -> None:
        for text in list(lane.texts.values()):
            self._end(text, Failed(error(), text.usage()))
        self._settle(lane)

    def _settle(self, lane: TextLane) -> None:
        if not lane.texts and self._lanes and lane is not self._lanes[-1]:
            lane.stop()
        if not self.texts:
            self._reports.idle()
        self._conditions.check()

    def _watch(self) -> None:
        now, wake = self._clock(), math.inf
        for lane in list(self._lanes):
            for text in list(lane.texts.values()):
                if text.due_s <= now:
                    stage, why = ("queue", LATE) if text.first_s is None else ("engine", OVERDUE)
                    self._end(text, Failed(DeadlineExceeded(why, stage=stage), text.usage()))
                else:
                    wake = min(wake, text.due_s)
            age_s = self._step_age_s(lane)
            if age_s >= self._limits.hang_s and not lane.hung:
                lane.hung = True
                log.critical("%s: the engine hangs; %.3g s in one step", self._name, age_s)
                self._fail_all(lane, lambda: EngineFault(f"{self._name}: the engine hangs"))
            elif lane.texts:
                wake = min(wake, now + max(0.0, self._limits.hang_s - age_s))
            self._settle(lane)
        self._alarm.set(wake, now)

    def _step_age_s(self, lane: TextLane) -> float:
        began_s = lane.began_s
        return 0.0 if began_s is None else self._clock() - began_s

    def _open_lane(self, model: TextModel) -> None:
        lane = TextLane(model, self._limits, self._clock, self._loop, self._stepped, self._gone)
        self._lanes.append(lane)
        lane.start()

    def _gone(self, lane: TextLane, death: BaseException | None) -> None:
        if death is not None:
            log.critical("%s: the engine thread died: %r", self._name, death)
        self._fail_all(lane, lambda: _fault(f"{self._name} has lost its engine thread", death))
        lane.exited = True
        self._lanes.remove(lane)
        self._conditions.check()


def _fault(message: str, cause: BaseException | None) -> EngineFault:
    fault = EngineFault(message)
    fault.__cause__ = cause
    return fault
