"""``ModelStreamInfer``: any number of requests on one call, answered in their order; texts in pieces where they ask for it.

A request that fails is an answer with ``error_message``, and the stream goes on, as Triton has it. Up to ``AT_ONCE`` requests
of one stream are under way together; a caller that does not read holds the rest back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from server.errors import Code, ServeError, shown_as
from server.grpc_api.handlers import Context
from server.grpc_api.kserve.messages import asked_of, parse_infer, pb, response_of
from server.kserve.model import Answer, Asked, Inferred, ModelMeta, Models, Work
from server.kserve.tensors import bytes_array
from server.kserve.text import STREAM, TEXT_OUTPUT, TextTensors
from server.service import Ticket

log = logging.getLogger("vitrine.kserve")

AT_ONCE = 64
_FINAL = "triton_final_response"
_WANTS_FINAL = "triton_enable_empty_final_response"


async def answers(models: Models, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    """Serialized ``ModelStreamInferResponse`` messages, in the order of the requests."""
    under_way: asyncio.Queue[_Entry | None] = asyncio.Queue(AT_ONCE)
    entries: set[_Entry] = set()

    async def read() -> None:
        try:
            async for raw in requests:
                entry = _Entry()
                entries.add(entry)
                entry.begin(models, raw, context.time_remaining())
                await under_way.put(entry)
        finally:
            await under_way.put(None)

    reading = asyncio.create_task(read())
    try:
        while (entry := await under_way.get()) is not None:
            while (message := await entry.messages.get()) is not None:
                yield message
            entries.discard(entry)
        await reading  # raises what it ended with
    finally:
        reading.cancel()
        for entry in entries:
            entry.leave()


class _Entry:
    """One request of a stream: its messages, and then None."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ticket: Ticket | None = None
        self._work: Work | None = None
        self._id = ""

    def begin(self, models: Models, raw: bytes, timeout_s: float | None) -> None:
        """Ask; whatever happens, messages and a None come."""
        try:
            message = parse_infer(raw)
            self._id = message.id
            model = models.find(message.model_name, message.model_version)
            admitted = model.admit("grpc")
            if isinstance(admitted, ServeError):
                raise admitted
            self._ticket = admitted
            asked = asked_of(message, timeout_s)
            meta = model.meta()
            stream = asked.inputs.get(STREAM)
            pieces = isinstance(model, TextTensors) and stream is not None and bool(stream.any())

            def done(answer: Answer) -> None:
                self._done(meta, asked, answer, pieces)

            if pieces and isinstance(model, TextTensors):
                version = meta.version
                self._work = model.write(
                    admitted, asked, lambda text: self._piece(meta, asked, text, version), done
                )
            else:
                self._work = model.infer(admitted, asked, done)
        except Exception as error:
            self._fail(error)

    def leave(self) -> None:
        """The caller is gone."""
        if self._work is not None:
            self._work.cancel()
        if self._ticket is not None:
            self._ticket.end(Code.CANCELLED.value)

    def _piece(self, meta: ModelMeta, asked: Asked, text: str, version: str) -> None:
        part = Inferred({TEXT_OUTPUT: bytes_array([text.encode()], (1,))}, version)
        self._put(response_of(meta, asked, part))

    def _done(self, meta: ModelMeta, asked: Asked, answer: Answer, pieces: bool) -> None:
        if isinstance(answer, ServeError):
            self._fail(answer)
            return
        try:
            if not pieces:
                reply = response_of(meta, asked, answer)
                reply.parameters[_FINAL].bool_param = True
                self._put(reply)
            elif asked.parameters.get(_WANTS_FINAL) is True:
                reply = pb().ModelInferResponse(
                    model_name=meta.name, model_version=answer.version, id=asked.id
                )
                reply.parameters[_FINAL].bool_param = True
                self._put(reply)
        except Exception as error:
            self._fail(error)
            return
        self._end("ok")

    def _put(self, reply: Any) -> None:
        self.messages.put_nowait(pb().ModelStreamInferResponse(infer_response=reply).SerializeToString())

    def _fail(self, error: Exception) -> None:
        shown = shown_as(error)
        shown.__traceback__ = None
        if shown is not error:
            log.error("request failed", exc_info=error)
        reply = pb().ModelStreamInferResponse(error_message=shown.message)
        reply.infer_response.id = self._id
        self.messages.put_nowait(reply.SerializeToString())
        self._end(shown.code.value)

    def _end(self, outcome: str) -> None:
        if self._ticket is not None:
            self._ticket.end(outcome)
        self.messages.put_nowait(None)
