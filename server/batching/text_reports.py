"""What telemetry is told of texts and steps; what it raises is logged and hurts nobody.

Units: seconds, and tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from server.batching.text_lane import StepDone
from server.text_telemetry import StepReport, TextRecorder

log = logging.getLogger(__name__)


NOTHING = StepReport(
    seconds=0.0,
    engine_s=0.0,
    mask_s=0.0,
    schedule_s=0.0,
    calls=0,
    prompt_tokens=0,
    cached_tokens=0,
    output_tokens=0,
    prefix_asked=0,
    prefix_hit=0,
    preemptions=0,
    slots_in_use=0,
    waiting=0,
    first_tokens_s=(),
    inter_tokens_s=(),
)


class TextReports:
    """A recorder that cannot fail."""

    def __init__(self, name: str, recorder: TextRecorder) -> None:
        self._name, self._recorder = name, recorder
        self._busy = False

    def refused(self, reason: str) -> None:
        """A text was refused."""
        self._safely(lambda: self._recorder.text_refused(reason))

    def ended(self, outcome: str, total_s: float, output_tokens: int) -> None:
        """An admitted text has ended."""
        self._safely(lambda: self._recorder.text_ended(outcome, total_s=total_s, output_tokens=output_tokens))

    def step(self, done: StepDone, first_tokens_s: Sequence[float], inter_tokens_s: Sequence[float]) -> None:
        """A step was made."""
        step, outcome = done.step, done.outcome
        report = StepReport(
            seconds=done.ended_s - done.began_s,
            engine_s=outcome.engine_s,
            mask_s=outcome.mask_s,
            schedule_s=done.planned_s - done.began_s,
            calls=outcome.calls,
            prompt_tokens=step.prompt_tokens,
            cached_tokens=step.cached_tokens,
            output_tokens=len(done.tokens),
            prefix_asked=step.prefix_asked,
            prefix_hit=step.cached_tokens,
            preemptions=step.preemptions,
            slots_in_use=step.slots_in_use,
            waiting=step.waiting,
            first_tokens_s=first_tokens_s,
            inter_tokens_s=inter_tokens_s,
        )
        self._busy = bool(report.slots_in_use or report.waiting)
        self._safely(lambda: self._recorder.step_done(report))

    def idle(self) -> None:
        """No text is left, and so no step will come that says that no slot is in use."""
        if self._busy:
            self._busy = False
            self._safely(lambda: self._recorder.step_done(NOTHING))

    def _safely(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:
            log.exception("%s: telemetry failed", self._name)
