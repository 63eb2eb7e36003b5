"""How well an engine expects texts: perplexity of any variant through the calls that serve, and the paired comparison.

Every token after the first of a text counts, read one at a time as in decoding, in neighbouring slots: so what is judged is
the engine with its cache, masks and kernels at one new token. Losses are paired token by token between two engines, which
removes the spread between texts from their difference.

Suffixes: B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.models.causal.options import Ids
from server.engines.causal import CausalCall, CausalEngine

Losses = npt.NDArray[np.float64]
Z95 = 1.959964  # standard normal, two-sided 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two engines on the same texts.

    Attributes:
        parent, candidate: perplexities.
        rise: of the candidate over the parent, relative; negative: better.
        low, high: 95 % interval of ``rise``, over texts.
        texts, tokens: what was read.
    """

    parent: float
    candidate: float
    rise: float
    low: float
    high: float
    texts: int
    tokens: int


def losses(engine: CausalEngine, batches: Sequence[Ids]) -> list[Losses]:
    """Negative log-probabilities (nats) of each text's tokens but its first, a text an entry, in order.

    Args:
        engine: uses its smallest pool that holds the texts.
        batches: token ids ``[B, T]`` with T >= 2, no padding.

    Raises:
        ValueError: a batch is no matrix of tokens, or no pool holds its texts.
        RuntimeError: the engine failed.
    """
    found: list[Losses] = []
    for place, ids_BT in enumerate(batches):
        if ids_BT.ndim != 2 or len(ids_BT) < 1 or ids_BT.shape[1] < 2:
            raise ValueError(
                f"batch {place}: shape {ids_BT.shape}, must be [texts, tokens] with at least 2 tokens"
            )
        capacity = _pool(engine, ids_BT.shape[1])
        slots = engine.limits.pools[capacity]
        for start in range(0, len(ids_BT), slots):
            found += list(_read(engine, capacity, ids_BT[start : start + slots]))
    return found


def perplexity(engine: CausalEngine, batches: Sequence[Ids]) -> float:
    """Of a token, over all texts; infinite where a token has no probability at all, and never NaN.

    Raises:
        ValueError: as ``losses``, or there are no batches.
    """
    return _perplexity(losses(engine, batches))


def compare(parent: CausalEngine, candidate: CausalEngine, batches: Sequence[Ids]) -> Comparison:
    """Read the same texts with both, and say how much higher the candidate's perplexity is.

    The interval is over texts (a ratio of sums, linearized), since tokens of a text are not independent.

    Raises:
        ValueError: as ``perplexity``.
    """
    return compare_losses(losses(parent, batches), losses(candidate, batches))


def compare_losses(parent: Sequence[Losses], candidate: Sequence[Losses]) -> Comparison:
    """As ``compare``, of losses that are known.

    Raises:
        ValueError: there are none, or they are not of the same texts.
    """
    if [len(one) for one in parent] != [len(one) for one in candidate]:
        raise ValueError("parent and candidate were not read on the same texts")
    before, after = _perplexity(parent), _perplexity(candidate)
    sizes_B = np.array([len(one) for one in parent], np.float64)
    tokens = float(sizes_B.sum())
    with np.errstate(invalid="ignore"):
        gaps_B = np.array([(b - a).sum() for a, b in zip(parent, candidate, strict=True)])
        mean = float(gaps_B.sum() / tokens)
    if not math.isfinite(mean):  # no probability at all somewhere: nothing is known but that it is worse
        worse = -1.0 if math.isinf(before) and math.isfinite(after) else math.inf
        return _comparison(before, after, (worse, worse, worse), len(parent), int(tokens))
    texts = len(gaps_B)
    spread_B = gaps_B - mean * sizes_B
    error = math.inf
    if texts > 1:
        error = Z95 * math.sqrt(float(np.square(spread_B).sum()) * texts / (texts - 1)) / tokens
    bounds = (mean, mean - error, mean + error)
    rise, low, high = (math.expm1(min(one, 700.0)) for one in bounds)
    return _comparison(before, after, (rise, low, high), texts, int(tokens))


def _comparison(
    before: float, after: float, rise: tuple[float, float, float], texts: int, tokens: int
) -> Comparison:
    return Comparison(
        parent=before,
        candidate=after,
        rise=rise[0],
        low=rise[1],
        high=rise[2],
        texts=texts,
        tokens=tokens,
    )


def _perplexity(found: Sequence[Losses]) -> float:
    if not found:
        raise ValueError("no texts to read; perplexity needs at least one of two tokens")
    mean = float(np.concatenate(found).mean())
    return math.exp(mean) if mean < 700.0 else math.inf


def _pool(engine: CausalEngine, length: int) -> int:
    for capacity in sorted(engine.limits.pools):
        if capacity >= length - 1:  # the last token is only asked about
            return capacity
    raise ValueError(f"texts of {length} tokens: the largest slot holds {engine.limits.max_context}")


def _read(engine: CausalEngine, capacity: int, ids_BT: Ids) -> Losses:
    rows, length = ids_BT.shape
    losses_BT = np.empty((rows, length - 1))
    ones_B = np.ones(rows, np.int64)
    for place in range(length - 1):
        call = CausalCall(
            capacity,
            0,
            np.ascontiguousarray(ids_BT[:, place : place + 1], np.int64),
            np.full(rows, place, np.int64),
            ones_B,
        )
        logits_BV = engine.run(call).astype(np.float64)
        top_B = logits_BV.max(axis=1)
        with np.errstate(invalid="ignore"):
            total_B = np.log(np.exp(logits_BV - top_B[:, None]).sum(axis=1)) + top_B
            losses_BT[:, place] = total_B - logits_BV[np.arange(rows), ids_BT[:, place + 1]]
    losses_BT[np.isnan(losses_BT)] = math.inf  # an engine that says NaN expects nothing
    return losses_BT
