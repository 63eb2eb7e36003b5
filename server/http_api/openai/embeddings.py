"""``POST /v1/embeddings``: from a request to its vectors, as OpenAI's clients read them.

It is answered like a recommendation, from the connection itself: an application around it cost as much of the event loop as
all the rest of a short question. The order is that of every product: key, permit, and only then a look at the body. However
it ends, the ``finally`` gives the permit back and records one outcome.
"""

from __future__ import annotations

import asyncio
import logging

from server.embedding_service import EmbeddingService
from server.encoder_domain import Encoded
from server.errors import Code, MalformedRequest, NotReady, ServeError, Unauthenticated
from server.http_api.exchange import Exchange
from server.http_api.openai.embedding_shapes import decode_embeddings, embeddings_out
from server.http_api.openai.errors import error_bytes
from server.http_api.recommend import Cancellable
from server.http_api.schemas import encode
from server.http_api.status import STATUS, retry_after
from server.keys import Keys
from server.logs import AccessLog
from server.service import NO_TIER, Ticket
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.http")

MODEL_TIER = "model"


class _Leaver:
    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class EmbeddingsEndpoint:
    """A hot endpoint, see ``recommend.Endpoint``."""

    path = b"/v1/embeddings"
    name = "embeddings"

    def __init__(self, service: EmbeddingService, keys: Keys, access: AccessLog) -> None:
        self._service = service
        self._keys = keys
        self._access = access

    def refuses_now(self) -> bool:
        """Whether no permit is left."""
        admission = self._service.admission
        return admission.in_flight >= admission.open

    def start(self, exchange: Exchange) -> Cancellable | None:
        """Key, permit, and then a task that answers."""
        service = self._service
        try:
            if self._keys.required:
                headers = exchange.headers
                self._keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
        except Unauthenticated as error:
            service.telemetry.rejected(error.code.value)
            self._refuse(exchange, error)
            return None
        except ServeError as error:
            self._refuse(exchange, error)
            return None
        admitted = service.admit(self.name, "http")
        if isinstance(admitted, ServeError):
            self._refuse(exchange, admitted)
            return None
        task = asyncio.get_running_loop().create_task(self._answer(exchange, admitted))
        # Cancelled before it began, it never comes to its ``finally``; ending twice changes nothing.
        task.add_done_callback(lambda _: admitted.end(Code.CANCELLED.value))
        return _Leaver(task)

    def _refuse(self, exchange: Exchange, error: ServeError) -> None:
        self._access.ended(self.name, error.code.value, exchange, 0.0)
        _reply_error(exchange, error)

    async def _answer(self, exchange: Exchange, ticket: Ticket) -> None:
        outcome, tier = Code.CANCELLED.value, NO_TIER  # where nobody is left to be told
        try:
            body, timing = await self._run(exchange, ticket)
            exchange.reply(200, body, timing)
            outcome, tier = OK, MODEL_TIER
        except Exception as error:
            fault = self._service.as_serve_error(error)
            if fault is not error:
                log.error("request failed", exc_info=error, extra={"request_id": exchange.request_id})
            fault.__traceback__ = None  # or it and this frame keep each other until a garbage collection
            outcome = fault.code.value
            _reply_error(exchange, fault)
        finally:
            self._access.ended(self.name, outcome, exchange, ticket.end(outcome, tier))

    async def _run(self, exchange: Exchange, ticket: Ticket) -> tuple[bytes, bytes]:
        service = self._service
        asked = decode_embeddings(exchange.body)
        encoded = await service.embed(
            ticket,
            asked.request,
            model=asked.model,
            dimensions=asked.dimensions,
            deadline_s=_header_deadline_s(exchange) if asked.deadline_s is None else asked.deadline_s,
        )
        body = encode(embeddings_out(encoded, asked.encoding, service.encoder.name))
        return body, _server_timing(encoded, service.clock() - ticket.arrived_s)


def _reply_error(exchange: Exchange, error: ServeError) -> None:
    if isinstance(error, NotReady):
        exchange.close_after = True  # a balancer should send the next request elsewhere
    status = STATUS[error.code]
    wait = retry_after(error)
    extra = b"" if wait is None else b"retry-after: %b\r\n" % wait
    if status == 401:
        extra += b"www-authenticate: Bearer\r\n"
    exchange.reply(status, error_bytes(error, exchange.request_id), extra)


def _header_deadline_s(exchange: Exchange) -> float | None:
    given = exchange.headers.get(b"x-deadline-ms")
    if given is None:
        return None
    try:
        return float(given) * 1e-3
    except ValueError:
        raise MalformedRequest(
            f"x-deadline-ms is {given[:40].decode('latin-1')!r}; give milliseconds",
            field="x-deadline-ms",
            limit="a number",
        ) from None


def _server_timing(encoded: Encoded, total_s: float) -> bytes:
    return b"server-timing: queue;dur=%.3f, engine;dur=%.3f, total;dur=%.3f\r\n" % (
        encoded.queue_s * 1e3,
        encoded.engine_s * 1e3,
        total_s * 1e3,
    )
