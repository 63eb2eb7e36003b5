"""When a new text would have its first token: what admission asks before any work. Pure.

Two queues stand before a text: prompt tokens that are computed before its own, at the rate that texts under way leave
to prompts; and slots, when all that it fits in are written. The longer one counts. Whether it is a refusal is decided by
what *others* ask for: a prompt that alone takes longer than the objective is not told to come back later.

Units: seconds on the caller's clock, and tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.batching.kv_slots import usable
from server.batching.text_model import TextLimits
from server.batching.token_cost import TokenCosts
from server.batching.token_step import TextJob
from server.errors import Overloaded, ServeError

HEADROOM = (
    0.9  # of the objective: a forecast is right in the middle, and half of those at the limit would be late
)
LOOK_BACK = 4  # newest texts whose prompts a new one is compared with
BIAS_MEMORY = 0.9
BIAS_RANGE = (0.5, 3.0)


class TooLate(Overloaded):
    """Admission refused: its first token would come later than the objective."""

    def __init__(self, name: str, expected_s: float, objective_s: float, retry_after_s: float) -> None:
        ServeError.__init__(
            self,
            f"{name}: the first token would come in {expected_s:.3g} s, the objective is {objective_s:.3g} s; "
            f"retry in {retry_after_s:.3g} s",
            limit=f"{objective_s:.3g} s",
            retry_after_s=retry_after_s,
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until a text's first token: behind others, by itself, and one step as it is now."""

    wait_s: float
    own_s: float
    step_s: float

    @property
    def total_s(self) -> float:
        """Until the first token."""
        return self.wait_s + self.own_s

    def refused(self, objective_s: float) -> float | None:
        """Seconds after which it should be tried again, when it is refused; None when it is let in."""
        if self.total_s <= HEADROOM * objective_s or self.wait_s <= self.step_s:
            return None
        return max(self.step_s, min(self.total_s - HEADROOM * objective_s, self.wait_s))


class Backlog:
    """What the texts that have been let in teach about those that come.

    Attributes:
        answer_share: of ``max_tokens`` that answers use.
        bias: measured times to first token over predicted ones.
    """

    __slots__ = ("answer_share", "bias")

    def __init__(self) -> None:
        self.answer_share = 1.0
        self.bias = 1.0

    def began(self, predicted_s: float, actual_s: float) -> None:
        """A text that had waited has its first token."""
        if predicted_s > 0.0 and 0.0 <= actual_s < float("inf"):
            low, high = BIAS_RANGE
            ratio = self.bias * min(max(actual_s / predicted_s, low), high)
            self.bias = min(max(BIAS_MEMORY * self.bias + (1.0 - BIAS_MEMORY) * ratio, low), high)

    def ended(self, answer_tokens: int, most_tokens: int) -> None:
        """A text has ended by itself."""
        share = min(1.0, answer_tokens / max(1, most_tokens))
        self.answer_share = BIAS_MEMORY * self.answer_share + (1.0 - BIAS_MEMORY) * share

    def forecast(
        self,
        jobs: Iterable[TextJob],
        mine: TextJob,
        pools: Mapping[int, int],
        costs: TokenCosts,
        limits: TextLimits,
        now_s: float,
    ) -> Forecast:
        """When ``mine`` would have its first token.

        Args:
            jobs: texts that have not ended; their numbers may be a step old.
            mine: the new one, with ``expected_cached`` set.
            pools: slots by capacity.
            costs: of the engine.
            limits: the objectives.
            now_s: the time.
        """
        need = min(len(mine.tokens) + limits.answer_tokens, mine.most_tokens) - 1
        fitting = {capacity for capacity in pools if usable(capacity) >= need}
        open_slots = sum(pools[capacity] for capacity in fitting)
        rows: dict[int, int] = {}
        left: list[float] = []
        pending = queued = 0
        for job in jobs:
            slot, answered = job.slot, job.answer_tokens
            urgent = job.priority - int(max(0.0, now_s - job.arrived_s) / limits.patience_s) <= mine.priority
            if slot is not None and slot[0] in fitting and urgent:
                open_slots -= 1
                expected = (job.most_tokens - job.prompt_tokens) * self.answer_share
                left.append(max(1.0, expected - answered))
            if answered and slot is not None:
                rows[slot[0]] = rows.get(slot[0], 0) + 1
            elif urgent:
                found = job.filled if slot is not None else job.expected_cached
                pending += max(1, len(job.tokens) - found)
                queued += slot is None
        capacity = min(fitting)
        under_way_s, step_s, token_s = _pace(rows, capacity, costs, limits)
        behind = queued + 1 - open_slots
        wait_s = pending * token_s
        if behind > 0:
            steps = _slot_wait(sorted(left), behind, mine, self.answer_share)
            prompts_s = pending * costs.prompt[capacity].per_item_s
            wait_s = max(wait_s, steps * under_way_s + prompts_s)
        own = max(1, len(mine.tokens) - mine.expected_cached)
        own_s = costs.prompt[capacity].base_s + own * token_s + (step_s if rows or pending else 0.0)
        return Forecast(wait_s * self.bias, own_s, step_s)


def _pace(
    rows: Mapping[int, int], capacity: int, costs: TokenCosts, limits: TextLimits
) -> tuple[float, float, float]:
    """Seconds of a step without prompts, of one while prompts wait, and that a prompt token takes then."""
    under_way_s = sum(costs.decode_line(pool, count).predict_s(count) for pool, count in rows.items())
    line = costs.prompt[capacity]
    room_s = limits.inter_token_s * (1.0 if rows else 2.0) - under_way_s
    tokens = max(limits.min_chunk, line.fits(room_s, limits.max_step_tokens), 1)
    step_s = under_way_s + line.predict_s(tokens)
    return under_way_s, step_s, step_s / tokens


def _slot_wait(left: Sequence[float], behind: int, mine: TextJob, share: float) -> float:
    """Steps until the ``behind``-th slot comes free; beyond those that are taken now, by whole rounds of texts."""
    if not left:
        return 0.0
    rounds, place = divmod(behind - 1, len(left))
    whole = max(1.0, (mine.most_tokens - mine.prompt_tokens) * share)
    return left[place] + rounds * whole
