"""Continuous batching: texts join and leave the running batch between two steps of the engine."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.batching.text_model import TextLimits, TextModel
from server.text_domain import GenerateRequest, TextModelInfo
from server.text_generator import Generation, Sink, TextCodec
from server.text_telemetry import NullTextRecorder, TextRecorder

__all__ = ["ContinuousBatcher", "TextLimits", "TextModel"]


class ContinuousBatcher:
    """A ``TextGenerator`` over one engine. Lives on one event loop."""

    codec: TextCodec

    def __init__(
        self,
        model: TextModel,
        limits: TextLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        recorder: TextRecorder | None = None,
    ) -> None:
        self._model, self._limits = model, limits or TextLimits()
        self._clock, self._recorder = clock, recorder or NullTextRecorder()
        self.codec = model.codec

    def start(self) -> None:
        """Start the engine's thread; called once, inside the loop that will serve."""
        raise NotImplementedError

    def info(self) -> TextModelInfo:
        """What is served."""
        return self._model.info

    def submit(self, request: GenerateRequest, sink: Sink) -> Generation:
        """Begin to write; see ``TextGenerator.submit``."""
        raise NotImplementedError

    def ready(self) -> tuple[bool, str]:
        """Whether texts can be written now, and a sentence if not."""
        raise NotImplementedError

    def swap(self, model: TextModel) -> TextModel:
        """Write new texts with another version; those under way are finished by theirs. Returns the old one."""
        raise NotImplementedError

    async def drained(self, model: TextModel) -> None:
        """Return once nothing uses ``model`` any more, so that it may be closed."""
        raise NotImplementedError

    async def close(self, drain_s: float) -> None:
        """Refuse new texts, finish those under way within ``drain_s``, fail the rest, stop."""
        raise NotImplementedError

    @property
    def last_progress_s(self) -> float:
        """On the clock: now when idle, else when the engine last finished a step or began the running one."""
        raise NotImplementedError

    @property
    def texts(self) -> int:
        """Texts that have not ended."""
        raise NotImplementedError
