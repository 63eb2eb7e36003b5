"""The sentence encoder by its tensors: ``input_ids[B,T]`` with ``lengths[B,1]``, or ``text[B,1]``, to ``embedding[B,D]``.

Where the version has an intent head there is ``logits[B,C]`` too, whose columns have the intents' names in classification.
Vectors are what ``/v1/embeddings`` gives, by the same batches and limits.

Suffixes: B rows, T tokens, D width, C intents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from server.embedding_service import EmbeddingService
from server.encoder_domain import EncodeRequest
from server.errors import InvalidRequest
from server.kserve.model import Asked, Inferred, ModelMeta, TensorMeta, take_inputs
from server.kserve.model import Done as Done
from server.kserve.product import OfProduct
from server.kserve.recommender import PLATFORM
from server.kserve.tasks import TaskWork
from server.kserve.tensors import texts
from server.service import Ticket

INPUT_IDS, LENGTHS, TEXT = "input_ids", "lengths", "text"
EMBEDDING, LOGITS = "embedding", "logits"


class EncoderTensors(OfProduct[EmbeddingService]):
    """A ``ServedModel``.

    Args:
        service: the product.
        look: takes up a new version, if there is one.
    """

    def __init__(self, service: EmbeddingService, look: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(service, look)
        self.name = service.encoder.name

    def meta(self) -> ModelMeta:
        """What it is now; of an encoder that is still being loaded, without sizes."""
        info = self._service.encoder.info()
        outputs = [TensorMeta(EMBEDDING, "FP32", (-1, info.dim or -1))]
        if info.labels:
            outputs.append(TensorMeta(LOGITS, "FP32", (-1, len(info.labels))))
        return ModelMeta(
            name=self.name,
            version=info.version,
            platform=PLATFORM.get(info.engine or "onnxruntime", info.engine),
            inputs=(
                TensorMeta(INPUT_IDS, "INT64", (-1, -1), optional=True),
                TensorMeta(LENGTHS, "INT64", (-1, 1), optional=True),
                TensorMeta(TEXT, "BYTES", (-1, 1), optional=True),
            ),
            outputs=tuple(outputs),
            max_batch=self._service.limits.max_inputs,
            labels={LOGITS: info.labels},
        )

    def ready(self) -> tuple[bool, str]:
        """As the product."""
        return self._service.encoder.ready()

    def infer(self, ticket: Ticket, asked: Asked, done: Done) -> TaskWork:
        """See ``ServedModel.infer``."""
        meta = self.meta()
        take_inputs(meta, asked)
        request = _request(asked)
        return TaskWork(self._encode(ticket, request, asked), ticket, self.statistics, done)

    async def _encode(self, ticket: Ticket, request: EncodeRequest, asked: Asked) -> Inferred:
        service = self._service
        encoded = await service.embed(ticket, request, deadline_s=asked.deadline_s)
        outputs = {EMBEDDING: encoded.vectors_ND}
        if encoded.logits_NC is not None:
            outputs[LOGITS] = encoded.logits_NC
        elapsed_s = service.clock() - ticket.arrived_s
        self.statistics.answered(
            elapsed_s,
            rows=len(encoded.vectors_ND),
            executions=1.0,
            queue_s=encoded.queue_s,
            input_s=0.0,
            infer_s=encoded.engine_s,
            output_s=max(0.0, elapsed_s - encoded.queue_s - encoded.engine_s),
        )
        return Inferred(outputs, service.encoder.info().version)


def _request(asked: Asked) -> EncodeRequest:
    given = asked.inputs
    if (TEXT in given) == (INPUT_IDS in given) or (INPUT_IDS in given) != (LENGTHS in given):
        raise InvalidRequest(
            f"the inputs are {sorted(given)}; send 'text', or 'input_ids' together with 'lengths'",
            field="inputs",
            limit="text, or input_ids and lengths",
        )
    if TEXT in given:
        return EncodeRequest(inputs=tuple(texts(TEXT, given[TEXT])))
    ids_BT, lengths_B = given[INPUT_IDS], given[LENGTHS][:, 0]
    width = ids_BT.shape[1]
    if not 1 <= int(lengths_B.min(initial=1)) <= int(lengths_B.max(initial=1)) <= width:
        raise InvalidRequest(
            f"input 'lengths' holds {int(lengths_B.min())} .. {int(lengths_B.max())}; each is 1 to the {width} columns of "
            "'input_ids'",
            field="inputs.lengths",
            limit=f"1 .. {width}",
        )
    rows = tuple(
        tuple(row[:length].tolist())
        for row, length in zip(np.asarray(ids_BT), lengths_B.tolist(), strict=True)
    )
    return EncodeRequest(inputs=rows, whole=True)
