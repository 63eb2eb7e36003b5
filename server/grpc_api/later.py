"""A service whose code is loaded after the ports are ready; a call that comes before then waits for it.

Importing product copy takes a good part of what opening a recommender does, and most servers are asked for it later or never.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from server.grpc_api.calls import Call, stream_handler, unary_handler

COPY_SERVICE = "vitrine.v1.ProductCopy"


class CopyCalls(Protocol):
    """``grpc_api.product_copy.ProductCopy``."""

    async def write(self, raw: bytes, call: Call) -> bytes:
        """All of it at once."""
        ...

    def write_stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """A part at a time."""
        ...


class LaterProductCopy:
    """The calls of the service.

    Attributes:
        name: of the service.
    """

    name = COPY_SERVICE

    def __init__(self, load: Callable[[], Awaitable[CopyCalls]]) -> None:
        self._load = load

    def handlers(self) -> dict[str, Any]:
        """Its methods by name, as grpc's method handlers."""
        return {"Write": unary_handler(self.write), "WriteStream": stream_handler(self.write_stream)}

    async def write(self, raw: bytes, call: Call) -> bytes:
        """All of it at once."""
        return await (await self._load()).write(raw, call)

    async def write_stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """A part at a time."""
        pieces = (await self._load()).write_stream(raw, call)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
