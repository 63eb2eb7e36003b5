"""The JSON of OpenAI's requests, as structs: shapes only; bounds are in ``limits.py`` and ``chat.py``.

A top-level field that is not in a struct is refused, unless it is known to change nothing about the answer (``HARMLESS``):
a misspelt ``max_token`` must not be no limit at all. Inside messages unknown fields are skipped, because clients send back
the messages that other servers gave them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

# Told to OpenAI's own books, caches and scheduling; the text is the same without them.
HARMLESS = frozenset(
    {
        "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
        "prediction", "verbosity",
    }
)  # fmt: skip


class StreamOptionsIn(msgspec.Struct):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchemaIn(msgspec.Struct):
    """A named schema."""

    schema: dict[str, Any] | None = None
    name: str = ""
    description: str | None = None
    strict: bool | None = None


class ResponseFormatIn(msgspec.Struct):
    """What form the text has."""

    type: str
    json_schema: JsonSchemaIn | None = None


class StructuredIn(msgspec.Struct, forbid_unknown_fields=True):
    """Other constraints, as vLLM names them; one of them."""

    regex: str | None = None
    choice: list[str] | None = None
    grammar: Annotated[str | None, Meta(description="in llguidance's Lark")] = None
    json: dict[str, Any] | str | None = None


class SharedIn(msgspec.Struct, kw_only=True):
    """What both requests have."""

    model: Annotated[str, Meta(description="as /v1/models lists it; empty: the only text model")] = ""
    max_tokens: Annotated[int | None, Meta(description="left out: what fits into the context")] = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptionsIn | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: Annotated[str | None, Meta(description="whose request it is, for fairness; never logged")] = None
    response_format: ResponseFormatIn | None = None
    top_k: Annotated[int | None, Meta(description="extension; 0 or -1: off")] = None
    min_p: Annotated[float | None, Meta(description="extension; 0: off")] = None
    repetition_penalty: Annotated[float | None, Meta(description="extension; 1: off")] = None
    ignore_eos: Annotated[bool | None, Meta(description="extension: write on after the end")] = None
    stop_token_ids: Annotated[list[int] | None, Meta(description="extension")] = None
    structured_outputs: Annotated[StructuredIn | None, Meta(description="extension")] = None
    deadline_ms: Annotated[
        float | None,
        Meta(description="extension: milliseconds from arrival; the x-deadline-ms header says the same"),
    ] = None


class PartIn(msgspec.Struct):
    """A part of a message."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledIn(msgspec.Struct):
    """What an earlier answer called."""

    name: str
    arguments: str | dict[str, Any] = ""


class CallIn(msgspec.Struct):
    """A call of an earlier answer."""

    function: CalledIn
    id: str = ""
    type: str = "function"


class MessageIn(msgspec.Struct):
    """One turn."""

    role: str
    content: str | list[PartIn] | None = None
    name: str | None = None
    tool_calls: list[CallIn] | None = None
    tool_call_id: str | None = None


class FunctionIn(msgspec.Struct):
    """What may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolIn(msgspec.Struct):
    """A tool."""

    function: FunctionIn
    type: str = "function"


class ChosenFunctionIn(msgspec.Struct):
    """The name of a function."""

    name: str


class ToolChoiceIn(msgspec.Struct):
    """The one tool that must be called."""

    function: ChosenFunctionIn
    type: str = "function"


class ChatIn(SharedIn, kw_only=True):
    """A conversation to go on with."""

    messages: list[MessageIn]
    max_completion_tokens: int | None = None
    tools: list[ToolIn] | None = None
    tool_choice: str | ToolChoiceIn | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None


class CompletionIn(SharedIn, kw_only=True):
    """Texts to go on with."""

    prompt: Annotated[str | list[Any], Meta(description="a text, texts, token ids, or lists of token ids")]
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None


NESTED: dict[str, type[msgspec.Struct]] = {
    "stream_options": StreamOptionsIn,
    "response_format": ResponseFormatIn,
    "json_schema": JsonSchemaIn,
    "structured_outputs": StructuredIn,
    "messages": MessageIn,
    "content": PartIn,
    "tool_calls": CallIn,
    "tools": ToolIn,
    "function": FunctionIn,
    "tool_choice": ToolChoiceIn,
}
