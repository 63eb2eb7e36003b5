"""What a call carries besides its message, whatever transport it came by; and how it looks as a grpc.aio handler's.

Handlers of this shape know no transport: bytes and a ``Call`` in, bytes out, ``ServeError`` for a refusal.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc

from server.errors import EngineFault, ServeError
from server.grpc_api.status import DETAILS_KEY, STATUS, error_details

log = logging.getLogger("vitrine.grpc")

_FOREVER_S = 1e8  # time_remaining of a call without a deadline is far above this
_PRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class Call(Protocol):
    """One call.

    Attributes:
        request_id: the caller's, or a new one.
    """

    request_id: str

    def metadata(self, key: str) -> bytes | None:
        """A value that the caller sent; of a repeated key the last."""
        ...

    def remaining_s(self) -> float | None:
        """Seconds until the call's own deadline; None without one."""
        ...

    def trail(self, key: str, value: str) -> None:
        """Say something after the answer."""
        ...


Unary = Callable[[bytes, Call], Awaitable[bytes]]
Stream = Callable[[bytes, Call], AsyncIterator[bytes]]


def unary_handler(method: Unary) -> Any:
    """A method for a generic handler of grpc.aio."""

    async def answer(raw: bytes, context: Any) -> bytes:
        call = AioCall(context)
        try:
            reply = await method(raw, call)
        except Exception as error:
            await call.abort(error)
            raise AssertionError("abort raises") from error
        call.flush()
        return reply

    return grpc.unary_unary_rpc_method_handler(answer)


def stream_handler(method: Stream) -> Any:
    """A method that answers in pieces, for a generic handler of grpc.aio."""

    async def answer(raw: bytes, context: Any) -> AsyncIterator[bytes]:
        call = AioCall(context)
        pieces = method(raw, call)
        try:
            async for piece in pieces:
                yield piece
        except Exception as error:
            await call.abort(error)
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
        call.flush()

    return grpc.unary_stream_rpc_method_handler(answer)


class AioCall:
    """A ``Call`` over the context of ``grpc_api.handlers``, which sends the request id and the trace by itself."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._metadata: dict[str, bytes] = {}
        for key, value in context.invocation_metadata() or ():
            self._metadata[key] = value.encode("latin-1", "replace") if isinstance(value, str) else value
        self.request_id: str = context.request_id
        self._trailing: list[tuple[str, str | bytes]] = []

    def metadata(self, key: str) -> bytes | None:
        """A value that the caller sent."""
        return self._metadata.get(key)

    def remaining_s(self) -> float | None:
        """Seconds until the call's own deadline."""
        left_s: float | None = self._context.time_remaining()
        return None if left_s is None or left_s > _FOREVER_S else left_s

    def trail(self, key: str, value: str) -> None:
        """Say something after the answer."""
        self._trailing.append((key, value))

    def flush(self) -> None:
        """Hand over what is said after the answer."""
        self._context.set_trailing_metadata(tuple(self._trailing))

    async def abort(self, error: Exception) -> None:
        """End the call with an error; raises."""
        if not isinstance(error, ServeError):
            log.error("request failed", exc_info=error, extra={"request_id": self.request_id})
            error = EngineFault("the server failed on this request; its log says more under the request id")
        details = (DETAILS_KEY, error_details(error, self.request_id))
        message = _PRINTABLE.sub("?", error.message)
        await self._context.abort(STATUS[error.code], message, (*self._trailing, details))
