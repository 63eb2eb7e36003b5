"""The JSON of OpenAI's answers, whole and in pieces."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from server.text_domain import TokenLogprob
from server.text_generator import TextCodec

NEVER = -9999.0  # what OpenAI writes for a token that cannot come; JSON has no infinity


class CachedOut(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: int


class UsageOut(msgspec.Struct):
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedOut


class TopOut(msgspec.Struct):
    """A token that could have come."""

    token: str
    logprob: float
    bytes: list[int]


class TokenOut(msgspec.Struct):
    """A token that came."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopOut]


class ChatLogprobsOut(msgspec.Struct):
    """Of every token of the content."""

    content: list[TokenOut]
    refusal: None = None


class LogprobsOut(msgspec.Struct):
    """The older form: parallel lists."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class FunctionOut(msgspec.Struct, omit_defaults=True):
    """What is called; in a stream the name comes first and the arguments after it."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CallOut(msgspec.Struct, omit_defaults=True):
    """A tool call, or a piece of one."""

    function: FunctionOut
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class DeltaOut(msgspec.Struct, omit_defaults=True):
    """What a message grew by."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[CallOut] | UnsetType = UNSET


class ChunkChoiceOut(msgspec.Struct):
    """Which answer grew."""

    index: int
    delta: DeltaOut
    logprobs: ChatLogprobsOut | None = None
    finish_reason: str | None = None


class ChatChunkOut(msgspec.Struct):
    """One event of a chat stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoiceOut]
    usage: UsageOut | UnsetType | None = UNSET


class MessageOut(msgspec.Struct):
    """A whole message."""

    role: str
    content: str | None
    tool_calls: list[CallOut] | UnsetType = UNSET
    refusal: None = None


class ChatChoiceOut(msgspec.Struct):
    """One answer."""

    index: int
    message: MessageOut
    logprobs: ChatLogprobsOut | None
    finish_reason: str


class ChatOut(msgspec.Struct):
    """A whole chat answer."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoiceOut]
    usage: UsageOut


class CompletionChoiceOut(msgspec.Struct):
    """One text, or what it grew by."""

    index: int
    text: str
    logprobs: LogprobsOut | None = None
    finish_reason: str | None = None


class CompletionOut(msgspec.Struct):
    """A whole answer, or one event of a stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoiceOut]
    usage: UsageOut | UnsetType | None = UNSET


def chat_logprobs(codec: TextCodec, given: list[TokenLogprob]) -> ChatLogprobsOut:
    """The chat form."""
    return ChatLogprobsOut([_token(codec, one) for one in given])


def logprobs(codec: TextCodec, given: list[TokenLogprob], offset: int) -> LogprobsOut:
    """The older form; ``offset`` is the character at which the first token begins."""
    tokens, offsets = [], []
    for one in given:
        text, _ = _shown(codec, one.token_id)
        tokens.append(text)
        offsets.append(offset)
        offset += len(text)
    top = [{_shown(codec, token)[0]: _finite(value) for token, value in one.top} for one in given]
    return LogprobsOut(tokens, [_finite(one.logprob) for one in given], top if any(top) else None, offsets)


def _token(codec: TextCodec, one: TokenLogprob) -> TokenOut:
    text, raw = _shown(codec, one.token_id)
    top = []
    for token, value in one.top:
        other, other_raw = _shown(codec, token)
        top.append(TopOut(other, _finite(value), list(other_raw)))
    return TokenOut(text, _finite(one.logprob), list(raw), top)


def _shown(codec: TextCodec, token_id: int) -> tuple[str, bytes]:
    raw = codec.token_bytes(token_id)
    if raw:
        return raw.decode("utf-8", "replace"), raw
    text = codec.decode((token_id,), skip_special_tokens=False)
    return text, text.encode()


def _finite(value: float) -> float:
    return value if value > NEVER else NEVER
