"""What the products need of a sentence encoder, here or elsewhere. All calls are made on the event-loop thread."""

from __future__ import annotations

from typing import Protocol

from server.encoder_domain import Encoded, EncodeRequest, EncoderInfo


class SentenceEncoder(Protocol):
    """Texts to vectors, and to the scores of intents where the model has a head for them."""

    def info(self) -> EncoderInfo:
        """What is served; another one after a new version has come. Before it is loaded, ``dim`` is 0."""

    async def encode(self, request: EncodeRequest) -> Encoded:
        """Encode; cancelling it leaves the engine to others at once.

        Raises:
            InvalidRequest: an input is empty, has no characters that can be read, or is too long (says both numbers). Its
                ``field`` is "input[3]", or "input" where there is one.
            DeadlineExceeded: it cannot be done in time.
            Overloaded: too much is waiting.
            NotReady: not started, draining, or without an engine.
            EngineFault: the engine failed on this batch; others go on.
        """

    def ready(self) -> tuple[bool, str]:
        """Whether texts can be encoded now, and a sentence if not."""
