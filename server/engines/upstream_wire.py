"""The wire to an OpenAI-compatible server elsewhere: what is sent, what its events mean, what its errors are to us. Pure.

A prompt crosses the house as token ids, and an engine elsewhere has other tokens. So here a token is a byte: a text is its
UTF-8, and a conversation is ``CHAT`` and the JSON of its messages and tools, to be sent as it is.

Units: seconds; tokens are the other server's.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from server.errors import (
    DeadlineExceeded,
    EngineFault,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServeError,
    UpstreamFault,
)
from server.text_domain import Constraint, ConstraintKind, FinishReason, GenerateRequest, Usage
from server.text_generator import Message

CHAT = 256
TOOL_OPEN, TOOL_CLOSE = "<tool_call>\n", "\n</tool_call>"


class WireDecoder:
    """Bytes to text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that this byte completes."""
        return self._decoder.decode(bytes((token_id,))) if token_id < CHAT else ""

    def flush(self) -> str:
        """What is left at the end."""
        return self._decoder.decode(b"", final=True)


class WireCodec:
    """Texts and conversations as bytes."""

    vocab_size = CHAT + 1
    eos_ids: frozenset[int] = frozenset()
    longest_token_bytes = 1

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The bytes of a text."""
        return list(text.encode("utf-8", "replace"))

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """A conversation, to be laid out by the other server's template."""
        return [CHAT, *msgspec.json.encode({"messages": list(messages), "tools": list(tools)})]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of bytes."""
        return bytes(token for token in token_ids if token < CHAT).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The byte itself."""
        return bytes((token_id,)) if token_id < CHAT else b""

    def stream(self) -> WireDecoder:
        """A decoder for one text."""
        return WireDecoder()


def ask(request: GenerateRequest, model: str, max_context: int) -> tuple[str, bytes]:
    """Path and body for a request.

    Raises:
        InvalidRequest: it asks what cannot be passed on.
    """
    if request.sampling.top_logprobs is not None:
        raise InvalidRequest(
            "logprobs are asked for, but texts are written on another server here, whose tokens are not known; "
            "leave logprobs out",
            field="logprobs",
            limit="none",
        )
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    ids = request.prompt_ids
    if ids[0] == CHAT:
        path = "/chat/completions"
        asked = msgspec.json.decode(bytes(ids[1:]))
        body["messages"] = [_message(message) for message in asked["messages"]]
        if asked["tools"]:
            body["tools"] = asked["tools"]
    else:
        path = "/completions"
        body["prompt"] = bytes(ids).decode("utf-8", "replace")
    if request.max_tokens < max_context:
        body["max_tokens"] = request.max_tokens
    body.update(_sampling(request))
    if request.constraint is not None:
        body.update(_constraint(request.constraint))
    return path, msgspec.json.encode(body)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    out = []
    for call in calls:
        function = call["function"]
        arguments = function["arguments"]
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        out.append({**call, "function": {**function, "arguments": text}})
    return {**message, "tool_calls": out}


def _sampling(request: GenerateRequest) -> dict[str, Any]:
    given = request.sampling
    out: dict[str, Any] = {"temperature": given.temperature}
    optional: tuple[tuple[str, Any, Any], ...] = (
        ("top_p", given.top_p, 1.0),
        ("top_k", given.top_k, 0),
        ("min_p", given.min_p, 0.0),
        ("repetition_penalty", given.repetition_penalty, 1.0),
        ("presence_penalty", given.presence_penalty, 0.0),
        ("frequency_penalty", given.frequency_penalty, 0.0),
        ("seed", given.seed, None),
        ("stop", list(request.stop), []),
        ("stop_token_ids", sorted(request.stop_token_ids), []),
        ("ignore_eos", request.ignore_eos, False),
        ("logit_bias", {str(token): bias for token, bias in given.logit_bias.items()}, {}),
    )
    out.update({name: value for name, value, default in optional if value != default})
    return out


