"""What a call carries besides its message, whatever transport it came by; and how it becomes a handler.

Handlers of this shape know no transport: bytes and a ``Call`` in, bytes out, ``ServeError`` for a refusal.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc

from server.grpc_api.handlers import Context


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
    """A method of ``grpc_api.handlers``, which shows what it raises."""

    async def answer(raw: bytes, context: Context) -> bytes:
        call = _ContextCall(context)
        reply = await method(raw, call)
        call.flush()
        return reply

    return grpc.unary_unary_rpc_method_handler(answer)


def stream_handler(method: Stream) -> Any:
    """A method that answers in pieces."""

    async def answer(raw: bytes, context: Context) -> AsyncIterator[bytes]:
        call = _ContextCall(context)
        async with contextlib.aclosing(method(raw, call)) as pieces:  # type: ignore[type-var]  # generators all
            async for piece in pieces:
                yield piece
        call.flush()

    return grpc.unary_stream_rpc_method_handler(answer)


class _ContextCall:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.request_id = context.request_id
        self._trailing: list[tuple[str, str | bytes]] = []

    def metadata(self, key: str) -> bytes | None:
        return self._context.header(key)

    def remaining_s(self) -> float | None:
        return self._context.time_remaining()

    def trail(self, key: str, value: str) -> None:
        self._trailing.append((key, value))

    def flush(self) -> None:
        self._context.set_trailing_metadata(self._trailing)
