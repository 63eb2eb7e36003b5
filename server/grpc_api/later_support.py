"""``vitrine.v1.CustomerService``, whose code is loaded after the ports are ready; a call that comes before then waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from server.grpc_api.calls import Call, stream_handler, unary_handler

SUPPORT_SERVICE = "vitrine.v1.CustomerService"


class SupportCalls(Protocol):
    """``grpc_api.customer_service.CustomerService``."""

    async def answer(self, raw: bytes, call: Call) -> bytes:
        """All of it at once."""
        ...

    def answer_stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """A part at a time."""
        ...


class LaterCustomerService:
    """The calls of the service.

    Attributes:
        name: of the service.
    """

    name = SUPPORT_SERVICE

    def __init__(self, load: Callable[[], Awaitable[SupportCalls]]) -> None:
        self._load = load

    def handlers(self) -> dict[str, Any]:
        """Its methods by name, as grpc's method handlers."""
        return {"Answer": unary_handler(self.answer), "AnswerStream": stream_handler(self.answer_stream)}

    async def answer(self, raw: bytes, call: Call) -> bytes:
        """All of it at once."""
        return await (await self._load()).answer(raw, call)

    async def answer_stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """A part at a time."""
        pieces = (await self._load()).answer_stream(raw, call)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