def _constraint(constraint: Constraint) -> dict[str, Any]:
    kind, text = constraint.kind, constraint.text
    if kind is ConstraintKind.JSON_SCHEMA:
        schema = {"name": "answer", "schema": msgspec.json.decode(text), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if kind is ConstraintKind.CHOICE:
        return {"structured_outputs": {"choice": msgspec.json.decode(text)}}
    name = "regex" if kind is ConstraintKind.REGEX else "grammar"
    return {"structured_outputs": {name: text}}


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event says.

    Attributes:
        text: that was written; tool calls are written out as models write them.
        reason: why the text ended, once.
        usage: at the end.
        done: whether nothing follows.
    """

    text: str = ""
    reason: FinishReason | None = None
    usage: Usage | None = None
    done: bool = False


class EventReader:
    """Bytes of an event stream to pieces.

    Lines are split at LF only: a JSON string may hold other characters that Unicode counts as line ends.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._calls = 0
        self._in_call = False

    def feed(self, data: bytes) -> list[Piece]:
        """What is whole now.

        Raises:
            UpstreamFault: an event is not JSON of this form.
            ServeError: the stream says that it failed.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        pieces = []
        for line in lines:
            line = line.rstrip(b"\r")
            if not line.startswith(b"data:"):
                continue
            payload = line[5:].strip()
            if payload == b"[DONE]":
                pieces.append(Piece(done=True))
                continue
            try:
                pieces.append(self._piece(msgspec.json.decode(payload)))
            except (
                msgspec.DecodeError,
                KeyError,
                TypeError,
                IndexError,
                AttributeError,
                UnicodeDecodeError,
            ) as error:
                raise UpstreamFault("the upstream server sent an event that cannot be read") from error
        return pieces

    def _piece(self, event: dict[str, Any]) -> Piece:
        failed = event.get("error")
        if failed:
            raise _failed_stream(failed)
        text, reason = "", None
        for choice in event["choices"]:
            delta = choice.get("delta")
            if delta is None:
                text += choice.get("text") or ""
            else:
                text += (delta.get("content") or "") + self._called(delta.get("tool_calls") or ())
            said = choice.get("finish_reason")
            if said is not None:
                text += self._close()
                reason = FinishReason.LENGTH if said == "length" else FinishReason.STOP
        return Piece(text, reason, _usage(event.get("usage")))

    def _called(self, calls: Sequence[dict[str, Any]]) -> str:
        text = ""
        for call in calls:
            function = call.get("function") or {}
            if function.get("name"):
                text += self._close() + ("\n" if self._calls else "") + TOOL_OPEN
                name = msgspec.json.encode(function["name"]).decode()
                text += f'{{"name": {name}, "arguments": '
                self._in_call = True
                self._calls += 1
            text += function.get("arguments") or ""
        return text

    def _close(self) -> str:
        was, self._in_call = self._in_call, False
        return "}" + TOOL_CLOSE if was else ""


def _usage(given: Any) -> Usage | None:
    if not given:
        return None
    details = given.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(given.get("prompt_tokens") or 0),
        completion_tokens=int(given.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _failed_stream(error: Any) -> ServeError:
    code = error.get("code") if isinstance(error, dict) else None
    if code == "not_ready":
        return NotReady("the upstream server stopped within the text")
    return UpstreamFault("the upstream server failed within the text")


def refused(status: int, body: bytes, retry_after: str | None) -> ServeError:
    """What an answer without success is to the caller here; our own key or name being wrong is not the caller's fault."""
    if status == 429:
        wait_s = float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
        error = Overloaded("upstream", 0, 0, wait_s)
        error.message = f"the upstream server is full; retry in {wait_s:g} s"
        error.limit = None
        return error
    if status in (400, 413, 422):
        message, param = _told(body)
        return InvalidRequest(f"the upstream server refuses: {message}", field=param)
    if status == 503:
        return NotReady("the upstream server answers 503")
    if status == 504:
        return DeadlineExceeded(
            "the upstream server answers 504: it could not write the text in time", stage="engine"
        )
    if status >= 500:
        return UpstreamFault(f"the upstream server answers {status}")
    return EngineFault(f"the upstream server answers {status}")


def _told(body: bytes) -> tuple[str, str | None]:
    try:
        error = msgspec.json.decode(body)
        error = error.get("error", error)
        param = error.get("param")
        return str(error["message"])[:500], str(param) if param else None
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return "it does not say why", None
