"""Methods written for ``grpc.aio``, on our own connection: health, reflection, and any generated servicer.

``Registry`` takes what a generated ``add_..._to_server`` gives a server. Each call runs in a task; the context that its
handler sees has what ``grpc.aio.ServicerContext`` has and handlers use.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc

from server.errors import EngineFault, ServeError
from server.grpc_api import wire
from server.grpc_api.call import Call, Method, Work

log = logging.getLogger("vitrine.grpc")

_FOREVER_S = 1e9


class Registry:
    """Looks to generated code like a server, and is asked for methods by path.

    Attributes:
        methods: by path.
        keyed: whether those that are added from here on want a key.
        holds_drain: whether a server that stops waits for their calls.
    """

    def __init__(self) -> None:
        self.methods: dict[bytes, Method] = {}
        self.keyed = True
        self.holds_drain = True

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Take the methods of one service."""
        for name, handler in handlers.items():
            method = HandlerMethod(handler, keyed=self.keyed, holds_drain=self.holds_drain)
            self.methods[f"/{service}/{name}".encode()] = method

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Generated code gives its methods twice; the other form is the one that says their names."""


class HandlerMethod:
    """One method of a servicer."""

    def __init__(self, handler: Any, *, keyed: bool, holds_drain: bool) -> None:
        self.takes_stream: bool = handler.request_streaming
        self.keyed = keyed
        self.holds_drain = holds_drain
        self._streams_out: bool = handler.response_streaming
        self._parse: Callable[[bytes], Any] = handler.request_deserializer or _as_it_is
        self._write: Callable[[Any], bytes] = handler.response_serializer or _as_it_is
        kind = (
            ("stream" if self.takes_stream else "unary") + "_" + ("stream" if self._streams_out else "unary")
        )
        self._behaviour: Callable[[Any, Any], Any] = getattr(handler, kind)

    def start(self, call: Call) -> Work | None:
        """Run the handler in a task; it ends the call."""
        return _Running(asyncio.get_running_loop(), self._run(call), call)

    async def _run(self, call: Call) -> None:
        context = Context(call, self._write)
        try:
            request = (
                _requests(call, self._parse, context)
                if self.takes_stream
                else _parsed(call.body, self._parse, context)
            )
            result = self._behaviour(request, context)
            if hasattr(result, "__aiter__"):
                async for entry in result:
                    await context.write(entry)
                call.finish(context.trailing)
                return
            answer = await result
            if self._streams_out:  # it has written by itself
                call.finish(context.trailing)
            elif context.code is not grpc.StatusCode.OK:
                call.fail(context.code.value[0], context.text, context.trailing)
            else:
                call.reply(self._write(answer), context.trailing)
        except _Aborted:
            call.fail(context.code.value[0], context.text, context.trailing)
        except ServeError as error:
            call.reply_error(error)
        except Exception as error:
            log.error("call failed", exc_info=error, extra={"request_id": call.request_id})
            call.reply_error(
                EngineFault("the server failed on this call; its log says more under the request id")
            )


class Context:
    """What a handler sees of its call, as ``grpc.aio.ServicerContext`` has it.

    Attributes:
        code, text: the status that the call ends with.
        trailing: header literals that it ends with.
    """

    def __init__(self, call: Call, write: Callable[[Any], bytes]) -> None:
        self._call = call
        self._write = write
        self.code = grpc.StatusCode.OK
        self.text = ""
        self.trailing = b""

    @property
    def request_id(self) -> str:
        """The caller's, or a new one; not of grpc.aio."""
        return self._call.request_id

    def header(self, name: str) -> bytes | None:
        """What the caller sent under this name (lower case), as it was sent; not of grpc.aio."""
        return self._call.headers.get(name.encode())

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The caller's metadata."""
        return wire.metadata_of(self._call.headers)

    def time_remaining(self) -> float | None:
        """Seconds that the caller still waits; None: for ever."""
        return self._call.remaining_s()

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Send this at the end; the request id and the trace are sent anyhow."""
        self.trailing = wire.metadata_literals(pair for pair in metadata if pair[0] not in _SENT_ANYHOW)

    def set_code(self, code: grpc.StatusCode) -> None:
        """End with this status."""
        self.code = code

    def set_details(self, details: str) -> None:
        """End with this sentence."""
        self.text = details

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> None:
        """End the call now; raises."""
        self.code, self.text = code, details
        self.set_trailing_metadata(trailing_metadata)
        raise _Aborted

    async def write(self, message: Any) -> None:
        """Send one of many answers, and wait while the caller does not read."""
        call = self._call
        if call.send(self._write(message)):
            return
        waiting = asyncio.get_running_loop().create_future()
        call.on_sent = functools.partial(_wake, waiting)
        try:
            await waiting
        finally:
            call.on_sent = None

    def cancelled(self) -> bool:
        """Whether the call is over."""
        return self._call.ended

    def peer(self) -> str:
        """Where the caller is is not told."""
        return "unknown"


_SENT_ANYHOW = ("x-request-id", "traceparent")


class _Running:
    """A handler's task, which the caller's leaving and the call's own time limit both end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Any, call: Call) -> None:
        self._task = loop.create_task(running)
        self._call = call
        limit_s = call.timeout_s
        self._timer = (
            None if limit_s is None or limit_s > _FOREVER_S else loop.call_later(limit_s, self._overdue)
        )
        self._task.add_done_callback(self._over)

    def cancel(self) -> None:
        self._task.cancel()

    def _overdue(self) -> None:
        self._call.fail(grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "the deadline of the call has passed")
        self._task.cancel()

    def _over(self, task: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if task.cancelled():
            self._call.fail(grpc.StatusCode.CANCELLED.value[0], "the call was dropped")


class _Aborted(Exception):
    pass


async def _requests(call: Call, parse: Callable[[bytes], Any], context: Context) -> AsyncIterator[Any]:
    while True:
        while call.messages:
            yield _parsed(call.use(), parse, context)
            await asyncio.sleep(
                0
            )  # thousands of small messages in one packet are not a turn of everybody else's
        if call.complete:
            return
        waiting = asyncio.get_running_loop().create_future()
        call.on_message = functools.partial(_wake, waiting)
        try:
            await waiting
        finally:
            call.on_message = None


def _parsed(raw: bytes, parse: Callable[[bytes], Any], context: Context) -> Any:
    try:
        return parse(raw)
    except Exception as error:  # whatever a parser raises, it is the message that was wrong
        context.code, context.text = grpc.StatusCode.INVALID_ARGUMENT, f"the message does not parse: {error}"
        raise _Aborted from error


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _as_it_is(raw: Any) -> Any:
    return raw
