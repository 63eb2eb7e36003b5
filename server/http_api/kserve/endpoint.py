"""``POST /v2/models/NAME/infer``: a hot path, answered from the connection itself as the products' are.

The order is the promise of every endpoint: key, permit, and only then a look at the body.
"""

from __future__ import annotations

import logging

from server.errors import Code, NotReady, ServeError, Unauthenticated, shown_as
from server.http_api.exchange import Exchange
from server.http_api.kserve.messages import decode_infer, encode_inferred
from server.http_api.kserve.status import STATUS, error_json
from server.http_api.recommend import Cancellable
from server.http_api.status import retry_after
from server.keys import Keys
from server.kserve.answering import Answering
from server.kserve.model import ENDPOINT, Asked, Inferred, ModelMeta, Models, outputs_asked
from server.logs import AccessLog
from server.service import Ticket

log = logging.getLogger("vitrine.kserve")


class InferEndpoint:
    """One model; see ``recommend.Endpoint``.

    Args:
        models: all that are served.
        name: of this one.
        version: that callers ask for; empty: whichever serves.
        keys: who may call.
        access: log.
        max_body_bytes: that a compressed body may unpack to.
    """

    def __init__(
        self,
        models: Models,
        name: str,
        keys: Keys,
        access: AccessLog,
        *,
        version: str = "",
        max_body_bytes: int,
    ) -> None:
        self.path = f"/v2/models/{name}/infer".encode()
        self._models = models
        self._name = name
        self._version = version
        self._keys = keys
        self._access = access
        self._max_body_bytes = max_body_bytes

    def refuses_now(self) -> bool:
        """Whether no permit is left."""
        try:
            return self._models.find(self._name, self._version).full()
        except ServeError:
            return True

    def start(self, exchange: Exchange) -> Cancellable | None:
        """Key, permit, decode, ask; the answer is written by a callback."""
        ticket: Ticket | None = None
        try:
            if self._keys.required:
                headers = exchange.headers
                self._keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
            model = self._models.find(self._name, self._version)
            admitted = model.admit("http")
            if isinstance(admitted, ServeError):
                self._refuse(exchange, admitted)
                return None
            ticket = admitted
            asked = decode_infer(
                exchange.body,
                exchange.headers,
                most_bytes=self._max_body_bytes,
            )
            meta = model.meta()
            outputs_asked(meta, asked)  # before the engine works for nothing
            call = Answering(
                exchange,
                ticket,
                self._access,
                send=lambda answer: _reply(exchange, meta, asked, answer),
                refuse=lambda error: _reply_error(exchange, error),
            )
            call.work = model.infer(ticket, asked, call.done)
            return call
        except Exception as error:
            refused = shown_as(error)
            refused.__traceback__ = None  # or it and this frame keep each other until a garbage collection
            if ticket is not None:
                ticket.end(refused.code.value)
            if refused is not error:
                log.error("request failed", exc_info=error, extra={"request_id": exchange.request_id})
            self._refuse(exchange, refused)
            return None

    def _refuse(self, exchange: Exchange, error: ServeError) -> None:
        if isinstance(error, Unauthenticated):
            self._models.rejected(error.code.value)
        self._access.ended(ENDPOINT, error.code.value, exchange, 0.0)
        _reply_error(exchange, error)


def _reply(exchange: Exchange, meta: ModelMeta, asked: Asked, answer: Inferred) -> None:
    body, kind, lines = encode_inferred(meta, asked, answer)
    exchange.reply(200, body, lines, kind)


def _reply_error(exchange: Exchange, error: ServeError) -> None:
    if isinstance(error, NotReady):
        exchange.close_after = True  # a balancer should send the next request elsewhere
    wait = retry_after(error)
    lines = b"" if wait is None else b"retry-after: %b\r\n" % wait
    if error.code is Code.UNAUTHENTICATED:
        lines += b"www-authenticate: Bearer\r\n"
    exchange.reply(STATUS[error.code], error_json(error), lines)
