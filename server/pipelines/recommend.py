"""A batch of recommendation requests through one engine: requests to arrays, arrays to ranked items.

This is the only place where requests meet tensors, and the builder's gate runs engines through it, so what was measured
is what serves. A batch takes the "unmasked" entry of the engine when nobody in it filters (no pass over B x N booleans)
and the "masked" one as soon as somebody does; both give the same answers for those who do not.

Suffixes: B requests, L history positions, E excluded rows, K ranks, N catalogue rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from server.domain import ModelRef, RecommendRequest, RecommendResponse, ServedBy
from server.encoding.catalogue import Catalogue
from server.encoding.items import pad_left, pad_right
from server.encoding.tables import NEVER
from server.engines.base import Engine
from server.errors import NotReady, ServeError
from server.pipelines.explain import Explainer
from server.tensor_domain import TensorAnswer, TensorContract, TensorQuery

Asked = RecommendRequest | TensorQuery
Answered = RecommendResponse | TensorAnswer


@dataclass(slots=True)
class PackedBatch:
    """One batch, ready for the engine.

    Attributes:
        inputs: by tensor name.
        masked: whether the masked entry must run it.
        history_rows: known rows of each request's history, oldest first.
        unknown_candidates: by the place of each request that has candidates: how many of them are unknown.
    """

    inputs: dict[str, npt.NDArray[Any]]
    masked: bool
    history_rows: list[Sequence[int]]
    unknown_candidates: dict[int, int]


class RecommendRunner:
    """Packs, runs and unpacks batches for one published version; a ``BatchRunner``.

    Args:
        model: the version, for the answers.
        catalogue: its items.
        engines: "masked", and "unmasked" where the target has it.
        max_history: positions the engine takes.
        max_exclude: excluded rows of one request that the engine takes; what is above goes into the mask.
        explainer: for requests with ``explain``.
        contract: of tensor queries; None: there can be none.
    """

    def __init__(
        self,
        *,
        model: ModelRef,
        catalogue: Catalogue,
        engines: Mapping[str, Engine],
        max_history: int,
        max_exclude: int,
        explainer: Explainer,
        contract: TensorContract | None = None,
    ) -> None:
        self.model = model
        self.contract = contract
        self.catalogue = catalogue
        self._masked = engines["masked"]
        self._unmasked = engines.get("unmasked", self._masked)
        self._needs_mask = "unmasked" not in engines
        self._max_history = max_history
        self._max_exclude = max_exclude
        self._explainer = explainer

    def close(self) -> None:
        """Let the engines go; no batch is in them."""
        for engine in (self._masked, self._unmasked):
            engine.close()

    def pack(self, items: Sequence[Asked]) -> PackedBatch:
        """Requests to arrays; on the event loop, a few microseconds a request."""
        index = self.catalogue.index
        history_rows: list[Sequence[int]] = []
        exclude_rows: list[Sequence[int]] = []
        masked = self._needs_mask
        for request in items:
            if isinstance(request, TensorQuery):
                mine = (
                    request.contract is self.contract
                )  # or its ids may be no rows here: it is refused in unpack
                history_rows.append(request.item_ids_L.tolist() if mine else [])
                exclude_rows.append(request.exclude_ids_E.tolist() if mine else [])
                masked = masked or (mine and request.candidate_N is not None)
                continue
            rows = index.rows(request.history)
            history_rows.append(rows)
            if request.exclude:
                out = index.rows(request.exclude)
                exclude_rows.append(out if request.allow_seen else rows + out)
            else:
                exclude_rows.append([] if request.allow_seen else rows)
            if (
                request.candidates is not None
                or request.filters is not None
                or len(exclude_rows[-1]) > self._max_exclude
            ):
                masked = True
        inputs: dict[str, npt.NDArray[Any]] = {
            "item_ids": pad_left(history_rows, length=self._max_history),
            "exclude_ids": pad_right([rows[: self._max_exclude] for rows in exclude_rows]),
        }
        unknown: dict[int, int] = {}
        if masked:
            inputs["candidate"] = self._candidates(items, exclude_rows, unknown)
        return PackedBatch(inputs, masked, history_rows, unknown)

    def run(self, packed: PackedBatch) -> dict[str, npt.NDArray[Any]]:
        """One engine run; on the engine's thread."""
        return (self._masked if packed.masked else self._unmasked).run(packed.inputs)

    def unpack(
        self, packed: PackedBatch, raw: Mapping[str, npt.NDArray[Any]], items: Sequence[Asked]
    ) -> list[Answered | ServeError]:
        """Arrays to answers, in the order of ``items``."""
        ids = self.catalogue.index.ids
        ids_BK = raw["ids"]
        rows_BK = ids_BK.tolist()
        scores_BK = raw["scores"]
        # A sorted row ends in NEVER where fewer items were allowed than ranks were asked for.
        found_B = np.count_nonzero(scores_BK > NEVER / 2, axis=1).tolist()
        scores = scores_BK.tolist()
        answers: list[Answered | ServeError] = []
        for b, request in enumerate(items):
            if isinstance(request, TensorQuery):
                answers.append(
                    TensorAnswer(ids_BK[b], scores_BK[b], self.model)
                    if request.contract is self.contract
                    else NotReady("a new version came while this request waited; send it again")
                )
                continue
            count = min(request.k, found_B[b])
            rows = rows_BK[b][:count]
            answer = RecommendResponse(
                item_ids=tuple([ids[row] for row in rows]),
                scores=tuple(scores[b][:count]),
                served_by=ServedBy.MODEL,
                model=self.model,
                unknown_items=len(request.history) - len(packed.history_rows[b]),
                unknown_candidates=packed.unknown_candidates.get(b),
            )
            if request.explain or request.fields:
                self._decorate(answer, request, rows, packed.history_rows[b])
            answers.append(answer)
        return answers

    def _decorate(
        self, answer: RecommendResponse, request: RecommendRequest, rows: list[int], history: Sequence[int]
    ) -> None:
        if request.fields:
            answer.item_fields = tuple(self.catalogue.item_fields(row, request.fields) for row in rows)
        if request.explain:
            answer.because, answer.reasons = self._explainer.explain(rows, history)

    def _candidates(
        self,
        items: Sequence[Asked],
        exclude_rows: Sequence[Sequence[int]],
        unknown: dict[int, int],
    ) -> npt.NDArray[np.bool_]:
        mask_BN = np.empty((len(items), self.catalogue.rows), dtype=np.bool_)
        for b, request in enumerate(items):
            if isinstance(request, TensorQuery):
                mask_BN[b] = self.catalogue.mask(None)
                if request.candidate_N is not None and request.contract is self.contract:
                    mask_BN[b] &= request.candidate_N
                continue
            mask_BN[b], missing = allowed(self.catalogue, request)
            if missing is not None:
                unknown[b] = missing
            # One caller who excludes thousands must not widen the exclusions of the whole batch.
            mask_BN[b, exclude_rows[b][self._max_exclude :]] = False
        return mask_BN


def allowed(catalogue: Catalogue, request: RecommendRequest) -> tuple[npt.NDArray[np.bool_], int | None]:
    """What a request's filters and candidates let through; history and exclusions are not considered.

    Returns:
        ``mask_N``, and how many of the candidates are not in the catalogue (None: there were no candidates).
    """
    mask_N = catalogue.mask(request.filters)
    if request.candidates is None:
        return mask_N, None
    only_N = np.zeros(catalogue.rows, dtype=np.bool_)
    rows = catalogue.index.rows(request.candidates)
    only_N[rows] = True
    only_N &= mask_N
    return only_N, len(request.candidates) - len(rows)
