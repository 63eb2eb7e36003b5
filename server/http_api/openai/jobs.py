"""What each of the two requests asks, ready to be encoded, generated and written: the part in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
from msgspec import UNSET, Struct

from server.errors import InvalidRequest
from server.http_api.openai.answers import ChatChunkOut, ChatOut, CompletionOut, UsageOut
from server.http_api.openai.asked import MAX_TOP_LOGPROBS, Asked, asked, whole
from server.http_api.openai.decoding import decode
from server.http_api.openai.plain_calls import PlainCallParser
from server.http_api.openai.prompts import ChatPrompt, TextPrompts, chat_messages, text_prompts
from server.http_api.openai.shapes import ChatIn, CompletionIn
from server.http_api.openai.tool_calls import ToolCallParser
from server.http_api.openai.tools import CallForm, ToolUse, tool_use
from server.http_api.openai.writers import CallParser, ChatWriter, ChoiceWriter, CompletionWriter
from server.text_generator import TextCodec
from server.text_service import TextRequestLimits

COMPLETION_TOKENS = 16  # OpenAI's default of the older request


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every piece of one answer repeats."""

    id: str
    created: int
    model: str
    fingerprint: str


class Job(Protocol):
    """One request.

    Attributes:
        asked: what is asked.
        prompt: what is written on.
        default_tokens: answer tokens where none are named; None: what fits.
    """

    asked: Asked
    prompt: ChatPrompt | TextPrompts
    default_tokens: int | None

    def writer(self, index: int, codec: TextCodec) -> ChoiceWriter:
        """For one text; its place is prompt times n plus choice."""
        ...

    def piece(self, envelope: Envelope, choices: Sequence[Struct], usage: UsageOut | None) -> Struct:
        """An event of a stream."""
        ...

    def answer(self, envelope: Envelope, choices: Sequence[Struct], usage: UsageOut) -> Struct:
        """The whole answer."""
        ...


class ChatJob:
    """A conversation to go on with."""

    prefix = "chatcmpl"
    default_tokens: int | None = None
    _decoder = msgspec.json.Decoder(ChatIn)

    def __init__(self, body: bytes | bytearray, limits: TextRequestLimits) -> None:
        """Decode and check.

        Raises:
            InvalidRequest: the body does not parse, or a field is wrong.
        """
        given = decode(body, self._decoder)
        _refuse_unable(given)
        shared = asked(given, limits, max_tokens=_most_tokens(given), top_logprobs=_chat_top_logprobs(given))
        self.tools: ToolUse = tool_use(
            given.tools or (),
            given.tool_choice,
            parallel=given.parallel_tool_calls is not False,
            form=shared.constraint,
        )
        self.asked = shared
        self.calls_as(CallForm.MARKED)
        messages, chars = chat_messages(given.messages)
        chars += sum(len(str(tool)) for tool in self.tools.shown)
        self.prompt: ChatPrompt | TextPrompts = ChatPrompt(messages, self.tools.shown, chars)

    def calls_as(self, form: CallForm) -> None:
        """Expect calls in this form, which is known once the template has written the prompt."""
        self._form = form
        self.asked = replace(self.asked, constraint=self.tools.constraint(form))

    def writer(self, index: int, codec: TextCodec) -> ChatWriter:
        """For one message."""
        parser: CallParser | None = None
        if self.tools.parse:
            marked = self._form is CallForm.MARKED
            parser = ToolCallParser(single=self.tools.single) if marked else PlainCallParser(self.tools.names)
        return ChatWriter(
            index,
            codec,
            parser,
            with_logprobs=self.asked.sampling.top_logprobs is not None,
            keep=not self.asked.stream,
        )

    def piece(self, envelope: Envelope, choices: Sequence[Struct], usage: UsageOut | None) -> ChatChunkOut:
        """An event of a stream; where usage is wanted, all but the last say null."""
        shown = usage if self.asked.include_usage else UNSET
        return ChatChunkOut(
            envelope.id, "chat.completion.chunk", envelope.created, envelope.model, envelope.fingerprint,
            list(choices), shown,  # type: ignore[arg-type]
        )  # fmt: skip

    def answer(self, envelope: Envelope, choices: Sequence[Struct], usage: UsageOut) -> ChatOut:
        """The whole answer."""
        return ChatOut(
            envelope.id, "chat.completion", envelope.created, envelope.model, envelope.fingerprint,
            list(choices), usage,  # type: ignore[arg-type]
        )  # fmt: skip


