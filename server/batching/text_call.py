"""One text on its way through the batcher: what both threads know of it, and who may touch what.

Units: seconds on the batcher's clock, and tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from server.batching.token_step import TextJob
from server.sampling.base import RowSampler, TextWriter
from server.text_domain import GenerateRequest, Usage
from server.text_generator import Sink

if TYPE_CHECKING:
    from server.batching.text_lane import TextLane


def earliest(*times_s: float) -> float:
    """The earliest of some times; NaN is a time that has always passed."""
    return min(-math.inf if math.isnan(time_s) else time_s for time_s in times_s)


class TextCall:
    """A ``Generation``. The event loop owns it; ``job`` and ``row`` belong to the engine thread once it was put there.

    Attributes:
        lane: of the version that writes it.
        job: for the scheduler; the event loop reads its numbers, which may be a step old.
        row: for the sampler; None until its constraint is compiled.
        writer: makes text of its tokens.
        end_ids: tokens that end it.
        arrived_s: from when its times are counted.
        submitted_s: when it was let in.
        due_s: when it fails, whatever it waits for, unless its first token has come (then ``request.deadline_at_s``).
        predicted_s: seconds until its first token, as admission saw it.
        first_s: when its first token came; None: not yet.
        last_s: when its last token came.
        told: tokens that its reader was told of.
        ended: whether its reader is told nothing more.
    """

    __slots__ = (
        "_left",
        "arrived_s",
        "end_ids",
        "ended",
        "first_s",
        "job",
        "lane",
        "last_s",
        "predicted_s",
        "request",
        "row",
        "sink",
        "submitted_s",
        "told",
        "writer",
    )

    def __init__(
        self,
        lane: TextLane,
        request: GenerateRequest,
        sink: Sink,
        job: TextJob,
        now_s: float,
        writer: TextWriter,
        left: Callable[[TextCall], None],
    ) -> None:
        self.lane, self.request, self.sink, self.job, self.writer = lane, request, sink, job, writer
        self._left = left
        eos_ids = frozenset() if request.ignore_eos else lane.model.codec.eos_ids
        self.end_ids = eos_ids | request.stop_token_ids
        self.row: RowSampler | None = None
        self.arrived_s, self.submitted_s = job.arrived_s, now_s
        self.first_s: float | None = None
        self.last_s = job.arrived_s
        self.predicted_s = 0.0
        self.told = 0
        self.ended = False

    def cancel(self) -> None:
        """The reader left; a second call, or one after the end, changes nothing."""
        if not self.ended:
            self._left(self)

    @property
    def due_s(self) -> float:
        """When it fails if it is not further by then."""
        request = self.request
        if self.first_s is None:
            return earliest(request.deadline_at_s, request.first_token_at_s)
        return earliest(request.deadline_at_s)

    def usage(self) -> Usage:
        """What it took so far."""
        job = self.job
        return Usage(prompt_tokens=job.prompt_tokens, completion_tokens=self.told, cached_tokens=job.cached)
