"""A request on its way through an encoder, and a batch of texts of several of them.

A request's future is completed here and nowhere else, and by whichever comes first: its last text, a batch that failed, its
deadline, its caller's leaving. Each of these is a no-op for a request that has its outcome.

Suffixes: N texts of a request, B of a batch, T tokens, D width, C intents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from server.batching.cost import CostModel
from server.batching.token_batches import Choice, Pending, TokenBudget
from server.engines.encoder import EncoderEngine, EncoderOutput, Floats, Ids

Text = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TokenModel:
    """An engine with what the batcher must know of it.

    Attributes:
        engine: computes.
        cost: of a batch by its tokens, padding included.
        budget: of a batch.
        normalized: whether the engine's vectors are of length 1.
    """

    engine: EncoderEngine
    cost: CostModel
    budget: TokenBudget
    normalized: bool = True


class EncodedTexts(NamedTuple):
    """The answer to a request.

    Attributes:
        vectors_ND: float32, of length 1.
        logits_NC: float32; None where the engine has no head.
        queue_s, engine_s: waiting, and computing.
    """

    vectors_ND: Floats
    logits_NC: Floats | None
    queue_s: float
    engine_s: float


class EncodeCall(asyncio.Future[EncodedTexts]):
    """One admitted request; cancelling it takes its waiting texts out of the queue at once."""

    def __init__(
        self,
        texts: Sequence[Text],
        model: TokenModel,
        pending: Pending,
        left: Callable[[EncodeCall], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self.texts = texts
        self.model = model
        self.pending = pending
        self.open = len(texts)  # texts without a vector
        self.started_s = 0.0  # when its first batch began
        self.engine_s = 0.0
        self._left = left
        self._vectors_ND: Floats | None = None
        self._logits_NC: Floats | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave."""
        if not super().cancel(msg):
            return False
        self._left(self)
        return True

    def keep(self, places: Sequence[int], vectors_BD: Floats, logits_BC: Floats | None) -> None:
        """Put rows of a batch where they belong."""
        if self._vectors_ND is None and len(places) == len(self.texts):  # all at once: the usual case
            order = np.empty(len(places), np.intp)
            order[places] = np.arange(len(places))
            self._vectors_ND = vectors_BD[order]
            self._logits_NC = None if logits_BC is None else logits_BC[order]
        else:
            if self._vectors_ND is None:
                self._vectors_ND = np.empty((len(self.texts), vectors_BD.shape[1]), np.float32)
                if logits_BC is not None:
                    self._logits_NC = np.empty((len(self.texts), logits_BC.shape[1]), np.float32)
            self._vectors_ND[places] = vectors_BD
            if self._logits_NC is not None and logits_BC is not None:
                self._logits_NC[places] = logits_BC
        self.open -= len(places)

    def complete(self, now_s: float) -> float:
        """Answer, when no text is open any more; returns how long it waited."""
        assert self._vectors_ND is not None, "every text has its vector"
        queue_s = max(0.0, now_s - self.pending.arrived_s - self.engine_s)
        self.set_result(EncodedTexts(self._vectors_ND, self._logits_NC, queue_s, self.engine_s))
        return queue_s


class Shared(NamedTuple):
    """Rows of a batch that are one request's: the texts at ``places`` of ``call``, in order."""

    call: EncodeCall
    places: list[int]


class TokenBatch:
    """Texts that go through an engine together; ``Work`` for the engine's thread."""

    __slots__ = (
        "choice", "ended_s", "fault", "input_ids_BT", "lengths_B", "model", "predicted_s", "raw", "shares", "skipped",
        "started_s",
    )  # fmt: skip

    def __init__(self, model: TokenModel, choice: Choice, shares: list[Shared], now_s: float) -> None:
        self.model = model
        self.choice = choice
        self.shares = shares
        self.input_ids_BT, self.lengths_B = _rectangle(choice, shares)
        self.predicted_s = model.cost.predict_s(choice.padded_tokens)
        self.started_s = self.ended_s = now_s
        self.raw: EncoderOutput | None = None
        self.fault: BaseException | None = None
        self.skipped = False

    @property
    def due_s(self) -> float:
        """When it is predicted to end."""
        return self.started_s + self.predicted_s

    def abandoned(self) -> bool:
        """Whether every caller has left or has an outcome."""
        return all(share.call.done() for share in self.shares)

    def compute(self) -> EncoderOutput:
        """Run it."""
        return self.model.engine.run(self.input_ids_BT, self.lengths_B)

    def checked(self) -> tuple[Floats, Floats | None, npt.NDArray[np.bool_]]:
        """Vectors of length 1, logits, and which rows are numbers.

        Raises:
            BaseException: what the engine raised.
            ValueError: it gave something of another shape.
        """
        if self.fault is not None:
            raise self.fault
        assert self.raw is not None, "it ran"
        vectors_BD, logits_BC = self.raw
        engine, rows = self.model.engine, self.choice.rows
        if vectors_BD.shape != (rows, engine.dim):
            raise ValueError(f"the engine gave vectors of shape {vectors_BD.shape} for {rows} texts")
        if (logits_BC is None) == bool(engine.intents):
            raise ValueError("the engine gave no logits" if engine.intents else "the engine gave logits")
        good_B: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(vectors_BD), axis=1)
        if logits_BC is not None:
            if logits_BC.shape != (rows, engine.intents):
                raise ValueError(f"the engine gave logits of shape {logits_BC.shape} for {rows} texts")
            good_B = np.logical_and(good_B, np.logical_and.reduce(np.isfinite(logits_BC), axis=1))
        if not self.model.normalized:
            norms_B: Floats = np.sqrt(np.square(vectors_BD).sum(axis=1, dtype=np.float32))
            good_B = np.logical_and(good_B, norms_B > 0.0)
            vectors_BD = np.divide(vectors_BD, norms_B[:, None], where=good_B[:, None], dtype=np.float32)
        return vectors_BD, logits_BC, good_B


def _rectangle(choice: Choice, shares: list[Shared]) -> tuple[Ids, Ids]:
    input_ids_BT = np.zeros((choice.rows, choice.longest), np.int64)
    lengths_B = np.empty(choice.rows, np.int64)
    row = 0
    for call, places in shares:
        for place in places:
            ids = call.texts[place]
            lengths_B[row] = len(ids)
            input_ids_BT[row, : len(ids)] = ids
            row += 1
    return input_ids_BT, lengths_B
