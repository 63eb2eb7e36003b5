"""``POST /v1/embeddings``: from a request to its vectors, as OpenAI's clients read them.

The order is that of every product: key (``site.py``), permit, and only then a look at the body. However it ends, the
``finally`` gives the permit back and records one outcome.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from server.embedding_service import EmbeddingService
from server.errors import ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.openai.embedding_shapes import decode_embeddings, embeddings_out
from server.http_api.product_copy.calls import JSON, HttpCall, ReaderLeft
from server.http_api.schemas import encode
from server.logs import AccessLog
from server.service import NO_TIER, Ticket
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.http")

CANCELLED = "cancelled"
MODEL_TIER = "model"
PATH = "/v1/embeddings"


class EmbeddingsEndpoint:
    """The path, as an ASGI application."""

    paths = ((PATH, ("POST",)),)
    name = "embeddings"

    def __init__(self, service: EmbeddingService, access: AccessLog, *, max_body_bytes: int) -> None:
        self._service = service
        self._access = access
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        service = self._service
        call = HttpCall(scope, receive, send)
        admitted = service.admit(self.name, "http")
        if isinstance(admitted, ServeError):
            self._access.ended(self.name, admitted.code.value, call, 0.0)
            await call.fail(admitted)
            return
        outcome, tier = CANCELLED, NO_TIER
        try:
            await self._run(call, admitted)
            outcome, tier = OK, MODEL_TIER
        except ReaderLeft:
            pass  # the batcher has counted it, with the stage
        except ServeError as error:
            outcome = error.code.value
            await call.fail(error)
        except Exception as error:
            log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            fault = service.as_serve_error(error)
            outcome = fault.code.value
            await call.fail(fault)
        finally:
            self._access.ended(self.name, outcome, call, admitted.end(outcome, tier))

    async def _run(self, call: HttpCall, ticket: Ticket) -> None:
        service = self._service
        asked = decode_embeddings(await call.body(self._max_body_bytes))
        deadline_s = call.deadline_s() if asked.deadline_s is None else asked.deadline_s
        async with call.watched():
            encoded = await service.embed(
                ticket,
                asked.request,
                model=asked.model,
                dimensions=asked.dimensions,
                deadline_s=deadline_s,
            )
        body = encode(embeddings_out(encoded, asked.encoding, service.encoder.name))
        total_s = service.clock() - ticket.arrived_s
        timing = b"queue;dur=%.3f, engine;dur=%.3f, total;dur=%.3f" % (
            encoded.queue_s * 1e3,
            encoded.engine_s * 1e3,
            total_s * 1e3,
        )
        await call.reply(200, body, JSON, (b"server-timing", timing))
