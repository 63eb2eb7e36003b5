"""A simulated causal engine whose cache is a record of tokens, and whose next token is a function of all of a slot's content.

A wrong cache, a row in the wrong slot or a token too many shows as a wrong text. It refuses every call that a real engine
must not be given, and scribbles over whatever it is allowed to scribble over.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from server.engines.causal import CausalCall, CausalLimits

VOCAB = 97
EOS = 0
GARBAGE = -7
LIGHT = 1000  # added to a token that the light graph computed: it is remembered otherwise


def next_token(content: Sequence[int]) -> int:
    """What the model writes after this content; never ``EOS`` before 4 tokens, sometimes later."""
    state = 17
    for token in content:
        state = (state * 31 + int(token) + 7) % 100_003
    return int(state % VOCAB)


def text_of(prompt: Sequence[int], tokens: int, eos: int | None = None, *, light: bool = False) -> list[int]:
    """What a text is when it is written alone; ``light``: with its answer computed in the light graph."""
    content, written = list(prompt), []
    for _ in range(tokens):
        written.append(next_token(content))
        content.append(written[-1] + (LIGHT if light else 0))
        if written[-1] == eos:
            break
    return written


class SimulatedEngine:
    """Records tokens by slot.

    Attributes:
        cache: content by slot; ``GARBAGE`` where nothing was written.
        fault: raised by the next ``run``.
        nan_calls: how many of the next calls give NaN.
        calls, copies: what was done.
        hold: while cleared, ``run`` does not return.
        inside: whether it is held in ``run``.
    """

    kind = "simulated"

    def __init__(self, pools: Mapping[int, int], *, max_chunk: int = 8, light: bool = False) -> None:
        self.limits = CausalLimits(vocab_size=VOCAB, pools=dict(pools), max_chunk=max_chunk, light=light)
        self.cache = {(cap, i): [GARBAGE] * cap for cap, n in pools.items() for i in range(n)}
        self.fault: BaseException | None = None
        self.nan_calls = 0
        self.calls: list[CausalCall] = []
        self.copies: list[tuple[tuple[int, int], tuple[int, int], int]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.inside = False
        self.closed = False

    def run(self, call: CausalCall) -> np.ndarray:
        self.inside = True
        assert self.hold.wait(20)
        self.inside = False
        rows, width = call.input_ids_BT.shape
        capacity, first = call.capacity, call.first_slot
        if min(rows, width) < 1 or first < 0 or first + rows > self.limits.pools[capacity]:
            raise ValueError(f"rows {first}..{first + rows} of pool {capacity}")
        if (call.write_index_B + width > capacity).any() or (call.write_index_B < 0).any():
            raise ValueError(f"write_index {call.write_index_B} + {width} is over {capacity}")
        if width > self.limits.max_chunk or (call.n_new_B > width).any() or (call.n_new_B < 0).any():
            raise ValueError(f"n_new {call.n_new_B} of {width}, at most {self.limits.max_chunk}")
        assert self.limits.light or not call.light
        self.calls.append(call)
        logits_BV = np.full((rows, VOCAB), np.nan, np.float32)
        fault, self.fault = self.fault, None
        for row in range(rows):
            slot = self.cache[(capacity, first + row)]
            at, new = int(call.write_index_B[row]), int(call.n_new_B[row])
            for i in range(width):  # padding and idle rows are written as well
                slot[at + i] = int(call.input_ids_BT[row, i]) + LIGHT * call.light if i < new else GARBAGE
            if fault is not None:
                slot[at:] = [GARBAGE] * (capacity - at)
            if new:
                content = slot[: at + new]
                assert GARBAGE not in content, f"slot {(capacity, first + row)} reads what was never written"
                logits_BV[row] = 0.0
                logits_BV[row, next_token(content)] = 5.0
        if fault is not None:
            raise fault
        if self.nan_calls:
            self.nan_calls -= 1
            logits_BV[:] = np.nan
        return logits_BV

    def copy(self, source: tuple[int, int], target: tuple[int, int], tokens: int) -> None:
        if tokens > min(source[0], target[0]):
            raise ValueError(f"{tokens} tokens from {source} to {target}")
        self.copies.append((source, target, tokens))
        self.cache[target][:tokens] = self.cache[source][:tokens]

    def close(self) -> None:
        self.closed = True