class CompletionJob:
    """Texts to go on with."""

    prefix = "cmpl"
    default_tokens: int | None = COMPLETION_TOKENS
    _decoder = msgspec.json.Decoder(CompletionIn)

    def __init__(self, body: bytes | bytearray, limits: TextRequestLimits) -> None:
        """Decode and check.

        Raises:
            InvalidRequest: the body does not parse, or a field is wrong.
        """
        given = decode(body, self._decoder)
        top = given.logprobs
        if top is not None:
            top = whole("logprobs", top, 0, 0, MAX_TOP_LOGPROBS)
        self.asked = asked(given, limits, max_tokens=given.max_tokens, top_logprobs=top)
        if given.suffix:
            raise InvalidRequest(
                "suffix is given, but this server writes on from the end only; leave it out",
                field="suffix",
                limit="empty",
            )
        if given.best_of not in (None, self.asked.n):
            raise InvalidRequest(
                f"best_of is {given.best_of}; leave it out, or say n = {self.asked.n}",
                field="best_of",
                limit=str(self.asked.n),
            )
        self._echo = bool(given.echo)
        if self._echo and top is not None:
            raise InvalidRequest(
                "echo with logprobs asks for those of the prompt, which are not computed; leave out one of them",
                field="echo",
                limit="without logprobs",
            )
        prompts = text_prompts(given.prompt)
        choices = len(prompts.prompts) * self.asked.n
        if choices > limits.max_choices:
            raise InvalidRequest(
                f"prompt has {len(prompts.prompts)} entries, {choices} texts with n = {self.asked.n}; the limit is "
                f"{limits.max_choices}, send fewer",
                field="prompt",
                limit=f"{limits.max_choices} texts",
            )
        self.prompt: ChatPrompt | TextPrompts = prompts

    def writer(self, index: int, codec: TextCodec) -> CompletionWriter:
        """For one text."""
        echo = ""
        if self._echo and isinstance(self.prompt, TextPrompts):
            echo = self.prompt.text(index // self.asked.n, codec)
        return CompletionWriter(
            index,
            codec,
            echo=echo,
            with_logprobs=self.asked.sampling.top_logprobs is not None,
            keep=not self.asked.stream,
        )

    def piece(self, envelope: Envelope, choices: Sequence[Struct], usage: UsageOut | None) -> CompletionOut:
        """An event of a stream."""
        shown = usage if self.asked.include_usage else UNSET
        return CompletionOut(
            envelope.id, "text_completion", envelope.created, envelope.model, envelope.fingerprint,
            list(choices), shown,  # type: ignore[arg-type]
        )  # fmt: skip

    def answer(self, envelope: Envelope, choices: Sequence[Struct], usage: UsageOut) -> CompletionOut:
        """The whole answer."""
        return CompletionOut(
            envelope.id, "text_completion", envelope.created, envelope.model, envelope.fingerprint,
            list(choices), usage,  # type: ignore[arg-type]
        )  # fmt: skip


def _refuse_unable(given: ChatIn) -> None:
    if given.modalities not in (None, ["text"]):
        raise InvalidRequest(
            "modalities asks for more than text; this server writes text only",
            field="modalities",
            limit="text",
        )
    if given.reasoning_effort not in (None, "none"):
        raise InvalidRequest(
            "reasoning_effort is given, but no model here takes it; leave it out",
            field="reasoning_effort",
            limit="none",
        )


def _most_tokens(given: ChatIn) -> int | None:
    older, newer = given.max_tokens, given.max_completion_tokens
    if older is not None and newer is not None and older != newer:
        raise InvalidRequest(
            f"max_tokens is {older} and max_completion_tokens {newer}; send one of them",
            field="max_completion_tokens",
            limit="one of both",
        )
    return newer if newer is not None else older


def _chat_top_logprobs(given: ChatIn) -> int | None:
    top = given.top_logprobs
    if top is not None:
        top = whole("top_logprobs", top, 0, 0, MAX_TOP_LOGPROBS)
        if top and not given.logprobs:
            raise InvalidRequest(
                f"top_logprobs is {top}, but logprobs is not true; set it",
                field="top_logprobs",
                limit="with logprobs",
            )
    return (top or 0) if given.logprobs else None
