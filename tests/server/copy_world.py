"""A text generator that follows the protocol and answers from a script, and rules plain enough to be seen through.

The generator's tokens are characters. It looks at what it is asked for as an engine with a grammar would: a whole answer,
or one string that goes on from an answer begun. Each text is written in chunks of a few characters, a chunk a turn of the
loop, so that other things happen in between.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from server.copy_domain import Claim, ClaimKind, CopyRequest, CopyText, ProductRecord, count_words
from server.errors import InvalidRequest, ServeError
from server.text_domain import (
    Chunk,
    ConstraintKind,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    TextModelInfo,
    Usage,
)
from server.text_generator import Sink

KETTLE = ProductRecord(
    title="Brimora Kettle 1.7 l",
    brand="Brimora",
    category="Kitchen / Kettles",
    attributes={"capacity": "1.7 l", "colour": "black", "power": "2200 W"},
    price=39.9,
    currency="EUR",
)
GOOD = CopyText(
    headline="Brimora Kettle 1.7 l",
    description="A black kettle. It holds 1.7 l.",
    bullets=("2200 W", "Holds 1.7 l"),
)
PART = re.compile(r'"(headline|description|bullets)":(?: ?\[(?:"[^"]*"(?:, ?)?)*)?$')


class CharCodec:
    """Characters as tokens."""

    vocab_size = 0x110000
    eos_ids = frozenset({0x10FFFF})

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [ord(char) for char in text]

    def encode_chat(self, messages: Sequence[Any], **_: Any) -> list[int]:
        raise InvalidRequest("this model has no chat template")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, token_ids))

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode()

    def stream(self) -> Any:
        raise NotImplementedError


class Scripted:
    """A ``TextGenerator``; ``texts(prompt, part, attempt)`` says what it writes.

    Attributes:
        asked: every request with the part it was for ("" is all of it).
        cancelled: how many texts were let go.
        running: how many are being written.
        hold: write nothing until it is cleared.
        pause_at: write no more than so many characters of a text while this is set.
    """

    def __init__(
        self,
        texts: Callable[[str, str, int], str | ServeError] | None = None,
        *,
        max_context: int = 8192,
        version: str = "1",
    ) -> None:
        self.codec = CharCodec()
        self.texts = texts or (lambda prompt, part, attempt: answer(GOOD) if not part else "2200 W")
        self.version = version
        self.max_context = max_context
        self.asked: list[tuple[str, GenerateRequest]] = []
        self.refuse: ServeError | None = None
        self.cancelled = self.running = self.most_running = 0
        self.hold = False
        self.pause_at: int | None = None

    def info(self) -> TextModelInfo:
        return TextModelInfo(
            name="scripted",
            version=self.version,
            engine="test",
            precision="fp32",
            vocab_size=self.codec.vocab_size,
            max_context=self.max_context,
        )

    def ready(self) -> tuple[bool, str]:
        return True, ""

    def submit(self, request: GenerateRequest, sink: Sink) -> _Text:
        if self.refuse is not None:
            raise self.refuse
        if len(request.prompt_ids) + request.max_tokens > self.max_context:
            raise InvalidRequest(f"{len(request.prompt_ids)} + {request.max_tokens} > {self.max_context}")
        prompt = self.codec.decode(request.prompt_ids)
        prompt, _, begun = prompt.partition("copy:\n")
        found = PART.search(begun)
        part = found.group(1) if found else ""
        attempt = sum(1 for name, _ in self.asked if name == part and part)
        self.asked.append((part, request))
        text = self.texts(prompt, part, attempt)
        if isinstance(text, str) and request.constraint is not None:
            text = obey(request, text, begun)
        return _Text(self, request, text, sink)


class _Text:
    def __init__(self, owner: Scripted, request: GenerateRequest, text: str | ServeError, sink: Sink) -> None:
        self._owner = owner
        self._text = text
        self._sink: Sink | None = sink
        self._request = request
        self._at = 0
        owner.running += 1
        owner.most_running = max(owner.most_running, owner.running)
        self._handle: asyncio.Handle = asyncio.get_running_loop().call_soon(self._step)

    def cancel(self) -> None:
        if self._sink is not None:
            self._sink = None
            self._owner.cancelled += 1
            self._owner.running -= 1
            self._handle.cancel()

    def _step(self) -> None:
        loop = asyncio.get_running_loop()
        pause_at = self._owner.pause_at
        if self._owner.hold or (pause_at is not None and self._at >= pause_at):
            self._handle = loop.call_later(0.001, self._step)
            return
        assert self._sink is not None
        usage = Usage(prompt_tokens=len(self._request.prompt_ids), completion_tokens=self._at)
        if isinstance(self._text, ServeError):
            self._end(Failed(self._text, usage))
            return
        limit = min(len(self._text), self._request.max_tokens)
        piece = self._text[self._at : min(self._at + 7, limit)]
        if not piece:
            reason = FinishReason.STOP if limit == len(self._text) else FinishReason.LENGTH
            self._end(Finished(reason=reason, usage=usage, queue_s=0.001, first_token_s=0.002, total_s=0.01))
            return
        self._at += len(piece)
        self._sink(Chunk(piece, tuple(map(ord, piece))))
        if self._sink is not None:
            self._handle = loop.call_soon(self._step)

    def _end(self, event: Finished | Failed) -> None:
        sink, self._sink = self._sink, None
        self._owner.running -= 1
        assert sink is not None
        sink(event)


def obey(request: GenerateRequest, text: str, begun: str) -> str:
    """What a grammar would let through: an object within the schema's lengths as it is, or one string in its quotes."""
    constraint = request.constraint
    assert constraint is not None
    if constraint.kind is ConstraintKind.JSON_SCHEMA:
        json.loads(constraint.text)
        return text
    assert constraint.kind is ConstraintKind.REGEX
    opening = ' ["' if begun.endswith('"bullets":') else ' "'
    written = f'{opening}{text.replace(chr(34), "")}"'
    most = int(re.search(r"\{1,(\d+)\}", constraint.text).group(1))  # type: ignore[union-attr]
    written = f'{opening}{text.replace(chr(34), "")[:most]}"'
    assert re.fullmatch(constraint.text, written), (constraint.text, written)
    return written


