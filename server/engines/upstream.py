"""Texts that are written elsewhere: an OpenAI-compatible server (Vitrine, vLLM, trtllm-serve) as a ``TextGenerator``.

Until its first token a text may be asked for again, on the same server or the next, or twice at once where hedging is on;
whoever has a first token wins and the others are let go. After it nothing is retried: half of one text and half of another
are no text, and the caller has seen the first half.

Servers are asked in the order of the settings, passing over those whose breaker is open; a probe finds out when they are
back, so a server that is alone becomes ready again without a request to try it on.

Units: seconds on the monotonic clock; tokens are the other server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from server.engines.upstream_generation import UpstreamGeneration
from server.engines.upstream_server import UpstreamServer
from server.engines.upstream_wire import WireCodec, ask
from server.errors import InvalidRequest, NotReady, Overloaded, ServeError
from server.settings import Settings
from server.telemetry_interface import NullTelemetry
from server.text_domain import GenerateRequest, TextModelInfo
from server.text_generator import Sink
from server.text_telemetry import INVALID, NOT_READY, TEXTS, NullTextRecorder, TextRecorder

log = logging.getLogger("vitrine.upstream")

UNKNOWN_CONTEXT = 1 << 20  # where the server there does not say
PROBE_EVERY_S = 2.0


def open_upstream(settings: Settings, telemetry: NullTelemetry) -> UpstreamText:
    """The engine that the settings describe; nothing is asked before ``start``."""
    servers = [
        UpstreamServer(
            url,
            model=settings.text_upstream_model,
            key=settings.text_upstream_key,
            connections=2 * settings.text_max_in_flight + 4,  # a hedged text has two; probes must not wait
        )
        for url in settings.text_upstream_url
    ]
    name = settings.text_upstream_model or "upstream"
    return UpstreamText(
        servers,
        name,
        retries=settings.text_upstream_retries,
        hedge_s=settings.text_upstream_hedge_ms * 1e-3,
        max_texts=settings.text_max_in_flight,
        recorder=telemetry.text(name),
    )


class UpstreamText:
    """A ``TextGenerator`` over servers elsewhere; for the event-loop thread.

    Args:
        servers: asked in this order; all are thought to serve the same model.
        name: of the model here, until a server says its own.
        retries: how often a text without a token is asked for again.
        hedge_s: a second time where no token came within this; 0: never.
        max_texts: at once; more are refused.
        recorder: what is told of tokens.
        clock: monotonic.
        probe_every_s: how often servers that do not work are looked at.
    """

    def __init__(
        self,
        servers: Sequence[UpstreamServer],
        name: str,
        *,
        retries: int = 2,
        hedge_s: float = 0.0,
        max_texts: int = 256,
        recorder: TextRecorder | None = None,
        clock: Callable[[], float] = time.monotonic,
        probe_every_s: float = PROBE_EVERY_S,
    ) -> None:
        self.codec = WireCodec()
        self.reload_failures: dict[str, int] = {}
        self.servers = tuple(servers)
        self.retries = retries
        self.hedge_s = hedge_s
        self.clock = clock
        self.recorder = recorder or NullTextRecorder()
        self.progress_s = clock()
        self._name = name
        self._max_texts = max_texts
        self._probe_every_s = probe_every_s
        self._texts: set[UpstreamGeneration] = set()
        self._why = ""  # what looking at them has found last; empty: nothing wrong
        self._closing = False
        self._probe: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask every server once what it serves, then look again at those that do not work."""
        await self._look()
        self._probe = asyncio.create_task(self._watch(), name="probe upstream servers")

    async def close(self, drain_s: float) -> None:
        """Finish what is under way within ``drain_s``, fail the rest, close all connections."""
        self._closing = True
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        tasks = {text.task for text in self._texts}
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, drain_s))
        for text in list(self._texts):
            text.end(NotReady("the server is stopping, and this text took longer than it may wait"))
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self.servers:
            await server.close()

    def info(self) -> TextModelInfo:
        """What the first server that works serves."""
        served = next((one.served for one in self.servers if one.served and one.breaker.closed), None)
        served = served or next((one.served for one in self.servers if one.served), None)
        return TextModelInfo(
            name=served.name if served else self._name,
            version=served.version if served else "",
            engine="upstream",
            precision="unknown",
            vocab_size=self.codec.vocab_size,
            max_context=(served.max_context if served else 0) or UNKNOWN_CONTEXT,
            created_s=served.created_s if served else 0,
            counts_tokens=False,
        )

    def ready(self) -> tuple[bool, str]:
        """Whether a server works that serves the model."""
        if any(server.served and server.breaker.closed for server in self.servers):
            return True, ""
        return False, self._reason()

    def _reason(self) -> str:
        if self._why:
            return self._why
        if any(server.served for server in self.servers):  # it worked, and its breaker has opened just now
            return "the upstream server has failed several times in a row, and is asked again soon"
        return "no upstream server has been asked yet"

    def submit(self, request: GenerateRequest, sink: Sink) -> UpstreamGeneration:
        """Begin to write; see ``TextGenerator.submit``."""
        if self._closing or not any(server.served for server in self.servers):
            self.recorder.text_refused(NOT_READY)
            raise NotReady("the text engine is stopping" if self._closing else self._reason())
        if len(self._texts) >= self._max_texts:
            self.recorder.text_refused(TEXTS)
            raise Overloaded("upstream", len(self._texts), self._max_texts, 1.0)
        try:
            if not request.prompt_ids:
                raise InvalidRequest("the prompt is empty; send some text", field="prompt", limit=">= 1")
            path, _ = ask(request, "", self.info().max_context)
        except InvalidRequest:
            self.recorder.text_refused(INVALID)
            raise
        text = UpstreamGeneration(self, request, path, sink)
        self._texts.add(text)
        text.task.add_done_callback(lambda _: self._texts.discard(text))
        return text

    @property
    def last_progress_s(self) -> float:
        """When the last token came, or now when idle."""
        return self.progress_s if self._texts else self.clock()

    def choose(self, tried: Sequence[UpstreamServer]) -> UpstreamServer | None:
        """The next to ask: one that was not tried yet before one that was, in the order of the settings."""
        now_s = self.clock()
        usable = [server for server in self.servers if server.served]
        for server in sorted(usable, key=tried.count):
            if server.breaker.take(now_s):
                return server
        return None

    def all_tried(self, tried: Sequence[UpstreamServer]) -> bool:
        """Whether every server that may be asked was."""
        return all(server in tried for server in self.servers if server.served and server.breaker.closed)

    def retry_after_s(self) -> float:
        """When the first breaker lets a request through."""
        now_s = self.clock()
        return max(0.1, min((server.breaker.wait_s(now_s) for server in self.servers), default=1.0))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._probe_every_s)
            await self._look()

    async def _look(self) -> None:
        needy = [server for server in self.servers if not server.served or not server.breaker.closed]
        results = await asyncio.gather(*(server.look() for server in needy), return_exceptions=True)
        if any(not isinstance(result, BaseException) for result in results):
            self._why = ""
        for server, result in zip(needy, results, strict=True):
            if isinstance(result, BaseException):
                why = str(result) if isinstance(result, ServeError) else "the upstream server cannot be asked"
                if why != self._why:  # its address is for the log, not for callers
                    log.warning("upstream server does not work", extra={"reason": f"{server.url}: {why}"})
                self._why = why
