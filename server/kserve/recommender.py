"""The recommender by its tensors: ``item_ids[B,L]``, ``exclude_ids[B,E]``, ``candidate[B,N]`` to ``ids[B,K]``, ``scores[B,K]``.

Each row goes its own way through the batcher, where it shares batches with whoever else asks: rows of other callers, and
shoppers of ``/v1/recommendations``. A request of several rows has one outcome; the first row that fails ends it.

Suffixes: B rows, L positions, E exclusions, N catalogue rows, K ranks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from server.errors import InvalidRequest, NotReady, ServeError
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
from server.kserve.tensors import datatype_of
from server.service import Flight, Service, Ticket
from server.telemetry_interface import OK
from server.tensor_domain import TensorAnswer, TensorContract, TensorQuery, TensorShape

ITEM_IDS, EXCLUDE_IDS, CANDIDATE = "item_ids", "exclude_ids", "candidate"
_NONE_E: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32)
PLATFORM = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "triton": "onnxruntime_onnx"}


class RecommenderTensors(OfProduct[Service]):
    """A ``ServedModel``.

    Args:
        service: the product.
        look: takes up a new version, if there is one.
    """

    def __init__(self, service: Service, look: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(service, look)
        self._meta: tuple[TensorContract, ModelMeta] | None = None
        self.name = service.recommender.info().name

    def meta(self) -> ModelMeta:
        """What it is now."""
        contract = self._contract()
        if self._meta is None or self._meta[0] is not contract:
            info = self._service.recommender.info()
            meta = ModelMeta(
                name=self.name,
                version=contract.model.version,
                platform=PLATFORM.get(info.engine, info.engine),
                inputs=tuple(_shown(one, contract) for one in contract.inputs),
                outputs=tuple(_shown(one, contract) for one in contract.outputs),
                max_batch=contract.max_batch,
            )
            self._meta = contract, meta
        return self._meta[1]

    def ready(self) -> tuple[bool, str]:
        """As the product."""
        reasons = self._service.own_reasons()
        return not reasons, "; ".join(reasons)

    def infer(self, ticket: Ticket, asked: Asked, done: Done) -> _Rows:
        """See ``ServedModel.infer``."""
        contract = self._contract()
        rows = take_inputs(self.meta(), asked)
        queries = _queries(contract, asked, rows)
        if rows > 1:
            ticket.raise_cost(rows)
        call = _Rows(self._service, ticket, self.statistics, done, rows)
        call.begin(queries)
        return call

    def _contract(self) -> TensorContract:
        contract = self._service.recommender.tensors()
        if contract is None:
            raise NotReady(f"{self.name} cannot be asked by its tensors")
        return contract


class _Rows:
    """The rows of one request on their way to one answer."""

    __slots__ = ("_answers", "_done", "_flights", "_left", "_service", "_statistics", "_ticket")

    def __init__(
        self, service: Service, ticket: Ticket, statistics: ModelStatistics, done: Done, rows: int
    ) -> None:
        self._service = service
        self._ticket = ticket
        self._statistics = statistics
        self._done: Done | None = done
        self._answers: list[TensorAnswer | None] = [None] * rows
        self._left = rows
        self._flights: list[Flight] = []

    def begin(self, queries: list[TensorQuery]) -> None:
        for at, query in enumerate(queries):
            self._flights.append(self._service.infer(self._ticket, query, partial(self._take, at)))
            if self._done is None:
                break  # a row has failed already

    def cancel(self) -> None:
        self._done = None
        for flight in self._flights:
            flight.cancel()

    def _take(self, at: int, answer: TensorAnswer | ServeError) -> None:
        done = self._done
        if done is None:
            return
        if isinstance(answer, ServeError):
            self.cancel()
            self._statistics.failed(self._ticket.end(answer.code.value))
            done(answer)
            return
        self._answers[at] = answer
        self._left -= 1
        if self._left == 0:
            self._done = None
            self._finish(done)

    def _finish(self, done: Done) -> None:
        answers = [answer for answer in self._answers if answer is not None]
        first = answers[0]
        if len(answers) == 1:
            ids, scores = first.ids_K[None], first.scores_K[None]
        else:
            ids, scores = (
                np.stack([one.ids_K for one in answers]),
                np.stack([one.scores_K for one in answers]),
            )
        if any(one.model is not first.model for one in answers):
            error = NotReady("a new version came while this request was under way; send it again")
            self._statistics.failed(self._ticket.end(error.code.value))
            done(error)
            return
        elapsed_s = self._ticket.end(OK, MODEL_TIER)
        times = [one.timings for one in answers if one.timings is not None]
        self._statistics.answered(
            elapsed_s,
            rows=len(answers),
            executions=sum(1.0 / max(1, one.batch_size) for one in times),
            queue_s=max((one.queue_s for one in times), default=0.0),
            input_s=max((one.encode_s for one in times), default=0.0),
            infer_s=max((one.engine_s for one in times), default=0.0),
            output_s=max((one.post_s for one in times), default=0.0),
        )
        done(Inferred({"ids": ids, "scores": scores}, first.model.version))


def _shown(one: TensorShape, contract: TensorContract) -> TensorMeta:
    sizes = {"N": contract.rows}
    shape = tuple(size if isinstance(size, int) else sizes.get(size, -1) for size in one.shape)
    return TensorMeta(one.name, datatype_of(one.dtype), shape, one.name in (EXCLUDE_IDS, CANDIDATE))


def _queries(contract: TensorContract, asked: Asked, rows: int) -> list[TensorQuery]:
    ids_BL = asked.inputs[ITEM_IDS]
    exclude_BE = asked.inputs.get(EXCLUDE_IDS)
    candidate_BN = asked.inputs.get(CANDIDATE)
    _check_ids(ITEM_IDS, ids_BL, contract.rows, contract.max_history)
    if ids_BL.shape[1] == 0:
        raise InvalidRequest(
            "input 'item_ids' has no positions; send at least one", field=ITEM_IDS, limit=">= 1"
        )
    if exclude_BE is not None:
        _check_ids(EXCLUDE_IDS, exclude_BE, contract.rows, contract.max_exclude)
    return [
        TensorQuery(
            contract,
            ids_BL[b],
            _NONE_E if exclude_BE is None else exclude_BE[b],
            None if candidate_BN is None else candidate_BN[b],
            asked.deadline_s,
        )
        for b in range(rows)
    ]


def _check_ids(name: str, ids: npt.NDArray[Any], rows: int, most: int) -> None:
    if ids.shape[1] > most:
        raise InvalidRequest(
            f"input '{name}' has {ids.shape[1]} columns, the model takes {most}; send the newest only",
            field=f"inputs.{name}.shape",
            limit=f"{most} columns",
        )
    # Read without a sign, what is below zero is above everything: one pass instead of two.
    if ids.size and np.ascontiguousarray(ids).view(np.uint32).max() >= rows:
        wrong = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise InvalidRequest(
            f"input '{name}' holds {wrong}; catalogue rows of this model are 1 .. {rows - 1}, and 0 is padding",
            field=f"inputs.{name}",
            limit=f"0 .. {rows - 1}",
        )
