"""Which texts are computed in the next step, and where: decisions as data, with no clock, engine or loop in it.

A step computes one token of every text that has begun, and of the time that the inter-token objective leaves, chunks of
the most urgent prompts. Rules that must not be undone by accident:

* **Texts under way come first.** A prompt delays them by no more than the objective; but a step computes at least
  ``min_chunk`` of the first prompt, or nobody new would ever begin.
* **Urgency is priority, then age.** A text gains a level for each ``patience_s`` that it waits, without a bound: so nobody
  starves, not behind urgent texts and not by being preempted for them. Within a level: prompts that are begun, then the
  tenant that was served least, then the earliest deadline, then the order of arrival.
* **A repeatable text is computed by place.** Where the engine has a light graph, its prompt is computed in the engine's own
  graph to the last token and its answer in the light one, also when it is computed again; and a prefix is of use to it as
  far as the engine's own graph computed it. So neither batches, chunks, preemption nor the cache change its text.
* **A text that finished stays.** Its slot is a cached prefix until it is needed; see ``kv_slots`` and ``prefix_cache``.

Source:
    Yu et al., "Orca", OSDI 2022 (steps as the unit); Agrawal et al., "Sarathi-Serve", OSDI 2024 (chunks that keep the
    inter-token time).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from server.batching.call_rows import PromptCalls, decode_calls
from server.batching.fair_share import ANSWER_WEIGHT, FairShare
from server.batching.kv_slots import KvSlots, Pool, Slot, usable
from server.batching.prefix_cache import Hit, lookup, shared_prefix
from server.batching.text_model import TextLimits
from server.batching.token_cost import TokenCosts
from server.batching.token_policy import better_rows, chunk, decode_s, place
from server.batching.token_step import CopySlot, Step, TextJob
from server.engines.causal import CausalLimits

ALONE = 2.0  # a step with nobody under way may take this many times the inter-token objective


class TokenScheduler:
    """The books of one engine. One thread uses it; ``plan`` and what follows from its step alternate.

    Attributes:
        jobs: texts that have not ended, by key.
        slots: the books of the cache.
        costs: of the engine; whoever runs the calls teaches them.
    """

    def __init__(self, engine: CausalLimits, limits: TextLimits, costs: TokenCosts) -> None:
        self._engine, self._limits = engine, limits
        self.costs = costs
        self.slots = KvSlots(engine.pools)
        self.jobs: dict[int, TextJob] = {}
        self._fair = FairShare()
        self._pinned: list[Slot] = []
        self._tidied: dict[int, list[int]] = {}  # active rows for which no move was found to pay

    def add(self, job: TextJob) -> None:
        """Take a text up; it waits."""
        self.jobs[job.key] = job
        self._fair.enter(job.tenant)

    def accept(self, key: int, token: int) -> bool:
        """Say which token a text was given; False when it has no room for more."""
        job = self.jobs[key]
        job.tokens.append(token)
        self._fair.charge(job.tenant, ANSWER_WEIGHT)
        if job.slot is not None and len(job.tokens) <= job.slot[0]:
            self.slots.pools[job.slot[0]].ids_NS[job.slot[1], len(job.tokens) - 1] = token
        return len(job.tokens) < job.most_tokens

    def end(self, key: int, *, keep: bool = True) -> None:
        """A text has ended: its slot is free, or a cached prefix.

        Args:
            key: of the text; one that has ended already is ignored.
            keep: whether what its slot holds is right.
        """
        job = self.jobs.pop(key, None)
        if job is None:
            return
        self._fair.leave(job.tenant)
        if job.slot is not None:
            self.slots.release(job.slot, key, keep=keep)
            job.slot = None

    def plan(self, now_s: float) -> Step:
        """Decide the next step. An empty one (no operations) means that there is nothing to compute."""
        step = Step()
        for slot in self._pinned:
            self.slots.unpin(slot)
        self._pinned.clear()
        self._expire(now_s, step)
        if not self.jobs:
            return step
        self._tidy(step)
        self._begin(now_s, step)
        for pool in self.slots.pools.values():
            if pool.active:
                ready = [job for job in self._writers(pool) if self._decodes(job)]
                if ready:
                    decode_calls(pool, ready, self.costs, step)
        step.slots_in_use = self.slots.in_use()
        step.waiting = len(self.jobs) - step.slots_in_use
        return step

    def level(self, job: TextJob, now_s: float) -> int:
        """Urgency; less is more urgent."""
        return job.priority - int(max(0.0, now_s - job.arrived_s) / self._limits.patience_s)

    def _writers(self, pool: Pool) -> list[TextJob]:
        return [self.jobs[key] for index in pool.active if (key := pool.writers[index]) is not None]

    def _expire(self, now_s: float, step: Step) -> None:
        late = [
            job.key for job in self.jobs.values() if job.first_token_at_s <= now_s and not job.answer_tokens
        ]
        for key in late:
            self.end(key)
        step.expired = late

    def _begin(self, now_s: float, step: Step) -> None:
        under_way_s, candidates = self._sort_out(now_s)
        if not candidates:
            return
        limits = self._limits
        calls = PromptCalls(self.slots, self.costs, step)
        alone = under_way_s == 0.0
        left_s = limits.inter_token_s * ALONE if alone else limits.inter_token_s - under_way_s
        left_tokens = limits.max_step_tokens
        blocked = math.inf
        unfinished: list[TextJob] = []  # prompts of which this step computes a part
        for job in candidates:
            if job.slot is None:
                if left_tokens <= 0 or (left_s <= 0.0 and unfinished):
                    continue
                need = self._need(job)
                if need >= blocked or self._is_coming(job, unfinished, calls):
                    continue
                if not self._start(job, need, now_s, step, calls):
                    blocked = need
                    continue
            elif _outgrown(job):
                need = self._need(job)
                if need >= blocked or not self._grow(job, need, now_s, step, calls):
                    blocked = min(blocked, need)
                continue
            if self._decodes(job):
                continue
            spent, seconds = self._compute(job, left_tokens, left_s, calls, first=not unfinished)
            if not spent:
                left_tokens = 0  # whoever is less urgent may not overtake with a shorter rest
                continue
            step.touched.add(job.key)
            unfinished.append(job)
            left_tokens, left_s = left_tokens - spent, left_s - seconds
        calls.flush()

    def _compute(
        self, job: TextJob, left_tokens: int, left_s: float, calls: PromptCalls, *, first: bool
    ) -> tuple[int, float]:
        """Plan chunks of one prompt: tokens, and predicted seconds; the first prompt of a step gets some in any case."""
        assert job.slot is not None
        sizes = (self._limits.min_chunk, self._engine.max_chunk)
        spent, seconds = 0, 0.0
        while left_tokens > spent and not self._decodes(job) and job.filled < len(job.tokens):
            pending, light = len(job.tokens) - job.filled, False
            if self._by_place(job):
                light = job.filled >= job.prompt_tokens
                pending = pending if light else job.prompt_tokens - job.filled
            tokens = chunk(pending, left_s - seconds, left_tokens - spent, self.costs, job.slot[0], sizes)
            if not tokens:
                if spent or not first:
                    break
                tokens = min(pending, *sizes)
            calls.add(job, tokens, light=light)
            spent += tokens
            seconds += self.costs.call_s(job.slot[0], 1, tokens)
            if tokens < self._engine.max_chunk or tokens == pending:
                break
            calls.flush()  # the next chunk reads it
        return spent, seconds

    def _is_coming(self, job: TextJob, computed: Sequence[TextJob], calls: PromptCalls) -> bool:
        """Whether this step computes a part of a prompt that this one begins with, and more of it comes later."""
        if not computed:
            return False
        shared = shared_prefix(job.prompt_ids, (other.prompt_ids for other in computed))
        for _ in range(2):
            hit = self._hit(job)
            if shared - (0 if hit is None else hit.tokens) < self._limits.min_chunk:
                return False
            calls.flush()  # then its tokens count as computed
        return True

    def _sort_out(self, now_s: float) -> tuple[float, list[TextJob]]:
        under_way: dict[int, list[int]] = {}
        candidates: list[TextJob] = []
        waiting: list[TextJob] = []
        for job in self.jobs.values():
            if job.slot is None:
                waiting.append(job)
            elif self._decodes(job):
                under_way.setdefault(job.slot[0], []).append(job.slot[1])
            else:
                candidates.append(job)
        if waiting and self._may_begin(waiting, now_s):
            candidates += waiting
        seconds = 0.0
        for capacity, rows in under_way.items():
            line = self.costs.decode_line(capacity, len(rows))
            seconds += decode_s(sorted(rows), line.base_s, line.per_item_s)
        if len(candidates) > 1:
            served = self._fair.served
            candidates.sort(
                key=lambda job: (
                    self.level(job, now_s),
                    job.slot is None,
                    served(job.tenant),
                    job.first_token_at_s,
                    job.key,
                )
            )
        return seconds, candidates

    def _may_begin(self, waiting: Sequence[TextJob], now_s: float) -> bool:
        pools = self.slots.pools.values()
        if any(len(pool.active) < len(pool) for pool in pools):
            return True
        lowest = max(self.level(job, now_s) for pool in pools for job in self._writers(pool))
        # Cheaper than their levels, and never above them: a full engine asks this of hundreds in every step.
        oldest_s = min(job.arrived_s for job in waiting)
        urgency = min(job.priority for job in waiting)
        return urgency - int(max(0.0, now_s - oldest_s) / self._limits.patience_s) < lowest

    def _by_place(self, job: TextJob) -> bool:
        return self._engine.light and job.repeatable

    def _decodes(self, job: TextJob) -> bool:
        if len(job.tokens) - job.filled != 1 or _outgrown(job):
            return False
        return job.answer_tokens > 0 or not self._by_place(job)

    def _hit(self, job: TextJob) -> Hit | None:
        if not self._by_place(job):
            return lookup(self.slots, job.prompt_ids)
        # A preempted text has its answer in ``prompt_ids``; the token before the first of it is looked up too.
        return lookup(self.slots, job.prompt_ids[: job.prompt_tokens + (job.answer_tokens > 0)], own=True)

    def _need(self, job: TextJob) -> int:
        return min(len(job.tokens) + self._limits.answer_tokens, job.most_tokens) - 1

    def _start(self, job: TextJob, need: int, now_s: float, step: Step, calls: PromptCalls) -> bool:
        if not self._make_room(job, need, now_s, step):
            return False
        hit = self._hit(job)
        slot = self._place(job, need, hit)
        if hit is not None and hit.slot != slot and not self._copy_pays(slot, hit.tokens):
            hit = None
        kept = 0 if hit is None else hit.tokens
        if hit is not None:
            self.slots.pools[hit.slot[0]].hits[hit.slot[1]] += 1
            self.slots.touch(hit.slot)
        if hit is not None and hit.slot == slot:
            self.slots.take(slot, job.key, kept)
            self.slots.pools[slot[0]].hits[slot[1]] = 1
        else:
            self.slots.take(slot, job.key)
            if hit is not None:
                self._copy(hit.slot, slot, kept, job, calls)
        job.slot, job.filled = slot, kept
        step.touched.add(job.key)
        self.slots.write(slot, job.tokens)
        if job.began_s is None:
            job.began_s = now_s
            job.cached = min(kept, job.prompt_tokens)
            self._fair.charge(job.tenant, job.prompt_tokens - job.cached)
            step.prefix_asked += job.prompt_tokens
            step.cached_tokens += job.cached
        return True

    def _copy_pays(self, slot: Slot, tokens: int) -> bool:
        return self.costs.copy.predict_s(tokens) <= self.costs.prompt[slot[0]].per_item_s * tokens

    def _grow(self, job: TextJob, need: int, now_s: float, step: Step, calls: PromptCalls) -> bool:
        assert job.slot is not None
        over = job.slot[0]
        if not self._make_room(job, need, now_s, step, over):
            return False
        self._move(job, self._place(job, need, Hit(job.slot, job.filled), over), calls)
        step.touched.add(job.key)
        return True

    def _move(self, job: TextJob, target: Slot, calls: PromptCalls) -> None:
        source = job.slot
        assert source is not None
        self.slots.take(target, job.key)
        self._copy(source, target, job.filled, job, calls)
        self.slots.release(source, job.key, keep=False)
        job.slot = target
        self.slots.write(target, job.tokens)

    def _copy(self, source: Slot, target: Slot, tokens: int, job: TextJob, calls: PromptCalls) -> None:
        calls.copy(CopySlot(source, target, tokens, job.key))
        self.slots.pin(source)
        self._pinned.append(source)
        self.slots.copied(source, target, tokens)

    def _place(self, job: TextJob, need: int, hit: Hit | None, over: int = 0) -> Slot:
        found = place(self.slots, self.costs, need, job.most_tokens - len(job.tokens), hit, over=over)
        assert found is not None
        return found.slot

    def _make_room(self, job: TextJob, need: int, now_s: float, step: Step, over: int = 0) -> bool:
        """Whether there is a slot for a text; the least urgent text gives up its own where that is less urgent."""
        pools = [pool for pool in self.slots.pools.values() if pool.usable >= need and pool.capacity > over]
        if any(pool.open_slots() for pool in pools):
            return True
        urgency = self.level(job, now_s)
        victims = [
            other
            for pool in pools
            for other in self._writers(pool)
            if self.level(other, now_s) > urgency
            and not pool.pins[_index(other)]
            and other.key not in step.touched
        ]
        if not victims:
            return False
        victim = max(victims, key=lambda other: (self.level(other, now_s), other.key))
        assert victim.slot is not None
        self.slots.release(victim.slot, victim.key, keep=True)
        victim.slot, victim.filled = None, 0
        victim.prompt_ids = np.array(victim.tokens, np.int64)
        victim.preempted += 1
        step.preemptions += 1
        return True

    def _tidy(self, step: Step) -> None:
        for capacity, pool in self.slots.pools.items():
            active = pool.active
            if (
                not active
                or active[-1] - active[0] + 1 == len(active)
                or self._tidied.get(capacity) == active
            ):
                continue
            ends: Sequence[TextJob] = [self._writers(pool)[0], self._writers(pool)[-1]]
            left = [(_index(job), job.filled, job.most_tokens - len(job.tokens)) for job in ends]
            move = better_rows(self.slots, self.costs, pool, left)
            if move is None:
                self._tidied[capacity] = list(active)
                continue
            job = next(job for job in ends if _index(job) == move.source)
            calls = PromptCalls(self.slots, self.costs, step)
            self._move(job, (capacity, move.target), calls)
            step.touched.add(job.key)


def _outgrown(job: TextJob) -> bool:
    return job.slot is not None and job.filled >= usable(job.slot[0])


def _index(job: TextJob) -> int:
    assert job.slot is not None
    return job.slot[1]
