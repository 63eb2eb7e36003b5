"""A text generator that obeys the contract and is told what to do: tokens are bytes, and its text encodes its prompt."""

from __future__ import annotations

import asyncio
import codecs
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.errors import InvalidRequest, NotReady, ServeError
from server.text_domain import (
    Chunk,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    TextModelInfo,
    TokenLogprob,
    Usage,
)
from server.text_generator import Message, Sink

EOS, BEGIN, END = 256, 257, 258
VOCAB = 259
CONTEXT = 4096


class ByteDecoder:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(bytes((token_id,))) if token_id < 256 else ""

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class ByteCodec:
    """Bytes as tokens; a conversation is ``BEGIN role newline content END`` for each message, then ``BEGIN``."""

    vocab_size = VOCAB
    eos_ids = frozenset({EOS})
    longest_token_bytes = 1

    def __init__(self) -> None:
        self.template_error: ServeError | None = None
        self.shows_tools = True
        self.tool_words = b"write <tool_call>\n...\n</tool_call>"

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        if self.template_error is not None:
            raise self.template_error
        out: list[int] = []
        if tools and self.shows_tools:
            out = [BEGIN, *self.tool_words, *json.dumps(list(tools)).encode(), END]
        for message in messages:
            content = json.dumps(message["tool_calls"]) if message.get("tool_calls") else message["content"]
            out += [BEGIN, *f"{message['role']}\n{content}".encode(), END]
        return [*out, BEGIN]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        names = {EOS: "<eos>", BEGIN: "<begin>", END: "<end>"}
        parts: list[bytes] = [
            bytes((token,)) if token < 256 else (b"" if skip_special_tokens else names[token].encode())
            for token in token_ids
        ]
        return b"".join(parts).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes((token_id,)) if token_id < 256 else b""

    def stream(self) -> ByteDecoder:
        return ByteDecoder()


def echo(request: GenerateRequest) -> str:
    """The newest message, or the whole prompt, said again."""
    ids = list(request.prompt_ids)
    if ids and ids[-1] == BEGIN:
        ends = [at for at, token in enumerate(ids) if token == BEGIN]
        content = ByteCodec().decode(ids[ends[-2] + 1 : -1])
        return "echo: " + content.partition("\n")[2]
    return "echo: " + ByteCodec().decode(ids)


class FakeGeneration:
    """One text on its way, a byte a turn of the loop."""

    def __init__(self, owner: FakeText, request: GenerateRequest, sink: Sink) -> None:
        self._owner, self._request, self._sink = owner, request, sink
        self._began_s = time.monotonic()
        self._decoder = ByteDecoder()
        self._sent = 0
        self._done = 0
        text = owner.script(request)
        self._stop: str | None = None
        for stop in request.stop:
            if stop in text:
                text, self._stop = text[: text.index(stop)], stop
        self._tokens = list(text.encode())
        self._own: tuple[int | None, ServeError | None, int] | None = None
        self._handle: asyncio.Handle | None = asyncio.get_running_loop().call_soon(self._step)
        owner.live.add(self)

    def own(self, hold_after: int | None, fault: ServeError | None, fault_after: int) -> None:
        """Do this, whatever the others are told."""
        self._own = (hold_after, fault, fault_after)

    def cancel(self) -> None:
        if self in self._owner.live:
            self._owner.cancelled += 1
            self._leave()

    def wake(self) -> None:
        if self._handle is None and self in self._owner.live:
            self._handle = asyncio.get_running_loop().call_soon(self._step)

    def fail(self, error: ServeError) -> None:
        if self in self._owner.live:
            self._leave()
            self._sink(Failed(error, self._usage()))

    def _leave(self) -> None:
        self._owner.live.discard(self)
        if self._handle is not None:
            self._handle.cancel()

    def _step(self) -> None:
        self._handle = None
        owner, request = self._owner, self._request
        hold_after, fault, fault_after = self._own or (owner.hold_after, owner.fault, owner.fault_after)
        if hold_after is not None and self._done >= hold_after:
            owner.held.set()
            return
        if fault is not None and self._done >= fault_after:
            self.fail(fault)
            return
        most = min(request.max_tokens, len(self._tokens))
        for _ in range(owner.tokens_a_turn):
            if self._done == most:
                break
            self._tell(self._tokens[self._done])
        if self._done == most:
            self._finish(FinishReason.LENGTH if most < len(self._tokens) else FinishReason.STOP)
        else:
            self._handle = asyncio.get_running_loop().call_soon(self._step)

    def _tell(self, token: int) -> None:
        self._done += 1
        top = self._request.sampling.top_logprobs
        told: tuple[TokenLogprob, ...] = ()
        if top is not None:
            others = tuple(((token + i) % 256, -0.25 * (i + 1)) for i in range(top))
            told = (TokenLogprob(token, -0.25, others),)
        self._sink(Chunk(self._decoder.push(token), (token,), told))

    def _finish(self, reason: FinishReason) -> None:
        self._leave()
        rest = self._decoder.flush()
        if rest:
            self._sink(Chunk(rest, ()))
        took_s = time.monotonic() - self._began_s
        self._sink(
            Finished(
                reason=reason,
                usage=self._usage(),
                queue_s=0.001,
                first_token_s=0.002,
                total_s=took_s,
                stop=self._stop,
            )
        )

    def _usage(self) -> Usage:
        seen = self._owner.cached.get(self._request.prompt_ids, 0)
        return Usage(
            prompt_tokens=len(self._request.prompt_ids), completion_tokens=self._done, cached_tokens=seen
        )


