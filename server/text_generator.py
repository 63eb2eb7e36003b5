"""What the products need of a text engine, here or elsewhere. ``batching.continuous`` is one, ``engines.upstream`` another.

All calls are made on the event-loop thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from server.text_domain import GenerateRequest, TextEvent, TextModelInfo

Sink = Callable[[TextEvent], None]
Message = Mapping[str, Any]


class StreamDecoder(Protocol):
    """Tokens to text, one by one, never half a character."""

    def push(self, token_id: int) -> str:
        """The characters that this token completes; may be empty."""

    def flush(self) -> str:
        """What is left at the end; incomplete bytes become U+FFFD."""


class TextCodec(Protocol):
    """A tokenizer with its chat template.

    Attributes:
        vocab_size: tokens, including added ones.
        eos_ids: tokens that end a text.
        longest_token_bytes: what a token stands for at most (>= 1).
    """

    vocab_size: int
    eos_ids: frozenset[int]
    longest_token_bytes: int

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Tokens of a text."""

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Tokens of a conversation, by the model's own template.

        Raises:
            InvalidRequest: there is no template, or it refuses these messages; holds its sentence.
        """

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; empty for special tokens."""

    def stream(self) -> StreamDecoder:
        """A decoder for one answer."""


class Generation(Protocol):
    """A text on its way."""

    def cancel(self) -> None:
        """The reader left: nothing more is told, its slot is free at the next step. A second call changes nothing."""


class TextGenerator(Protocol):
    """Writes texts."""

    @property
    def codec(self) -> TextCodec:
        """Tokens of the model that new texts begin with; another one after a new version has come."""

    def info(self) -> TextModelInfo:
        """What is served."""

    def submit(self, request: GenerateRequest, sink: Sink) -> Generation:
        """Begin to write.

        ``sink`` is called on the event loop, never before this returns: any number of ``Chunk`` and then exactly one
        ``Finished`` or ``Failed``, or nothing more after ``cancel``.

        Raises:
            InvalidRequest: the prompt is empty or does not fit (says both numbers), or a limit is exceeded.
            Overloaded: its first token would come too late; ``retry_after_s`` comes from the measured token rate.
            NotReady: not started, draining, or without an engine.
        """

    def ready(self) -> tuple[bool, str]:
        """Whether texts can be written now, and a sentence if not."""
