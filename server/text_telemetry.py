"""What the text engine reports to telemetry, and the object that measures nothing.

All calls are made on the event-loop thread, at most one a step and a few a text; they must be cheap. What they raise is
only logged.

Units: seconds on the monotonic clock, and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

# Why a text was refused before any work; a closed set, for a label.
BACKLOG: Final = "backlog"  # its first token would come too late
TEXTS: Final = "texts"  # too many texts at once
COMPILES: Final = "compiles"  # too many constraints wait to be compiled
INVALID: Final = "invalid"  # it does not fit, or its constraint does not compile
NOT_READY: Final = "not_ready"  # starting, draining, or without an engine
REFUSALS: Final = (BACKLOG, TEXTS, COMPILES, INVALID, NOT_READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step of the engine: some prompt tokens, one token for each running text, or both.

    Attributes:
        seconds: how long the step took, sampling and all.
        engine_s: of it, inside the engine.
        mask_s: what making grammar masks took on its own thread, beside the engine.
        schedule_s: what deciding the step took.
        calls: engine calls made.
        prompt_tokens: prompt tokens computed.
        cached_tokens: prompt tokens taken from a prefix that was there already.
        output_tokens: tokens sampled.
        prefix_asked, prefix_hit: prompt tokens looked up, and found, for the texts that got a slot in this step.
        preemptions: texts that lost their slot to a more urgent one.
        slots_in_use: slots that belong to a text.
        waiting: texts that have no slot yet.
        first_tokens_s: time from arrival, of each text whose first token came in this step.
        inter_tokens_s: time since its last token, of each text that got a further one.
    """

    seconds: float
    engine_s: float
    mask_s: float
    schedule_s: float
    calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    prefix_asked: int
    prefix_hit: int
    preemptions: int
    slots_in_use: int
    waiting: int
    first_tokens_s: Sequence[float]
    inter_tokens_s: Sequence[float]

    @property
    def batch_tokens(self) -> int:
        """Tokens that the engine computed in this step, prompts and answers."""
        return self.prompt_tokens + len(self.inter_tokens_s)


class TextRecorder(Protocol):
    """What a text engine reports."""

    def step_done(self, report: StepReport) -> None:
        """The engine made a step."""
        ...

    def text_refused(self, reason: str) -> None:
        """A text was refused before any work; one of ``REFUSALS``."""
        ...

    def text_ended(self, outcome: str, *, total_s: float, output_tokens: int) -> None:
        """An admitted text has ended, once: "stop", "length", or the value of a ``Code`` ("cancelled": its reader left)."""
        ...


class NullTextRecorder:
    """A recorder for those who do not count."""

    def step_done(self, report: StepReport) -> None:
        """Ignore it."""

    def text_refused(self, reason: str) -> None:
        """Ignore it."""

    def text_ended(self, outcome: str, *, total_s: float, output_tokens: int) -> None:
        """Ignore it."""
