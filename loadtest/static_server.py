"""A server that always says the same: what the generator can reach when the server costs next to nothing.

A figure about a server is honest only if it is well under the generator's own ceiling; ``python -m loadtest
serve-static`` and a run against it find that ceiling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from loadtest.client import DEFAULT_METHOD

if TYPE_CHECKING:
    import grpc
    import grpc.aio

DEFAULT_BODY = b'{"items":[{"item_id":"sku-1","score":1.0,"rank":1}],"served_by":"model","unknown_items":0}'
_HEAD_END = b"\r\n\r\n"


class _Static(asyncio.Protocol):
    def __init__(self, answer: bytes, delay_s: float) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but ancestry

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        answers = 0
        while (end := data.find(_HEAD_END)) >= 0:
            at = data.find(b"ontent-Length: ", 0, end)
            length = int(data[at + 15 : data.find(b"\r\n", at)]) if at >= 0 else 0
            if len(data) < end + 4 + length:
                break
            answers += 1
            data = data[end + 4 + length :]
        self._data = data
        if answers and self._transport is not None:
            if self._delay_s > 0:
                asyncio.get_running_loop().call_later(
                    self._delay_s, self._transport.write, self._answer * answers
                )
            else:
                self._transport.write(self._answer * answers)


def http_answer(body: bytes, status: int = 200) -> bytes:
    """The bytes of a response with this body."""
    return (
        f"HTTP/1.1 {status} Fixed\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def serve_http(
    host: str, port: int, *, body: bytes = DEFAULT_BODY, status: int = 200, delay_s: float = 0.0
) -> asyncio.Server:
    """Start to answer every POST on ``host:port`` with the same bytes; port 0 takes a free one."""
    answer = http_answer(body, status)
    return await asyncio.get_running_loop().create_server(
        lambda: _Static(answer, delay_s), host, port, backlog=4096
    )


async def serve_grpc(host: str, port: int, *, delay_s: float = 0.0) -> grpc.aio.Server:
    """Start to answer every Recommend call with the same bytes."""
    import grpc
    import grpc.aio

    answer = b"\x0a\x07\x0a\x05sku-1\x12\x05model"  # one item, served_by "model"

    async def respond(request: bytes, context: object) -> bytes:
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        return answer

    service, _, method = DEFAULT_METHOD.strip("/").partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(respond)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if not server.add_insecure_port(f"{host}:{port}"):
        raise OSError(f"cannot listen on {host}:{port}")
    await server.start()
    return server


async def serve(protocol: str, host: str, port: int, delay_s: float) -> None:
    """Answer until cancelled."""
    if protocol == "http":
        await (await serve_http(host, port, delay_s=delay_s)).serve_forever()
    else:
        await (await serve_grpc(host, port, delay_s=delay_s)).wait_for_termination()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make the quickest event loop there is: uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
