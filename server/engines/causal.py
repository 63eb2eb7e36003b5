"""What a causal language model's engine is: one call computes some tokens of some slots and returns the last logits.

The KV cache belongs to the engine and lies in *pools*: ``slots`` rows that each hold ``capacity`` tokens (its bucket).
A slot is addressed by (capacity, index). Who uses which slot, and how far it is filled, is decided elsewhere
(``batching.kv_slots``): the engine keeps no books. Only the engine thread calls ``run`` and ``copy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalLimits:
    """What an engine can hold.

    Attributes:
        vocab_size: width of the logits.
        pools: capacity in tokens to number of slots; ascending capacities.
        max_chunk: prompt tokens a call may hold in one row.
        light: whether there is a second graph of the same model over the same cache, of fewer bytes of weights: faster
            where few rows are computed and reading the weights is what takes time.
    """

    vocab_size: int
    pools: dict[int, int]
    max_chunk: int
    light: bool = False

    @property
    def max_context(self) -> int:
        """Tokens of the largest slot."""
        return max(self.pools)


@dataclass(frozen=True, slots=True)
class CausalCall:
    """One call: rows ``first_slot .. first_slot + B`` of one pool, neighbours in memory.

    Attributes:
        capacity: of the pool.
        first_slot: index of the first row's slot.
        input_ids_BT: int64; row b's ``n_new_B[b]`` new tokens, padded on the right with any id.
        write_index_B: int64; how many tokens the slot holds already; ``write_index + T <= capacity`` for every row, also
            for idle ones (``n_new`` 0: their slot may be written at and beyond ``write_index``, never before it).
        n_new_B: int64; 0..T.
        light: in the light graph; its keys, values and logits are a little other than the graph's own.
    """

    capacity: int
    first_slot: int
    input_ids_BT: npt.NDArray[np.int64]
    write_index_B: npt.NDArray[np.int64]
    n_new_B: npt.NDArray[np.int64]
    light: bool = False


class CausalEngine(Protocol):
    """A loaded causal language model.

    Attributes:
        kind: runner name.
        limits: what it holds.
    """

    kind: str
    limits: CausalLimits

    def run(self, call: CausalCall) -> npt.NDArray[np.float32]:
        """Compute one call; releases the interpreter meanwhile.

        Returns:
            ``logits_BV`` (float32, the caller may write into it) of each row's last new token; rows with ``n_new`` 0 hold
            anything.

        Raises:
            ValueError: the call does not fit; nothing was computed.
            RuntimeError: the runtime failed; the slots of this call hold anything from ``write_index`` on, but numbers.

        A call that fails, or whose logits are not finite, must leave finite keys and values behind: what a mask hides is
        still multiplied by zero, and zero times NaN is NaN, for every later text in the slot.
        """

    def copy(self, source: tuple[int, int], target: tuple[int, int], tokens: int) -> None:
        """Copy the first ``tokens`` of one slot's cache to another slot (capacity, index)."""

    def close(self) -> None:
        """Let go of memory."""
