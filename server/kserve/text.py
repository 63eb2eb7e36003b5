"""Text models by tensors, as Triton's own text backends are asked: ``text_input`` and ``sampling_parameters`` to ``text_output``.

The model has no batch dimension: one prompt a request, as those backends have it. ``stream`` gives pieces, on the call that
can carry several answers; else the whole text is one answer. It is ``/v1/completions`` under another wire: the same engine,
permits and limits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec

from server.errors import InvalidRequest
from server.kserve.model import (
    MODEL_TIER,
    Asked,
    Done,
    Inferred,
    ModelMeta,
    TensorMeta,
    take_inputs,
)
from server.kserve.product import OfProduct
from server.kserve.statistics import ModelStatistics
from server.kserve.tensors import bytes_array, texts
from server.service import Ticket
from server.telemetry_interface import OK
from server.text_domain import Chunk, Failed, Finished, GenerateRequest, SamplingParams, TextEvent
from server.text_service import TextFlight, TextService

TEXT_INPUT, STREAM, SAMPLING, TEXT_OUTPUT = "text_input", "stream", "sampling_parameters", "text_output"
DEFAULT_TOKENS = 128
MAX_STOPS = 16


class _Sampling(msgspec.Struct, forbid_unknown_fields=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = DEFAULT_TOKENS
    temperature: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    seed: int | None = None
    stop: Annotated[list[str], msgspec.Meta(max_length=MAX_STOPS)] = []


class TextTensors(OfProduct[TextService]):
    """A ``ServedModel``.

    Args:
        service: the product.
        name: of the model.
        look: takes up a new version, if there is one.
    """

    def __init__(self, service: TextService, name: str, look: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(service, look)
        self.name = name

    def meta(self) -> ModelMeta:
        """What it is now."""
        info = self._service.generator(self.name).info()
        return ModelMeta(
            name=self.name,
            version=info.version,
            platform=info.engine,
            inputs=(
                TensorMeta(TEXT_INPUT, "BYTES", (1,)),
                TensorMeta(STREAM, "BOOL", (1,), optional=True),
                TensorMeta(SAMPLING, "BYTES", (1,), optional=True),
            ),
            outputs=(TensorMeta(TEXT_OUTPUT, "BYTES", (-1,)),),
            max_batch=0,
        )

    def ready(self) -> tuple[bool, str]:
        """As the product."""
        return self._service.generator(self.name).ready()

    def infer(self, ticket: Ticket, asked: Asked, done: Done) -> _Writing:
        """See ``ServedModel.infer``."""
        if STREAM in asked.inputs and bool(asked.inputs[STREAM].any()):
            raise InvalidRequest(
                "input 'stream' is true, and this call carries one answer; use ModelStreamInfer, or leave it out",
                field=f"inputs.{STREAM}",
                limit="false",
            )
        return self.write(ticket, asked, None, done)

    def write(
        self, ticket: Ticket, asked: Asked, piece: Callable[[str], None] | None, done: Done
    ) -> _Writing:
        """As ``infer``; with ``piece``, parts of the text are told as they come, and the answer holds none of it.

        Raises:
            ServeError: as ``ServedModel.infer``.
        """
        take_inputs(self.meta(), asked)
        generator = self._service.generator(self.name)
        sampling = _sampling(asked)
        (prompt,) = texts(TEXT_INPUT, asked.inputs[TEXT_INPUT])
        deadline_at_s = ticket.arrived_s + self._service.limits.deadline_s(asked.deadline_s)
        request = GenerateRequest(
            prompt_ids=tuple(generator.codec.encode(prompt)),
            max_tokens=sampling.max_tokens,
            sampling=SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=sampling.seed,
            ),
            stop=tuple(sampling.stop),
            deadline_at_s=deadline_at_s,
            arrived_at_s=ticket.arrived_s,
        )
        writing = _Writing(ticket, self.statistics, generator.info().version, piece, done)
        writing.flight = self._service.generate(generator, [request], deadline_at_s, writing.told)
        return writing


class _Writing:
    def __init__(
        self,
        ticket: Ticket,
        statistics: ModelStatistics,
        version: str,
        piece: Callable[[str], None] | None,
        done: Done,
    ) -> None:
        self._ticket = ticket
        self._statistics = statistics
        self._version = version
        self._piece = piece
        self._done = done
        self._text: list[str] = []
        self.flight: TextFlight | None = None

    def cancel(self) -> None:
        if self.flight is not None:
            self.flight.cancel()

    def told(self, index: int, event: TextEvent) -> None:
        if isinstance(event, Chunk):
            if self._piece is None:
                self._text.append(event.text)
            elif event.text:
                self._piece(event.text)
        elif isinstance(event, Failed):
            self._statistics.failed(self._ticket.end(event.error.code.value))
            self._done(event.error)
        elif isinstance(event, Finished):
            elapsed_s = self._ticket.end(OK, MODEL_TIER)
            self._statistics.answered(
                elapsed_s,
                rows=1,
                executions=float(event.usage.completion_tokens),
                queue_s=event.queue_s,
                input_s=0.0,
                infer_s=max(0.0, event.total_s - event.queue_s),
                output_s=0.0,
            )
            text = "".join(self._text).encode()
            entries = [text] if self._piece is None else []
            self._done(Inferred({TEXT_OUTPUT: bytes_array(entries, (len(entries),))}, self._version))


def _sampling(asked: Asked) -> _Sampling:
    given = asked.inputs.get(SAMPLING)
    if given is None:
        return _Sampling()
    try:
        return msgspec.json.decode(given.ravel()[0], type=_Sampling)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"input 'sampling_parameters' is no JSON object of max_tokens, temperature, top_p, top_k, seed, stop: {error}",
            field=f"inputs.{SAMPLING}",
        ) from error