def answer(text: CopyText) -> str:
    return json.dumps(
        {"headline": text.headline, "description": text.description, "bullets": list(text.bullets)},
        ensure_ascii=False,
    )


class PlainRules:
    """A number must stand in the record; "best" may not stand anywhere."""

    version = "plain"

    def open(self, request: CopyRequest) -> _PlainCheck:
        return _PlainCheck(request)


class _PlainCheck:
    def __init__(self, request: CopyRequest) -> None:
        product = request.product
        values = " ".join(str(value) for value in product.attributes.values())
        self._numbers = set(re.findall(r"[\d.]*\d", f"{product.title} {values} {product.price}"))

    def claims(self, part: str, text: str) -> list[Claim]:
        found = []
        for match in re.finditer(r"[\d.]*\d|best", text):
            told = match.group()
            source = "attributes" if told in self._numbers else None
            kind = ClaimKind.FORBIDDEN if told == "best" else ClaimKind.NUMBER
            found.append(
                Claim(
                    kind=kind,
                    text=told,
                    part=part,
                    start=match.start(),
                    end=match.end(),
                    source=source,
                    quote=told if source else "it is not in the record",
                )
            )
        return found

    def without(self, part: str, text: str, refused: Sequence[Claim]) -> str:
        if part != "description":
            return ""
        return " ".join(
            sentence
            for sentence in re.split(r"(?<=[.!])\s", text)
            if not any(claim.text in sentence for claim in refused)
        )

    def shortened(self, part: str, text: str, *, chars: int, words: int) -> str:
        while len(text) > chars or count_words(text) > words:
            text, _, _ = text.rpartition(" ")
        return text


class PlainTemplates:
    """The title, and its brand."""

    version = "plain-templates"

    def write(self, request: CopyRequest, variant: int) -> CopyText:
        product = request.product
        return CopyText(
            headline=product.title[:30],
            description=f"By {product.brand}." if product.brand else "From our shop.",
            bullets=tuple(f"{name}: {value}" for name, value in product.attributes.items())[
                : request.limits.bullets
            ],
        )
