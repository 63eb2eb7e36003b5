"""A trace of texts in virtual time: the real scheduler and admission over an engine that only takes time.

The times are a line a call and kind, as a half-billion-weight INT4 model takes on two cores.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from server.batching.cost import CostModel
from server.batching.text_admission import TextAdmission
from server.batching.text_model import TextLimits
from server.batching.token_cost import TokenCosts
from server.batching.token_schedule import TokenScheduler
from server.batching.token_step import CopySlot, Step, TextJob
from server.engines.causal import CausalLimits
from server.errors import Overloaded
from server.text_domain import GenerateRequest

VOCAB = 32000


@dataclass
class Told:
    arrival_s: float
    prompt: int
    refused: float | None = None
    first_s: float | None = None
    last_s: float = 0.0
    longest_gap_s: float = 0.0
    tokens: int = 0


class TraceWorld:
    """Runs a trace to its end.

    Attributes:
        told: what each request got.
        steps: every step.
        busy_s: time inside the engine.
    """

    def __init__(
        self,
        pools: Mapping[int, int],
        limits: TextLimits | None = None,
        *,
        decode: tuple[float, float] = (0.011, 0.0046),
        prompt: tuple[float, float] = (0.012, 0.0016),
        copy: tuple[float, float] = (0.0002, 0.00001),
        noise: float = 0.0,
        slower: float = 1.0,
    ) -> None:
        self.limits = limits or TextLimits()
        self._decode, self._prompt, self._copy = decode, prompt, copy
        self._noise, self._pick, self._slower = noise, random.Random(3), slower
        costs = TokenCosts(pools)
        for capacity in pools:
            costs.decode[capacity], costs.prompt[capacity] = CostModel(*decode), CostModel(*prompt)
        costs.copy = CostModel(*copy)
        engine = CausalLimits(vocab_size=VOCAB, pools=dict(pools), max_chunk=256)
        self.scheduler = TokenScheduler(engine, self.limits, costs)
        self.admission = TextAdmission("trace", self.limits)
        self.texts: dict[int, Any] = {}
        self.lane: Any = SimpleNamespace(
            model=SimpleNamespace(engine=SimpleNamespace(limits=engine)),
            scheduler=self.scheduler,
            costs=costs,
            texts=self.texts,
        )
        self.told: dict[int, Told] = {}
        self.steps: list[Step] = []
        self.busy_s = 0.0

    def run(self, requests: Sequence[tuple[float, GenerateRequest]]) -> None:
        now, at = 0.0, 0
        requests = sorted(requests, key=lambda request: request[0])
        while at < len(requests) or self.scheduler.jobs:
            if not self.scheduler.jobs and at < len(requests):
                now = max(now, requests[at][0])
            fresh: list[TextJob] = []
            while at < len(requests) and requests[at][0] <= now:
                self._arrive(*requests[at], fresh)
                at += 1
            for job in fresh:
                self.scheduler.add(job)
            if not self.scheduler.jobs:
                continue
            step = self.scheduler.plan(now)
            seconds = sum(self._seconds(operation) for operation in step.operations)
            self.busy_s += seconds
            end = now + seconds + 0.0002
            while at < len(requests) and requests[at][0] <= end:  # while the engine runs
                self._arrive(*requests[at], fresh := [])
                for job in fresh:
                    self.scheduler.add(job)
                at += 1
            now = end
            self.steps.append(step)
            for key in step.samples:
                self._token(key, now)

    def _arrive(self, arrival_s: float, request: GenerateRequest, fresh: list[TextJob]) -> None:
        job = self.admission.job(request, self.lane, arrival_s)
        self.told[job.key] = told = Told(arrival_s, job.prompt_tokens)
        try:
            self.admission.check_count(job, self.lane, len(self.texts), arrival_s)
            predicted_s = self.admission.check_backlog(job, self.lane, arrival_s)
        except Overloaded as error:
            told.refused = error.retry_after_s
            return
        self.texts[job.key] = SimpleNamespace(job=job, predicted_s=predicted_s)
        fresh.append(job)

    def _token(self, key: int, now: float) -> None:
        told, text = self.told[key], self.texts[key]
        if told.first_s is None:
            told.first_s = now - told.arrival_s
            self.admission.backlog.began(text.predicted_s, told.first_s)
        else:
            told.longest_gap_s = max(told.longest_gap_s, now - told.last_s)
        told.tokens, told.last_s = told.tokens + 1, now
        if not self.scheduler.accept(key, 1 + key % 7):
            job = self.texts.pop(key).job
            self.admission.backlog.ended(told.tokens, job.most_tokens - job.prompt_tokens)
            self.scheduler.end(key)

    def _seconds(self, operation: Any) -> float:
        if isinstance(operation, CopySlot):
            return self._copy[0] + self._copy[1] * operation.tokens
        rows, width = operation.call.input_ids_BT.shape
        base_s, each_s = self._decode if width == 1 else self._prompt
        seconds = (base_s + each_s * rows * width) * self._slower
        seconds *= 1.0 + self._noise * self._pick.random()
        self.scheduler.costs.observe(operation.call.capacity, rows, width, seconds)
        return seconds

    def first_tokens_s(self) -> list[float]:
        return sorted(told.first_s for told in self.told.values() if told.first_s is not None)

    def percentile(self, share: float) -> float:
        values = self.first_tokens_s()
        return values[min(len(values) - 1, int(share * len(values)))]

    def goodput(self, within_s: float) -> float:
        """Answer tokens a second of texts whose first token came in time."""
        good = [told for told in self.told.values() if told.first_s is not None and told.first_s <= within_s]
        end = max(told.last_s for told in self.told.values())
        return sum(told.tokens for told in good) / (end - min(told.arrival_s for told in self.told.values()))


def shop_trace(
    rate: float, count: int, *, shared: int = 400, own: int = 60, answer: int = 64, seed: int = 7, **more: Any
) -> list[tuple[float, GenerateRequest]]:
    """Arrivals by chance, prompts with a common beginning: the customer-service case."""
    pick = np.random.default_rng(seed)
    prefix = pick.integers(300, 31000, shared).tolist()
    at = np.cumsum(pick.exponential(1.0 / rate, count)).tolist()
    return [
        (
            arrival_s,
            GenerateRequest(
                prompt_ids=(*prefix, *pick.integers(300, 31000, own).tolist()), max_tokens=answer, **more
            ),
        )
        for arrival_s in at
    ]
