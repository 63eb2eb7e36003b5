"""Conversations and texts of a request, checked, and how they become tokens.

Units: characters and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from server.errors import InvalidRequest
from server.http_api.openai.shapes import CallIn, MessageIn
from server.text_generator import Message, TextCodec

MAX_MESSAGES = 4096
_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """One conversation.

    Attributes:
        messages: as the template gets them.
        tools: as the template gets them.
        chars: about how long it is.
    """

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    chars: int
    field: ClassVar[str] = "messages"

    def check_length(self, token_bytes: int, context: int) -> None:
        """Refuse what cannot fit into ``context`` tokens of at most ``token_bytes`` each, before it is encoded.

        Raises:
            InvalidRequest: it is longer; says both numbers.
        """
        _check_chars("messages", self.chars, token_bytes, context)

    def encode(self, codec: TextCodec) -> list[tuple[int, ...]]:
        """Its tokens."""
        return [tuple(codec.encode_chat(self.messages, tools=self.tools))]


@dataclass(frozen=True, slots=True)
class TextPrompts:
    """Texts, or tokens that the caller made.

    Attributes:
        prompts: each a text or token ids.
        chars: about how long they are.
    """

    prompts: tuple[str | tuple[int, ...], ...]
    chars: int
    field: ClassVar[str] = "prompt"

    def check_length(self, token_bytes: int, context: int) -> None:
        """Refuse what cannot fit, as ``ChatPrompt.check_length`` does; each prompt has the context to itself."""
        for prompt in self.prompts:
            if isinstance(prompt, str):
                _check_chars("prompt", len(prompt), token_bytes, context)

    def encode(self, codec: TextCodec) -> list[tuple[int, ...]]:
        """Their tokens."""
        return [self._one(at, prompt, codec) for at, prompt in enumerate(self.prompts)]

    def refuse_ids(self) -> None:
        """Refuse token ids, where the model's tokens are not known.

        Raises:
            InvalidRequest: there are some.
        """
        if not all(isinstance(prompt, str) for prompt in self.prompts):
            raise InvalidRequest(
                "prompt holds token ids, but texts are written on another server here, whose tokens are not known; "
                "send text",
                field="prompt",
                limit="text",
            )

    def text(self, at: int, codec: TextCodec) -> str:
        """What one of them reads."""
        prompt = self.prompts[at]
        return prompt if isinstance(prompt, str) else codec.decode(prompt, skip_special_tokens=False)

    def _one(self, at: int, prompt: str | tuple[int, ...], codec: TextCodec) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return tuple(codec.encode(prompt))
        wrong = next((token for token in prompt if not 0 <= token < codec.vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(
                f"prompt {at} has the token {wrong}; the model's are 0 .. {codec.vocab_size - 1}",
                field="prompt",
                limit=f"0 .. {codec.vocab_size - 1}",
            )
        return prompt


def chat_messages(given: Sequence[MessageIn]) -> tuple[tuple[Message, ...], int]:
    """Messages as chat templates read them, and about how many characters they are.

    Raises:
        InvalidRequest: none, too many, or one that no text model can read; says which.
    """
    if not 1 <= len(given) <= MAX_MESSAGES:
        raise InvalidRequest(
            f"messages has {len(given)} entries; send 1 to {MAX_MESSAGES}",
            field="messages",
            limit=f"1 .. {MAX_MESSAGES} entries",
        )
    out, chars = [], 0
    for at, message in enumerate(given):
        role = _ROLES.get(message.role)
        if role is None:
            raise InvalidRequest(
                f"messages[{at}].role is {message.role[:40]!r}; use {', '.join(_ROLES)}",
                field=f"messages[{at}].role",
                limit=", ".join(_ROLES),
            )
        content = _content(at, message)
        if content is None and not message.tool_calls and role != "assistant":
            raise InvalidRequest(
                f"messages[{at}].content is missing; it is needed",
                field=f"messages[{at}].content",
                limit="required",
            )
        one: dict[str, Any] = {"role": role, "content": content or ""}
        chars += len(one["content"])
        if message.name is not None:
            one["name"] = message.name
        if message.tool_call_id is not None:
            one["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            one["tool_calls"] = [_called(call) for call in message.tool_calls]
            chars += sum(len(call.function.arguments) for call in message.tool_calls)
        out.append(one)
    return tuple(out), chars


def text_prompts(given: str | list[Any]) -> TextPrompts:
    """The prompts of a completion request in any of their four forms.

    Raises:
        InvalidRequest: none, an empty one, or a list that is neither of texts nor of token ids.
    """
    if isinstance(given, str):
        prompts: list[str | tuple[int, ...]] = [given]
    elif given and all(type(one) is int for one in given):
        prompts = [tuple(given)]
    else:
        prompts = []
        for at, one in enumerate(given):
            if isinstance(one, list) and one and all(type(token) is int for token in one):
                prompts.append(tuple(one))
            elif isinstance(one, str):
                prompts.append(one)
            else:
                raise InvalidRequest(
                    f"prompt[{at}] is neither a text nor a list of token ids",
                    field=f"prompt[{at}]",
                    limit="text, texts, token ids, or lists of token ids",
                )
    if not prompts or not all(prompts):
        raise InvalidRequest("prompt is empty; send some text", field="prompt", limit=">= 1 token")
    return TextPrompts(tuple(prompts), sum(map(len, prompts)))


def _check_chars(field: str, chars: int, token_bytes: int, context: int) -> None:
    most = token_bytes * context  # a character is a byte or more
    if chars > most:
        raise InvalidRequest(
            f"{field} has {chars} characters, which is more than {context} tokens whatever they are (the longest is "
            f"{token_bytes} bytes); the model's context is {context} with the answer in it; send at most {most} characters",
            field=field,
            limit=f"{most} characters",
        )


def _content(at: int, message: MessageIn) -> str | None:
    content = message.content
    if content is None or isinstance(content, str):
        return content
    texts = []
    for place, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if part.type not in ("text", "refusal") or text is None:
            raise InvalidRequest(
                f"messages[{at}].content[{place}] is of type {part.type[:40]!r}; this server reads text only",
                field=f"messages[{at}].content[{place}].type",
                limit="text",
            )
        texts.append(text)
    return "".join(texts)


def _called(call: CallIn) -> dict[str, Any]:
    arguments: Any = call.function.arguments
    if isinstance(
        arguments, str
    ):  # templates write arguments themselves, so they get the value and not its text
        try:
            arguments = msgspec.json.decode(arguments) if arguments.strip() else {}
        except (msgspec.MsgspecError, RecursionError):
            arguments = call.function.arguments
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
