"""A scheduler on a simulated engine, step by step on one thread, with every invariant of the books looked at after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from causal_world import GARBAGE, LIGHT, SimulatedEngine, text_of
from continuous_world import FixedCosts, Greedy

from server.batching.step_runner import StepOutcome, StepRunner
from server.batching.text_model import TextLimits
from server.batching.token_cost import TokenCosts
from server.batching.token_schedule import TokenScheduler
from server.batching.token_step import Step, TextJob
from server.sampling.base import RowSampler
from server.text_domain import GenerateRequest


@dataclass
class Asked:
    prompt: tuple[int, ...]
    most: int
    got: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    repeatable: bool = True


class ScheduleWorld:
    """Texts by key; ``turn`` makes one step."""

    def __init__(
        self,
        pools: Mapping[int, int],
        limits: TextLimits | None = None,
        *,
        max_chunk: int = 8,
        costs: TokenCosts | None = None,
        light: bool = False,
    ) -> None:
        self.engine = SimulatedEngine(pools, max_chunk=max_chunk, light=light)
        self.sampler = Greedy()
        self.now = 0.0
        self.scheduler = TokenScheduler(
            self.engine.limits, limits or TextLimits(), costs or FixedCosts(pools, light=light)
        )
        self.runner = StepRunner("test", self.engine, self.sampler, self.scheduler.costs, lambda: self.now)
        self.asked: dict[int, Asked] = {}
        self.rows: dict[int, RowSampler] = {}
        self.steps: list[Step] = []

    def add(self, prompt: Sequence[int], answer: int, **more: object) -> int:
        key = len(self.asked)
        most = min(len(prompt) + answer, self.engine.limits.max_context)
        more.setdefault("arrived_s", self.now)
        job = TextJob(key=key, tokens=list(prompt), prompt_tokens=len(prompt), most_tokens=most, **more)  # type: ignore[arg-type]
        self.asked[key] = Asked(tuple(prompt), most, repeatable=job.repeatable)
        self.rows[key] = RowSampler(GenerateRequest(prompt_ids=tuple(prompt), max_tokens=answer), None)
        self.scheduler.add(job)
        return key

    def cancel(self, key: int) -> None:
        if key in self.scheduler.jobs:
            self.scheduler.end(key)
            self.asked[key].ends.append("cancelled")

    def turn(self, seconds: float = 0.05) -> tuple[Step, StepOutcome]:
        step = self.scheduler.plan(self.now)
        self.now += seconds
        assert step.operations or not self.scheduler.jobs, "texts wait and nothing is computed"
        self.steps.append(step)
        for key in step.expired:
            self.asked[key].ends.append("expired")
        outcome = self.runner.run(step, self.rows)
        for key, (token, _) in outcome.tokens.items():
            self.asked[key].got.append(token)
            if not self.scheduler.accept(key, token):
                self.scheduler.end(key)
                self.asked[key].ends.append("length")
        for key in outcome.faults:
            self.scheduler.end(key, keep=False)
            self.asked[key].ends.append("failed")
        self.check()
        return step, outcome

    def finish(self, most_steps: int = 3000) -> None:
        while self.scheduler.jobs:
            assert len(self.steps) < most_steps, "no end in sight"
            self.turn()
        self.scheduler.plan(self.now)
        for pool in self.scheduler.slots.pools.values():
            assert pool.active == [] and not any(pool.pins) and set(pool.writers) == {None}, "a slot leaked"
        for asked in self.asked.values():
            assert len(asked.ends) == 1, asked.ends
            light = self.engine.limits.light
            if light and not asked.repeatable:
                continue
            alone = text_of(asked.prompt, asked.most - len(asked.prompt), light=light)
            assert asked.got == alone[: len(asked.got)], "batched is not alone"
            if asked.ends == ["length"]:
                assert asked.got == alone

    def check(self) -> None:
        slots = self.scheduler.slots
        owners: dict[tuple[int, int], int] = {}
        for job in self.scheduler.jobs.values():
            assert len(job.tokens) <= job.most_tokens
            if job.slot is not None:
                assert job.slot not in owners, "two writers in one slot"
                owners[job.slot] = job.key
                pool = slots.pools[job.slot[0]]
                assert pool.filled_N[job.slot[1]] == job.filled <= pool.usable
                known = min(len(job.tokens), pool.capacity)
                assert pool.ids_NS[job.slot[1], :known].tolist() == job.tokens[:known]
        for capacity, pool in slots.pools.items():
            assert pool.active == [i for i, writer in enumerate(pool.writers) if writer is not None]
            for index, writer in enumerate(pool.writers):
                assert owners.get((capacity, index)) == writer
                filled = int(pool.filled_N[index])
                assert 0 <= filled <= pool.usable
                content = self.engine.cache[(capacity, index)][:filled]
                own = int(pool.own_N[index])
                assert own <= filled and all(token < LIGHT for token in content[:own]), "not by the own graph"
                content = [token % LIGHT if token >= 0 else token for token in content]
                assert content == pool.ids_NS[index, :filled].tolist() and GARBAGE not in content
