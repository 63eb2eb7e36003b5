"""Which texts go through an encoder together, under whatever waits."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.cost import CostModel
from server.batching.token_batches import (
    BULK_EVERY_S,
    MAX_ROWS,
    Choice,
    Pending,
    TokenBudget,
    TokenQueue,
)

COST = CostModel(0.001, 0.0001)  # a batch costs as much as ten tokens of padding
BUDGET = TokenBudget(live_tokens=128, bulk_tokens=48, width_tokens=10)

lengths = st.lists(st.integers(1, 200), min_size=1, max_size=12)
requests = st.lists(
    st.tuples(
        lengths,
        st.integers(0, 1),  # group
        st.sampled_from([0.0, 0.004, 0.02, 0.1, 1.0, math.inf, math.nan]),  # deadline, from arrival
        st.booleans(),  # bulk
        st.floats(0.0, 0.02),  # time until the next one
    ),
    min_size=1,
    max_size=12,
)


class Waiting:
    """A queue filled in order of arrival, and what is in it."""

    def __init__(self) -> None:
        self.queue = TokenQueue()
        self.now = 100.0
        self.all: list[Pending] = []
        self.given: dict[int, list[int]] = {}

    def add(
        self, texts: list[int], *, group: int = 0, within_s: float = math.inf, bulk: bool = False
    ) -> Pending:
        pending = Pending(
            texts,
            order=len(self.all),
            group=group,
            arrived_s=self.now,
            deadline_s=self.now + within_s,
            bulk=bulk,
        )
        self.all.append(pending)
        self.given[pending.order] = texts
        self.queue.add(pending, self.now, COST, BUDGET)
        return pending

    def choose(self) -> Choice:
        return self.queue.choose(self.now, self.now, COST, BUDGET)

    def take(self, choice: Choice) -> dict[int, list[int]]:
        places = self.queue.take(choice, self.now, COST, BUDGET)
        return {share.pending.order: own for share, own in zip(choice.shares, places, strict=True)}

    def run(self) -> dict[int, list[int]]:
        """One batch: what it has of whom; those who are late leave."""
        choice = self.choose()
        for pending in choice.late:
            self.queue.remove(pending)
        taken = self.take(choice)
        self.now += COST.predict_s(choice.padded_tokens)
        return taken


def filled(case: list[tuple[list[int], int, float, bool, float]]) -> Waiting:
    world = Waiting()
    for texts, group, within_s, bulk, gap_s in case:
        world.add(texts, group=group, within_s=within_s, bulk=bulk)
        world.now += gap_s
    return world


@settings(max_examples=300, deadline=None)
@given(requests)
def test_a_batch_fits_the_budget_and_keeps_every_promise(
    case: list[tuple[list[int], int, float, bool, float]],
) -> None:
    """Whatever waits: within the budget, one version, one kind, little padding, nobody predicted late."""
    world = filled(case)

    choice = world.choose()

    members = [share.pending for share in choice.shares]
    texts = [length for one, first, last in choice.shares for length in one.lengths[first:last]]
    limit = BUDGET.bulk_tokens if choice.bulk else BUDGET.live_tokens
    assert len(texts) == choice.rows <= MAX_ROWS and choice.longest == max(texts, default=0)
    assert choice.padded_tokens <= limit or choice.rows == 1
    assert len({one.group for one in members}) <= 1
    assert all(one.bulk == choice.bulk for one in members)
    assert all(choice.longest - length <= BUDGET.width_tokens for length in texts)
    assert not set(map(id, choice.late)) & set(map(id, members))
    end_s = world.now + COST.predict_s(choice.padded_tokens)
    assert all(end_s <= one.deadline_s + 1e-9 for one in members)
    assert all(not world.now + COST.predict_s(one.tokens) <= one.deadline_s for one in choice.late)
    on_time = [one for one in world.all if id(one) not in set(map(id, choice.late))]
    assert bool(members) == bool(on_time)
    assert not (choice.bulk and any(not one.bulk for one in on_time))  # less than BULK_EVERY_S has passed


@settings(max_examples=200, deadline=None)
@given(requests, st.lists(st.integers(0, 11), max_size=4))
def test_every_text_is_computed_once_or_its_request_has_left(
    case: list[tuple[list[int], int, float, bool, float]], leavers: list[int]
) -> None:
    """Batch after batch, until nothing waits: each text of who was not late and did not leave, exactly once."""
    world = filled(case)
    computed: dict[int, list[int]] = {one.order: [] for one in world.all}
    gone = set()

    for turn in range(10_000):
        if not len(world.queue):
            break
        if turn < len(leavers) and leavers[turn] < len(world.all):
            gone.add(leavers[turn])
            world.queue.remove(world.all[leavers[turn]])
        before = {one.order for one in world.queue}
        late = {one.order for one in world.choose().late}
        gone |= late
        for order, places in world.run().items():
            assert order in before - late
            computed[order] += places

    assert not len(world.queue) and not world.queue.live_tokens and not world.queue.bulk_tokens
    for one in world.all:
        assert len(computed[one.order]) == len(set(computed[one.order]))
        if one.order not in gone:
            assert sorted(computed[one.order]) == list(range(len(world.given[one.order])))


def test_a_short_question_is_never_padded_to_a_long_page() -> None:
    """A question of 8 tokens that waits beside a page of 120 runs without it."""
    world = Waiting()
    question, page = world.add([8]), world.add([120])

    assert world.run() == {question.order: [0]}
    assert world.run() == {page.order: [0]}


def test_texts_of_nearly_one_length_share_a_batch() -> None:
    """What a batch of its own would cost more than the padding rides along, a little longer or shorter."""
    world = Waiting()
    for texts in ([12], [14], [9], [40]):
        world.add(texts)

    assert sorted(world.run()) == [0, 1, 2]


def test_a_short_question_overtakes_a_request_of_many_texts() -> None:
    """A question that comes a moment after a thousand passages waits for one batch of them, not for all."""
    world = Waiting()
    passages = world.add([20] * 1000)
    world.run()
    question = world.add([8])

    assert question.order in world.run()
    assert passages.order in world.run()


def test_a_question_does_not_wait_for_texts_of_a_request_that_goes_on() -> None:
    """Others join a batch with all that they have left, or not at all; what ends with it may ride along."""
    world = Waiting()
    question, other = world.add([10]), world.add([10, 11])
    passages = world.add([10] * 100)

    assert set(world.run()) == {question.order, other.order}
    assert set(world.run()) == {passages.order}


def test_nobody_waits_for_ever_behind_newcomers() -> None:
    """However many short questions keep coming, a request of long texts gets on."""
    world = Waiting()
    page = world.add([100, 100])
    for _ in range(200):
        world.add([8], within_s=1.0)
        world.add([8], within_s=0.05)
        world.run()
        if not page.lengths:
            break

    assert not page.lengths


def test_bulk_work_runs_when_nobody_live_waits() -> None:
    """Indexing yields to every question that is there."""
    world = Waiting()
    bulk = world.add([10] * 8, bulk=True)
    live = world.add([10])

    assert list(world.run()) == [live.order]
    assert list(world.run()) == [bulk.order]


def test_bulk_work_gets_a_batch_a_second_under_any_live_load() -> None:
    """Live traffic that never ends does not keep an index from ever being finished."""
    world = Waiting()
    bulk = world.add([10] * 8, bulk=True)
    batches = 0
    began = world.now
    while bulk.lengths:
        for _ in range(20):
            world.add([30])
        batches += bulk.order in world.run()
        assert world.now < began + 10 * BULK_EVERY_S

    assert batches == 2 and world.now - began >= BULK_EVERY_S


def test_a_batch_of_bulk_work_is_short() -> None:
    """Whoever comes during it waits for its end, so it has a budget of its own."""
    world = Waiting()
    world.add([10] * 100, bulk=True)

    assert world.choose().padded_tokens <= BUDGET.bulk_tokens


def test_a_batch_is_as_small_as_its_earliest_deadline_asks() -> None:
    """Company that would make one of them late is left for the next batch."""
    world = Waiting()
    world.add([10], within_s=0.0025)
    for _ in range(5):
        world.add([10], within_s=1.0)

    assert world.choose().rows == 1


def test_a_late_request_is_told_before_it_is_computed() -> None:
    """Who cannot be on time any more costs nobody an engine's time."""
    world = Waiting()
    late = world.add([100], within_s=0.005)

    choice = world.choose()

    assert choice.late == [late] and not choice.shares
