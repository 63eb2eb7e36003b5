"""Nothing is judged on what it was calibrated on: found by content, whatever names, ids or files say.

Each example is reduced to a digest of what the model reads; two sides that share one have a leak. Splits set examples apart
already, so this finds what they cannot: the same text under two ids, a file given twice, a split that is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

from build_engines.errors import BuildError


def digest_of_ids(ids: npt.NDArray[np.integer]) -> bytes:
    """SHA-256 of an example as the model reads it: item rows or token ids, whatever integers they are kept in."""
    return hashlib.sha256(np.ascontiguousarray(ids, np.int64).tobytes()).digest()


def digests_of(examples: Iterable[npt.NDArray[np.integer]]) -> list[bytes]:
    """Digest of each example, in their order."""
    return [digest_of_ids(one) for one in examples]


def refuse_leak(
    stage: str,
    calibration: Collection[bytes],
    gate: Collection[bytes],
    *,
    what: str,
    allowed: int = 0,
    advice: str,
) -> None:
    """Stop where calibration examples are among the gate's.

    Args:
        stage: that would calibrate, for the message.
        calibration: digest of each example to calibrate on; must not be empty.
        gate: digest of each example of the gate.
        what: the examples, for the message ("calibration histories").
        allowed: so many may coincide by chance.
        advice: what to do about it.

    Raises:
        BuildError: there is nothing to calibrate on, or more than ``allowed`` of it is judged on; says how many.
    """
    if not calibration:
        raise BuildError(f"{stage}: there are no {what} to calibrate on; {advice}")
    judged = frozenset(gate)
    leaked = sum(one in judged for one in calibration)
    if leaked > allowed:
        raise BuildError(
            f"{stage}: {leaked} of {len(calibration)} {what} are also what the gate judges; a figure on them would prove "
            f"nothing; {advice}"
        )