class FakeText:
    """Writes ``script(request)``.

    Attributes:
        script: text of a request.
        hold_after: tokens after which every text stops until ``go_on``; None: never.
        held: set when a text has stopped so.
        fault, fault_after: what texts fail with, and after how many tokens.
        refusal: raised by ``submit``.
        live: texts on their way.
        cancelled: how many were cancelled.
        seen: all requests.
        cached: cached tokens by prompt.
        tokens_a_turn: pace.
        hangs: whether closing ends no text.
    """

    def __init__(self) -> None:
        self.codec = ByteCodec()
        self.script: Callable[[GenerateRequest], str] = echo
        self.hold_after: int | None = None
        self.held = asyncio.Event()
        self.fault: ServeError | None = None
        self.fault_after = 0
        self.refusal: ServeError | None = None
        self.live: set[FakeGeneration] = set()
        self.cancelled = 0
        self.seen: list[GenerateRequest] = []
        self.cached: dict[tuple[int, ...], int] = {}
        self.tokens_a_turn = 1
        self.closed = False
        self.hangs = False
        self.why = ""
        self.reload_failures = {"unreadable": 0, "refused": 0}

    def info(self) -> TextModelInfo:
        return TextModelInfo(
            name="writer",
            version="7",
            engine="bytes",
            precision="fp32",
            vocab_size=VOCAB,
            max_context=CONTEXT,
            created_s=1_700_000_000,
        )

    def submit(self, request: GenerateRequest, sink: Sink) -> FakeGeneration:
        if self.refusal is not None:
            raise self.refusal
        if self.closed:
            raise NotReady("the text engine is draining")
        if not request.prompt_ids:
            raise InvalidRequest("the prompt is empty", field="prompt")
        self.seen.append(request)
        return FakeGeneration(self, request, sink)

    def go_on(self) -> None:
        """Let held texts go on."""
        self.hold_after = None
        for generation in list(self.live):
            generation.wake()

    def ready(self) -> tuple[bool, str]:
        return not self.why, self.why

    async def start(self) -> None:
        pass

    async def close(self, drain_s: float) -> None:
        self.closed = True
        if self.hangs:
            return
        for generation in list(self.live):
            generation.fail(NotReady("the text engine has stopped"))

    @property
    def last_progress_s(self) -> float:
        return time.monotonic()
