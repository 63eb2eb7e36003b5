"""From chosen rows to engine calls: neighbours go together, padded or with idle rows between them where that is cheaper.

Everything here also moves the books on: what a call is going to compute counts as computed from its place in the step on.

Shapes: B rows of a call, T its width. Units: tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.batching.kv_slots import KvSlots, Pool, Slot
from server.batching.token_cost import TokenCosts
from server.batching.token_policy import ranges
from server.batching.token_step import CopySlot, RunCall, Step, TextJob
from server.engines.causal import CausalCall


def decode_calls(pool: Pool, jobs: Sequence[TextJob], costs: TokenCosts, step: Step) -> None:
    """Add the calls that compute one pending token of each job; all have a slot in this pool, ascending."""
    rows = [job.slot[1] for job in jobs if job.slot is not None]
    # What a repeatable text shares a step with must not matter to it: so it has everybody in the light graph.
    line = costs.decode_line(pool.capacity, len(rows), light=any(job.repeatable for job in jobs))
    at = 0
    for first, end in ranges(rows, line.base_s, line.per_item_s):
        begin = at
        while at < len(rows) and rows[at] < end:
            at += 1
        inside = [row - first for row in rows[begin:at]]
        write_index_B = pool.filled_N[first:end].copy()
        n_new_B = np.zeros(end - first, np.int64)
        n_new_B[inside] = 1
        ids_B = pool.ids_NS[np.arange(first, end), write_index_B]
        fixed = any(job.repeatable for job in jobs[begin:at])
        light = costs.choose(pool.capacity, end - first, light=fixed)
        if not light:
            pool.own_N[first:end] += n_new_B * (pool.own_N[first:end] == write_index_B)
        pool.filled_N[first:end] += n_new_B
        for job in jobs[begin:at]:
            job.filled += 1
        keys = [job.key for job in jobs[begin:at]]
        told = tuple(zip(inside, keys, (True,) * len(keys), strict=True))
        call = CausalCall(pool.capacity, first, ids_B[:, None], write_index_B, n_new_B, light)
        step.operations.append(RunCall(call, told))
        step.samples += keys
        step.predicted_s += line.predict_s(end - first)


class PromptCalls:
    """Gathers chunks of prompts into calls of neighbouring rows.

    A chunk waits for the next one until that turns out not to be its neighbour, or to cost more padded than apart.
    """

    def __init__(self, slots: KvSlots, costs: TokenCosts, step: Step) -> None:
        self._slots, self._costs, self._step = slots, costs, step
        self._chunks: list[tuple[TextJob, int]] = []
        self._light = False

    def add(self, job: TextJob, tokens: int, *, light: bool = False) -> None:
        """Compute the next tokens of a job's prompt, or of an answer again that it lost."""
        if self._chunks and (light != self._light or not self._joins(job, tokens)):
            self.flush()
        self._light = light
        self._chunks.append((job, tokens))

    def copy(self, operation: CopySlot) -> None:
        """Add a copy, after the call that computes its source."""
        if any(job.slot == operation.source for job, _ in self._chunks):
            self.flush()
        self._step.operations.append(operation)

    def flush(self) -> None:
        """Make the call that was gathered."""
        if not self._chunks:
            return
        chunks = sorted(self._chunks, key=lambda chunk: _slot(chunk[0])[1])
        self._chunks = []
        capacity, first = _slot(chunks[0][0])
        pool = self._slots.pools[capacity]
        width = max(tokens for _, tokens in chunks)
        ids_BT = np.zeros((len(chunks), width), np.int64)
        write_index_B = pool.filled_N[first : first + len(chunks)].copy()
        n_new_B = np.zeros(len(chunks), np.int64)
        rows = []
        for row, (job, tokens) in enumerate(chunks):
            index = first + row
            ids_BT[row, :tokens] = pool.ids_NS[index, job.filled : job.filled + tokens]
            n_new_B[row] = tokens
            job.filled += tokens
            self._slots.computed((capacity, index), tokens, own=not self._light)
            whole = job.filled == len(job.tokens)
            rows.append((row, job.key, whole))
            if whole:
                self._step.samples.append(job.key)
            self._step.prompt_tokens += tokens
        call = CausalCall(capacity, first, ids_BT, write_index_B, n_new_B, self._light)
        self._step.operations.append(RunCall(call, tuple(rows)))
        self._step.predicted_s += self._costs.call_s(capacity, len(chunks), width)

    def _joins(self, job: TextJob, tokens: int) -> bool:
        capacity, index = _slot(job)
        if capacity != _slot(self._chunks[0][0])[0]:
            return False
        taken = [_slot(other)[1] for other, _ in self._chunks]
        if index not in (min(taken) - 1, max(taken) + 1):
            return False
        old = max(width for _, width in self._chunks)
        width = max(old, tokens)
        if any(other.filled + width > capacity for other, _ in (*self._chunks, (job, tokens))):
            return False
        call_s, rows = self._costs.call_s, len(self._chunks)
        apart_s = call_s(capacity, rows, old) + call_s(capacity, 1, tokens)
        return call_s(capacity, rows + 1, width) <= apart_s


def _slot(job: TextJob) -> Slot:
    assert job.slot is not None
    return job.slot
