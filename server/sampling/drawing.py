"""Draw one token from one row of logits: exact, and without sorting the vocabulary.

Sorting 150,000 logits takes 7 to 16 ms a row, which is a third of a decode step. Nothing here needs it:

* the k best are found through the maxima of columns: the k-th best of them bounds the k-th best of all from below;
* a top-p set is never made: a token drawn from all of them belongs to it if the mass of the tokens *above* it is less than
  p. If not, everything up to it is outside, and the next draw is made above it. That is the same distribution;
* tokens far below the best are told apart from the others only if a draw falls on them, because their mass has a bound.

Shapes: ``_V`` the vocabulary, ``_N`` any number of candidates. Weights are ``exp((logit - max) / temperature)``.

Source: rejection over a nucleus (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

BLOCK = 512  # weights summed at a time, at most
BLOCKS = 128  # as many at least
COLUMNS = 2048  # maxima that bound the k-th best
FAR = 18.0  # in units of temperature; what is further below the best weighs less than 2e-8 of it
SPARSE = 16  # one in so many: they are gathered
_SMALL = 8192  # below it, looking at all of them is as cheap


def best(logits_N: Floats, k: int) -> Ids:
    """Indices of the k largest, largest first; of equal ones those with the smaller index.

    Args:
        logits_N: no NaN.
        k: 1 .. N.
    """
    size = len(logits_N)
    if k == 1:
        return np.array([logits_N.argmax()])
    found: Ids | None = None
    if size >= 2 * COLUMNS and 4 * k <= COLUMNS:
        rows = size // COLUMNS
        maxima = logits_N[: rows * COLUMNS].reshape(rows, COLUMNS).max(axis=0)
        rest = logits_N[rows * COLUMNS :]
        np.maximum(maxima[: len(rest)], rest, out=maxima[: len(rest)])
        bound = np.partition(maxima, COLUMNS - k)[COLUMNS - k]
        found = np.flatnonzero(logits_N >= bound)
    values_N = logits_N if found is None else logits_N[found]
    if k < len(values_N):
        edge = np.partition(values_N, len(values_N) - k)[len(values_N) - k]
        above, equal = np.flatnonzero(values_N > edge), np.flatnonzero(values_N == edge)
        kept = np.concatenate([above, equal[: k - len(above)]])
        kept.sort()
        found = kept if found is None else found[kept]
    elif found is None:
        found = np.arange(size)
    return found[np.argsort(-logits_N[found], kind="stable")]


@dataclass(frozen=True, slots=True)
class _Weights:
    """Weights with the running sum of their blocks, which is what a draw needs.

    A block is every ``columns``-th weight, so that blocks are summed side by side; the few that are over make the last one.
    """

    weights_N: Floats
    columns: int
    whole: int
    ends: npt.NDArray[np.float64]
    total: float

    @classmethod
    def of(cls, weights_N: Floats) -> _Weights:
        size = len(weights_N)
        columns = max(1, min(size, max(BLOCKS, size // BLOCK)))
        whole = size - size % columns
        sums = np.empty(columns + 1, np.float32)
        np.add.reduce(weights_N[:whole].reshape(-1, columns), axis=0, out=sums[:columns])
        sums[columns] = np.add.reduce(weights_N[whole:])
        ends = sums.cumsum(dtype=np.float64)
        return cls(weights_N, columns, whole, ends, float(ends[-1]))

    def pick(self, uniform: float) -> int:
        """The index that a number in [0, 1) falls on; never one of weight 0."""
        target = min(uniform * self.total, math.nextafter(self.total, 0.0))
        block = int(self.ends.searchsorted(target, side="right"))
        whole = self.whole
        inside = (
            self.weights_N[whole:] if block == self.columns else self.weights_N[block : whole : self.columns]
        )
        before = self.ends[block - 1] if block else 0.0
        place = int(inside.cumsum(dtype=np.float64).searchsorted(target - before, side="right"))
        if place >= len(inside) or inside[place] == 0.0:  # sums of a block and of its parts are rounded apart
            place = int(np.flatnonzero(inside)[-1])
        return whole + place if block == self.columns else place * self.columns + block


@dataclass(slots=True)
class Scratch:
    """Memory of one engine thread: arrays of this size are returned to the system when freed, and cost their page faults."""

    one_V: Floats
    two_V: Floats
    mask_V: npt.NDArray[np.bool_]

    @classmethod
    def for_vocabulary(cls, size: int) -> Scratch:
        """For rows of up to ``size`` logits."""
        return cls(np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.bool_))


def draw(
    logits_N: Floats,
    highest: float,
    uniform: Callable[[], float],
    scratch: Scratch,
    *,
    temperature: float,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> int:
    """Draw an index.

    Args:
        logits_N: no NaN, no +inf; -inf is never drawn.
        highest: their maximum; finite.
        uniform: numbers in [0, 1); how many are used depends on these logits alone.
        scratch: for N at least.
        temperature: > 0.
        top_p: the smallest set of the likeliest tokens with at least this mass is kept, with all that equal its last.
        min_p: what is less likely than this share of the likeliest is left out; ``top_p`` counts it nevertheless.
    """
    size = len(logits_N)
    near: Ids | None = None
    most_far = 0.0  # what all those far below weigh at most
    if size > _SMALL and not 0.0 < min_p < math.exp(-FAR) and _peaked(logits_N, highest, temperature):
        mask_V = scratch.mask_V[:size]
        np.greater_equal(logits_N, np.float32(highest - FAR * temperature), out=mask_V)
        count = int(np.count_nonzero(mask_V))
        if count <= size // 8:
            near = np.flatnonzero(mask_V)
            most_far = (size - count) * math.exp(-FAR)
    values_N = logits_N if near is None else logits_N[near]
    base = _Weights.of(_exp(values_N, highest, temperature, scratch.one_V[: len(values_N)]))
    least, most = base.total, base.total + most_far  # between them lies the mass of all
    if min_p > 0.0:
        likely_N = np.greater_equal(base.weights_N, np.float32(min_p), out=scratch.mask_V[: len(values_N)])
        base = _Weights.of(np.multiply(base.weights_N, likely_N, out=base.weights_N))
    kept = base
    if most_far > 0.0 and min_p == 0.0:
        first = uniform()
        if first * most >= base.total:  # perhaps one of those far below: weigh them all
            whole = _Weights.of(_exp(logits_N, highest, temperature, np.empty_like(logits_N)))
            least = most = whole.total
            if first * whole.total >= base.total:
                below = _Weights.of(np.where(scratch.mask_V[:size], np.float32(0), whole.weights_N))
                if below.total > 0.0:
                    near, base, kept = None, whole, below
    among_N, few = (
        base.weights_N,
        None,
    )  # what may stand above a draw, and which of ``base`` these are; None: all
    while True:
        place = kept.pick(uniform())
        at = place if few is None else int(few[place])
        if top_p >= 1.0:
            break
        size = len(among_N)
        higher_N = np.greater(among_N, kept.weights_N[place], out=scratch.mask_V[:size])
        higher: Ids | None = None
        if np.count_nonzero(higher_N) * SPARSE <= size:
            higher = np.flatnonzero(higher_N)
            above = _Weights.of(among_N[higher])
        else:
            above = _Weights.of(np.multiply(among_N, higher_N, out=scratch.two_V[:size]))
        if least < most and top_p * least <= above.total < top_p * most:
            least = most = _Weights.of(_exp(logits_N, highest, temperature, np.empty_like(logits_N))).total
        if above.total < top_p * least:
            break
        kept = above
        if higher is not None:  # from here on nothing else can be drawn, nor stand above a draw
            among_N, few = above.weights_N, higher if few is None else few[higher]
    return at if near is None else int(near[at])


def _peaked(logits_N: Floats, highest: float, temperature: float) -> bool:
    """Whether few logits seem to be near the best, by every 64th; a wrong guess costs time and nothing else."""
    some_N = logits_N[::64]
    return bool(np.count_nonzero(some_N >= np.float32(highest - FAR * temperature)) * 6 <= len(some_N))


def log_total(logits_N: Floats, highest: float, scratch: Scratch) -> float:
    """The natural logarithm of the sum of all exponentials."""
    out = scratch.one_V[: len(logits_N)]
    return highest + math.log(_Weights.of(_exp(logits_N, highest, 1.0, out)).total)


def _exp(logits_N: Floats, highest: float, temperature: float, out: Floats) -> Floats:
    np.subtract(logits_N, np.float32(highest), out=out)
    if temperature != 1.0:
        np.multiply(out, np.float32(1.0 / temperature), out=out)
    return np.exp(out, out=out)
