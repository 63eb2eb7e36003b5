"""The sampler of engines on this machine: numpy over the vocabulary, row by row.

A row's choice depends on its logits, its state and its own random numbers and on nothing else, so that a seed means the
same text whatever else runs. A row of 152,000 logits fits the processor's second-level cache, which several rows at once
would not: going row by row is also the faster way. Rows that take the likeliest token without any conditions are one call.

Suffixes: ``_B`` rows, ``_V`` the vocabulary, ``_N`` candidates.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from server.sampling.base import Mask, RowSampler, Sampled
from server.sampling.drawing import Floats, Ids, Scratch, best, draw, log_total
from server.sampling.rows import Row, mask_words, open_row
from server.text_domain import GenerateRequest, SamplingParams, TokenLogprob

log = logging.getLogger("vitrine.text")

GREEDY_BELOW = 1e-5  # temperatures that are 0 but for rounding
FORBIDDEN = np.float32(-3e38)  # what a constraint makes of a logit; finite, so that sums stay numbers
_POSSIBLE = -1e38  # every logit that is allowed is above
_CEILINGS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"),
    np.float32(np.inf),
    FORBIDDEN,
)
_FEW = 16  # one allowed token in so many: they are gathered, and the rest is not looked at


class NumpySampler:
    """A ``Sampler`` for one engine.

    Args:
        vocab_size: width of its logits.
    """

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._scratch = Scratch.for_vocabulary(vocab_size)
        self._ceilings_N8 = np.empty((mask_words(vocab_size) * 4, 8), np.float32)

    def open(self, request: GenerateRequest, mask: Mask | None) -> RowSampler:
        """State for one text.

        Raises:
            InvalidRequest: ``logit_bias`` names a token that the model has not.
        """
        return open_row(request, mask, self._vocab_size)

    def prepare(self, rows: Sequence[RowSampler]) -> None:
        """Make the masks of the coming step; called while the engine computes."""
        for row in rows:
            cast(Row, row).fill()

    def sample(self, logits_BV: npt.NDArray[np.float32], rows: Sequence[RowSampler]) -> Sampled:
        """Choose a token for each row; writes into ``logits_BV``."""
        own = cast(Sequence[Row], rows)
        tokens_B = np.zeros(len(rows), np.int64)
        bad_B = np.zeros(len(rows), np.bool_)
        logprobs: list[TokenLogprob | None] = [None] * len(rows)
        plain = [_plain(row) for row in own]
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are looked for, not warned of
            if all(plain):
                tokens_B = logits_BV.argmax(axis=1)
                bad_B = ~np.isfinite(logits_BV[np.arange(len(rows)), tokens_B])
            else:
                for at, row in enumerate(own):
                    token, logprobs[at] = self._choose(logits_BV[at], row)
                    tokens_B[at], bad_B[at] = max(token, 0), token < 0
        for at, row in enumerate(own):
            if not bad_B[at]:
                bad_B[at] = not _account(row, int(tokens_B[at]))
        return Sampled(tokens_B, logprobs, bad_B)

    def _choose(self, logits_V: Floats, row: Row) -> tuple[int, TokenLogprob | None]:
        """The token, -1 if there is none."""
        highest = float(logits_V.max())
        if not math.isfinite(highest):  # of one NaN the maximum is NaN
            return -1, None
        if row.adjust(logits_V):
            highest = float(logits_V.max())
        ids: Ids | None = None
        values_N = logits_V
        if row.mask is not None:
            row.fill()
            ids = self._constrain(logits_V, row)
            if ids is not None:
                values_N = logits_V[ids]
            highest = float(values_N.max()) if len(values_N) else -math.inf
        if not _POSSIBLE < highest < math.inf:
            return -1, None
        at = self._pick(values_N, highest, row)
        asked = row.request.sampling.top_logprobs
        told = None if asked is None else self._logprob(values_N, highest, at, ids, asked)
        return at if ids is None else int(ids[at]), told

    def _pick(self, values_N: Floats, highest: float, row: Row) -> int:
        sampling = row.request.sampling
        if sampling.temperature < GREEDY_BELOW or sampling.top_k == 1:
            return int(values_N.argmax())
        kept: Ids | None = None
        if 0 < sampling.top_k < len(values_N):
            kept = best(values_N, sampling.top_k)
            values_N = values_N[kept]
        at = draw(
            values_N,
            highest,
            row.random.random,
            self._scratch,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
        )
        return at if kept is None else int(kept[at])

    def _constrain(self, logits_V: Floats, row: Row) -> Ids | None:
        """The allowed tokens where they are few; else forbids the others in place."""
        allowed = row.allowed
        assert allowed is not None
        if int(np.bitwise_count(allowed).sum()) * _FEW <= self._vocab_size:
            words = np.flatnonzero(allowed)
            bits = np.unpackbits(allowed[words].view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
            which, bit = np.nonzero(bits)
            ids = words[which] * 32 + bit
            return ids[ids < self._vocab_size]
        # A byte of the mask is eight ceilings; NaN stays NaN under either.
        np.take(_CEILINGS, allowed.view(np.uint8), axis=0, out=self._ceilings_N8, mode="clip")
        np.minimum(logits_V, self._ceilings_N8.reshape(-1)[: self._vocab_size], out=logits_V)
        return None

    def _logprob(
        self, values_N: Floats, highest: float, at: int, ids: Ids | None, asked: int
    ) -> TokenLogprob:
        total = log_total(values_N, highest, self._scratch)

        def token(place: int) -> int:
            return place if ids is None else int(ids[place])

        top: list[tuple[int, float]] = []
        if asked:
            for place in best(values_N, min(asked, len(values_N))).tolist():
                if values_N[place] > _POSSIBLE:
                    top.append((token(place), float(values_N[place]) - total))
        return TokenLogprob(token(at), float(values_N[at]) - total, tuple(top))


def _account(row: Row, token: int) -> bool:
    try:
        row.account(token)
    except (
        ValueError
    ) as error:  # its constraint allowed it and then became too complex: this text fails, no other
        if row.mask is None or row.mask.refused is None:  # else the one who sent it is told
            log.warning("a constraint did not take its own token", extra={"reason": str(error)})
        return False
    return True


def _plain(row: Row) -> bool:
    sampling: SamplingParams = row.request.sampling
    return (
        sampling.temperature < GREEDY_BELOW
        and sampling.top_logprobs is None
        and row.mask is None
        and row.bias is None
        and row.seen is None
        and row.written is None
    )
