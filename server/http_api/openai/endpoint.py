"""``POST /v1/chat/completions`` and ``/v1/completions``: from a request to a whole answer or to a stream of events.

The order is that of every product: key (``site.py``), permit, and only then a look at the body. The status of a stream is
not sent before its first token, so whatever fails before has a status of its own; what fails later ends the stream with an
``error`` event and without ``[DONE]``. However it ends, the ``finally`` gives the permit back and records one outcome.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from server.errors import MalformedRequest, NotReady, RequestTooLarge, ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.openai.asked import deadline_s
from server.http_api.openai.errors import error_bytes
from server.http_api.openai.generations import requests, server_timing, tokens, usage
from server.http_api.openai.inbox import Inbox, SlowReader
from server.http_api.openai.jobs import Envelope, Job
from server.http_api.openai.writers import ChoiceWriter
from server.http_api.schemas import encode
from server.http_api.status import STATUS, retry_after
from server.keys import Keys
from server.logs import AccessLog
from server.request_ids import chosen_request_id, new_request_id, sane_traceparent
from server.service import Ticket
from server.telemetry_interface import OK
from server.text_domain import Chunk, Failed, Finished
from server.text_service import TextFlight, TextRequestLimits, TextService

log = logging.getLogger("vitrine.http")

CANCELLED = "cancelled"
MODEL_TIER = "model"
DONE = b"data: [DONE]\n\n"
_SSE = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class ReaderLeft(Exception):
    """The connection is gone: there is nobody to answer."""


class TextEndpoint:
    """One path, as an ASGI application."""

    def __init__(
        self,
        path: str,
        name: str,
        job: Callable[[bytes | bytearray, TextRequestLimits], Job],
        prefix: str,
        service: TextService,
        access: AccessLog,
        keys: Keys,
        *,
        max_body_bytes: int,
        buffer_chars: int,
    ) -> None:
        """Bind.

        Args:
            path: where it is.
            name: of the endpoint, for metrics.
            job: makes a job of a body.
            prefix: of answer ids.
            service: the product.
            access: log.
            keys: which tell the tenants apart; whoever comes here has been let in.
            max_body_bytes: longer bodies are refused.
            buffer_chars: how much a reader may leave unread before its text is cancelled.
        """
        self.path = path
        self.name = name
        self.job = job
        self.prefix = prefix
        self.service = service
        self.access = access
        self.keys = keys
        self.max_body_bytes = max_body_bytes
        self.buffer_chars = buffer_chars

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = _Call(self, dict(scope["headers"]), receive, send)
        admitted = self.service.admit(self.name, "http")
        if isinstance(admitted, ServeError):
            self.access.ended(self.name, admitted.code.value, call, 0.0)
            await call.refuse(admitted)
            return
        outcome, tier = CANCELLED, "none"
        try:
            await call.run(admitted)
            outcome, tier = OK, MODEL_TIER
        except ReaderLeft:
            self.service.telemetry.cancelled("text")
        except ServeError as error:
            outcome = error.code.value
            await call.fail(error)
        except Exception as error:
            log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            fault = self.service.as_serve_error(error)
            outcome = fault.code.value
            await call.fail(fault)
        finally:
            call.close()
            elapsed_s = admitted.end(outcome, tier)
            self.access.ended(self.name, outcome, call, elapsed_s)


class _Call:
    """One request on its way; ``close`` is safe at any time."""

    def __init__(
        self, endpoint: TextEndpoint, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        self._endpoint = endpoint
        self._headers = headers
        self._receive = receive
        self._send = send
        self._started = False
        self._watch: asyncio.Future[Any] | None = None
        self._flight: TextFlight | None = None
        self.request_id = chosen_request_id(headers.get(b"x-request-id"))

    async def run(self, ticket: Ticket) -> None:
        """Answer, or raise what the caller is to be told."""
        endpoint, service = self._endpoint, self._endpoint.service
        body = await self._body()
        job = endpoint.job(body, service.limits)
        asked = job.asked
        wanted_s = self._deadline_s(service.limits) if asked.deadline_s is None else asked.deadline_s
        deadline_at_s = ticket.arrived_s + service.limits.deadline_s(wanted_s)
        generator = service.generator(asked.model)
        inbox = Inbox(endpoint.buffer_chars if asked.stream else 1 << 62)
        self._watch = asyncio.ensure_future(self._until_left())
        self._watch.add_done_callback(lambda _: inbox.leave())
        prompts, codec = await tokens(job, generator)
        if inbox.left:
            raise ReaderLeft
        caller = endpoint.keys.caller(self._headers.get(b"authorization"), self._headers.get(b"x-api-key"))
        texts = requests(job, prompts, generator, ticket.arrived_s, deadline_at_s, caller)
        writers = [job.writer(index, codec) for index in range(len(texts))]
        self._flight = service.generate(generator, texts, deadline_at_s, self._into(inbox))
        info = generator.info()
        envelope = Envelope(
            f"{endpoint.prefix}-{new_request_id()}",
            int(time.time()),
            info.name,
            f"{info.name}:{info.version}:{info.engine}:{info.precision}",
        )
        if asked.stream:
            await self._stream(job, envelope, writers, inbox)
        else:
            await self._whole(job, envelope, writers, inbox)

    async def refuse(self, error: ServeError) -> None:
        """Answer with an error and its status."""
        headers = [(b"content-type", b"application/json")]
        wait = retry_after(error)
        if wait is not None:
            headers.append((b"retry-after", wait))
        if isinstance(error, NotReady):
            headers.append((b"connection", b"close"))
        await self._reply(STATUS[error.code], error_bytes(error, self.request_id), headers)

    async def fail(self, error: ServeError) -> None:
        """Answer with an error, or end the stream with one."""
        self.close()
        if self._started:
            event = b"event: error\ndata: %b\n\n" % error_bytes(error, self.request_id)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            await self.refuse(error)

    def close(self) -> None:
        """Let everything go that is still on its way."""
        if self._flight is not None:
            self._flight.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def _whole(
        self, job: Job, envelope: Envelope, writers: Sequence[ChoiceWriter], inbox: Inbox
    ) -> None:
        ends: dict[int, Finished] = {}
        while len(ends) < len(writers):
            for index, event in await self._events(inbox):
                if isinstance(event, Chunk):
                    writers[index].feed(event)
                elif isinstance(event, Finished):
                    writers[index].finish(event.reason)
                    ends[index] = event
        answer = job.answer(envelope, [writer.whole() for writer in writers], usage(ends, job.asked.n))
        timing = server_timing(list(ends.values()))
        headers = [(b"content-type", b"application/json"), (b"server-timing", timing)]
        await self._reply(200, encode(answer), headers)

    async def _stream(
        self, job: Job, envelope: Envelope, writers: Sequence[ChoiceWriter], inbox: Inbox
    ) -> None:
        ends: dict[int, Finished] = {}
        while len(ends) < len(writers):
            out: list[bytes] = []
            failure: ServeError | None = None
            try:
                for index, event in await self._events(inbox, out):
                    if isinstance(event, Chunk):
                        pieces = writers[index].feed(event)
                    elif isinstance(event, Finished):
                        ends[index] = event
                        pieces = writers[index].finish(event.reason)
                    else:
                        failure = event.error
                        break
                    out += [_sse(encode(job.piece(envelope, [piece], None))) for piece in pieces]
            except ServeError as error:
                failure = error
            if failure is not None:
                if out and self._started:
                    await self._write(b"".join(out))
                raise failure
            if len(ends) == len(writers):
                if job.asked.include_usage:
                    out.append(_sse(encode(job.piece(envelope, [], usage(ends, job.asked.n)))))
                out.append(DONE)
            if out:
                await self._write(b"".join(out))
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, inbox: Inbox, out: list[bytes] | None = None) -> Sequence[tuple[int, Any]]:
        events = await inbox.take()
        if inbox.left:
            raise ReaderLeft
        if inbox.overflowed:
            raise SlowReader
        if out is None:
            for _, event in events:
                if isinstance(event, Failed):
                    raise event.error
        return events

    async def _write(self, data: bytes) -> None:
        if not self._started:
            self._started = True
            headers = [*_SSE, *self._own_headers()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _reply(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        headers = [*headers, (b"content-length", b"%d" % len(body)), *self._own_headers()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", self.request_id.encode())]
        trace = self._headers.get(b"traceparent")
        if trace is not None and sane_traceparent(trace):
            headers.append((b"traceparent", trace))
        return headers

    def _into(self, inbox: Inbox) -> Callable[[int, Any], None]:
        def told(index: int, event: Any) -> None:
            if not inbox.put(index, event) and self._flight is not None:
                self._flight.cancel()

        return told

    async def _body(self) -> bytearray:
        body = bytearray()
        most = self._endpoint.max_body_bytes
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ReaderLeft
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                raise RequestTooLarge(len(body), most)
        return body

    async def _until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _deadline_s(self, limits: TextRequestLimits) -> float | None:
        given = self._headers.get(b"x-deadline-ms")
        if given is None:
            return None
        try:
            value = float(given)
        except ValueError:
            raise MalformedRequest(
                f"x-deadline-ms is {given[:40].decode('latin-1')!r}; give milliseconds",
                field="x-deadline-ms",
                limit="a number",
            ) from None
        return deadline_s(value, limits)


def _sse(data: bytes) -> bytes:
    return b"data: %b\n\n" % data
