"""From the events of a text to the pieces of an answer, and from these to the whole.

A whole answer is put together from the same pieces that a stream sends, so both say the same. A writer is one text's; it
knows no connection.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import UNSET, Struct

from server.http_api.openai.answers import (
    CallOut,
    ChatChoiceOut,
    ChatLogprobsOut,
    ChunkChoiceOut,
    CompletionChoiceOut,
    DeltaOut,
    FunctionOut,
    LogprobsOut,
    MessageOut,
    chat_logprobs,
    logprobs,
)
from server.http_api.openai.tool_calls import CallArguments, CallStart, Piece
from server.http_api.openai.tool_calls import Content as Text
from server.request_ids import new_request_id
from server.text_domain import Chunk, FinishReason, TokenLogprob
from server.text_generator import TextCodec


class ChoiceWriter(Protocol):
    """One text of an answer."""

    def feed(self, chunk: Chunk) -> list[Struct]:
        """What a stream says now."""
        ...

    def finish(self, reason: FinishReason) -> list[Struct]:
        """What a stream says at the end of this text."""
        ...

    def whole(self) -> Struct:
        """All of it, once finished."""
        ...


class CallParser(Protocol):
    """Finds calls in a text that comes in pieces.

    Attributes:
        calls: how many have begun.
    """

    calls: int

    def feed(self, text: str) -> list[Piece]:
        """What is certain after some more text."""
        ...

    def finish(self) -> list[Piece]:
        """What is left at the end of the text."""
        ...


class ChatWriter:
    """One message."""

    def __init__(
        self, index: int, codec: TextCodec, parser: CallParser | None, *, with_logprobs: bool, keep: bool
    ) -> None:
        """Begin.

        Args:
            index: of the choice.
            codec: of the model.
            parser: finds tool calls; None: there are none.
            with_logprobs: whether they are told.
            keep: whether ``whole`` will be asked for.
        """
        self._index = index
        self._codec = codec
        self._parser = parser
        self._with_logprobs = with_logprobs
        self._keep = keep
        self._begun = False
        self._pending: list[TokenLogprob] = []
        self._content: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []  # id, name, pieces of the arguments
        self._tokens: list[TokenLogprob] = []
        self._reason = ""

    def feed(self, chunk: Chunk) -> list[Struct]:
        """The role at first, then content and calls."""
        if self._with_logprobs:
            self._pending += chunk.logprobs
            if self._keep:
                self._tokens += chunk.logprobs
        if self._parser is None:
            pieces: list[Piece] = [Text(chunk.text)] if chunk.text else []
        else:
            pieces = self._parser.feed(chunk.text)
        return self._say(pieces)

    def finish(self, reason: FinishReason) -> list[Struct]:
        """What was held back, then the reason."""
        said = self._say(self._parser.finish() if self._parser is not None else [])
        called = self._parser is not None and self._parser.calls > 0
        self._reason = "tool_calls" if called and reason is FinishReason.STOP else reason.value
        if not self._keep:
            said.append(ChunkChoiceOut(self._index, DeltaOut(), self._logprobs(), self._reason))
        return said

    def whole(self) -> ChatChoiceOut:
        """The message."""
        content: str | None = "".join(self._content)
        calls = [
            CallOut(FunctionOut(name, "".join(arguments)), UNSET, call_id, "function")
            for call_id, name, arguments in self._calls
        ]
        message = MessageOut("assistant", (content or None) if calls else content, calls or UNSET)
        told = chat_logprobs(self._codec, self._tokens) if self._with_logprobs else None
        return ChatChoiceOut(self._index, message, told, self._reason)

    def _say(self, pieces: list[Piece]) -> list[Struct]:
        if self._keep:
            for piece in pieces:
                self._remember(piece)
            return []
        said: list[Struct] = []
        if not self._begun:
            self._begun = True
            said.append(ChunkChoiceOut(self._index, DeltaOut("assistant", "")))
        said += [ChunkChoiceOut(self._index, self._delta(piece), self._logprobs()) for piece in pieces]
        return said

    def _remember(self, piece: Piece) -> None:
        if isinstance(piece, CallStart):
            self._calls.append((_call_id(), piece.name, []))
        elif isinstance(piece, CallArguments):
            self._calls[-1][2].append(piece.text)
        else:
            self._content.append(piece.text)

    def _delta(self, piece: Piece) -> DeltaOut:
        if isinstance(piece, CallStart):
            call = CallOut(FunctionOut(piece.name, ""), piece.index, _call_id(), "function")
            return DeltaOut(UNSET, UNSET, [call])
        if isinstance(piece, CallArguments):
            return DeltaOut(UNSET, UNSET, [CallOut(FunctionOut(UNSET, piece.text), piece.index)])
        return DeltaOut(UNSET, piece.text)

    def _logprobs(self) -> ChatLogprobsOut | None:
        if not self._pending:
            return None
        pending, self._pending = self._pending, []
        return chat_logprobs(self._codec, pending)


class CompletionWriter:
    """One text in the older form."""

    def __init__(self, index: int, codec: TextCodec, *, echo: str, with_logprobs: bool, keep: bool) -> None:
        """Begin.

        Args:
            index: of the choice.
            codec: of the model.
            echo: what the text begins with.
            with_logprobs: whether they are told.
            keep: whether ``whole`` will be asked for.
        """
        self._index = index
        self._codec = codec
        self._echo = echo
        self._with_logprobs = with_logprobs
        self._keep = keep
        self._text = [echo]
        self._tokens: list[TokenLogprob] = []
        self._offset = len(echo)
        self._reason = ""

    def feed(self, chunk: Chunk) -> list[Struct]:
        """The text that came."""
        if self._keep:
            self._text.append(chunk.text)
            self._tokens += chunk.logprobs
            return []
        told = None
        if self._with_logprobs and chunk.logprobs:
            told = self._logprobs(list(chunk.logprobs))
        text, self._echo = self._echo + chunk.text, ""
        return [CompletionChoiceOut(self._index, text, told)] if text or told else []

    def finish(self, reason: FinishReason) -> list[Struct]:
        """The reason."""
        self._reason = reason.value
        if self._keep:
            return []
        text, self._echo = self._echo, ""
        return [CompletionChoiceOut(self._index, text, None, self._reason)]

    def whole(self) -> CompletionChoiceOut:
        """The text."""
        told = self._logprobs(self._tokens) if self._with_logprobs else None
        return CompletionChoiceOut(self._index, "".join(self._text), told, self._reason)

    def _logprobs(self, tokens: list[TokenLogprob]) -> LogprobsOut:
        out = logprobs(self._codec, tokens, self._offset)
        self._offset += sum(map(len, out.tokens))
        return out


def _call_id() -> str:
    return "call_" + new_request_id().replace("-", "")
