"""What a sentence encoder reports to telemetry, and the object that measures nothing.

All calls are made on the event-loop thread, one a batch and one or two a request; they must be cheap. What they raise is only
logged.

Units: seconds on the monotonic clock, and tokens.
"""

from __future__ import annotations

from typing import Final, Protocol

# Who asked; a closed set, for a label.
LIVE: Final = "live"
BULK: Final = "bulk"


class EncoderRecorder(Protocol):
    """What an encoder reports."""

    def batch_done(self, *, texts: int, tokens: int, padded_tokens: int, engine_s: float) -> None:
        """A batch was computed; ``padded_tokens`` is its longest text times its texts."""
        ...

    def request_done(self, kind: str, *, queue_s: float) -> None:
        """All texts of a request have been encoded, after waiting that long in all; ``kind`` is ``LIVE`` or ``BULK``."""
        ...

    def inputs_read(self, kind: str, *, texts: int, truncated: int) -> None:
        """Texts became tokens; of so many the end was left out."""
        ...

    def cancelled(self, stage: str) -> None:
        """A caller left; ``stage`` is queue or engine."""
        ...

    def deadline_missed(self, stage: str) -> None:
        """A request was given up (queue) or passed its deadline in the engine (engine)."""
        ...

    def waiting(self, texts: int) -> None:
        """How many texts wait, after each decision."""
        ...


class NullEncoderRecorder:
    """A recorder for those who do not count."""

    def batch_done(self, *, texts: int, tokens: int, padded_tokens: int, engine_s: float) -> None:
        """Ignore it."""

    def request_done(self, kind: str, *, queue_s: float) -> None:
        """Ignore it."""

    def inputs_read(self, kind: str, *, texts: int, truncated: int) -> None:
        """Ignore it."""

    def cancelled(self, stage: str) -> None:
        """Ignore it."""

    def deadline_missed(self, stage: str) -> None:
        """Ignore it."""

    def waiting(self, texts: int) -> None:
        """Ignore it."""
