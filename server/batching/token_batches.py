"""Which texts go through an encoder together: a pure policy over everything that waits, with no clock and no engine in it.

A batch is a rectangle, as wide as its longest text, so that a short question beside a long page is computed as if it were
as long. Five rules that must not be undone by accident:

* **Length.** A text rides along where the padding that it costs, its own or what it makes others pay, is less than the fixed
  cost of a batch of its own; else it waits for its own. That is one width around the head of the queue, in tokens, and no
  table of buckets.
* **Company.** Another request joins with all the texts that it has left, or not at all: who ends with this batch does not wait
  for texts of somebody who does not.
* **Order.** Who is first is who must be: a request is due ``PATIENCE`` times its next batch's time after it came, and no later
  than the last moment at which it could begin to be on time. So a short question overtakes a page of a thousand texts that
  came a little before, and the page is not overtaken for ever, because its due time stands still. A request of many texts
  gets a batch, and is due anew.
* **Live before bulk.** Bulk work runs when nobody live waits, in batches that are short, because whoever comes next waits
  for their end; and once in ``BULK_EVERY_S`` in any case.
* **Late is told now.** Whoever cannot be on time is given up before its texts are computed.

Units: tokens, padding included where a batch is meant; seconds on the caller's monotonic clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from server.batching.cost import CostModel

PATIENCE = 4.0
BULK_EVERY_S = 1.0
MAX_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBudget:
    """How large a batch may be.

    Attributes:
        live_tokens: longest text times texts (> 0); a single text may be longer, and is then alone.
        bulk_tokens: the same of a batch of bulk work (> 0).
        width_tokens: padding that costs as much as a batch of its own (> 0): texts of one batch differ by no more. It is
            measured once, in quiet: a cost that is learnt beside other work mistakes their noise for it.

    Raises:
        ValueError: a number is out of range; names it.
    """

    live_tokens: int
    bulk_tokens: int
    width_tokens: int = 8

    def __post_init__(self) -> None:
        for name in ("live_tokens", "bulk_tokens", "width_tokens"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} = {value}, must be > 0")


class Pending:
    """What waits of one request.

    Attributes:
        order: of arrival.
        group: texts of different groups never share a batch (versions of a model).
        arrived_s, deadline_s: when it came, and from when on it is of no use; inf: none, NaN: it never was.
        bulk: whether it waits behind all that is live.
        lengths: of the texts that wait, ascending.
        places: of those texts in the request.
        tokens: sum of ``lengths``.
        due_s: whose turn is earlier.
    """

    __slots__ = (
        "arrived_s", "bulk", "deadline_s", "due_s", "group", "lengths", "order", "places", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        order: int,
        group: int,
        arrived_s: float,
        deadline_s: float,
        bulk: bool,
    ) -> None:
        self.order, self.group, self.bulk = order, group, bulk
        self.arrived_s, self.deadline_s = arrived_s, deadline_s
        self.places = sorted(range(len(lengths)), key=lengths.__getitem__)
        self.lengths = [lengths[place] for place in self.places]
        self.tokens = sum(lengths)
        self.due_s = arrived_s

    def key(self) -> tuple[float, int]:
        """What it is sorted by."""
        return self.due_s, self.order


class Share(NamedTuple):
    """Texts of one request in a batch: ``lengths[first:last]``."""

    pending: Pending
    first: int
    last: int


class Choice(NamedTuple):
    """What to do.

    Attributes:
        late: requests that cannot be on time.
        shares: of the batch; empty: there is nothing to compute.
        rows: texts in it.
        longest: tokens of its longest text.
        bulk: whether it is one of bulk work.
    """

    late: list[Pending]
    shares: list[Share]
    rows: int
    longest: int
    bulk: bool

    @property
    def padded_tokens(self) -> int:
        """What is computed."""
        return self.rows * self.longest


class TokenQueue:
    """Everything that waits for one engine."""

    __slots__ = ("_bulk", "_bulk_from_s", "_live", "bulk_tokens", "live_tokens")

    def __init__(self) -> None:
        self._live: list[Pending] = []
        self._bulk: list[Pending] = []
        self._bulk_from_s = 0.0  # when bulk work was served last, or began to wait
        self.live_tokens = self.bulk_tokens = 0

    def __len__(self) -> int:
        return len(self._live) + len(self._bulk)

    def __iter__(self) -> Iterator[Pending]:
        yield from self._live
        yield from self._bulk

    def texts(self) -> int:
        """How many wait."""
        return sum(len(pending.lengths) for pending in self)

    def ahead_tokens(self, tokens: int, *, bulk: bool) -> int:
        """About what is computed of others before a request of so many tokens has all of its own.

        Turns go round: while it gets its tokens, each other one gets as many, or what it has left.
        """
        ahead = sum(min(one.tokens, tokens) for one in (self._bulk if bulk else self._live))
        return ahead + self.live_tokens if bulk else ahead

    def add(self, pending: Pending, now_s: float, cost: CostModel, budget: TokenBudget) -> None:
        """Let a request wait."""
        if pending.bulk and not self._bulk:
            self._bulk_from_s = now_s
        self._insert(pending, now_s, cost, budget)

    def remove(self, pending: Pending) -> None:
        """Forget a request: it left, or has its outcome; one that does not wait is none's loss."""
        line = self._bulk if pending.bulk else self._live
        place = bisect_left(line, pending.key(), key=Pending.key)
        if place < len(line) and line[place] is pending:
            del line[place]
            self._count(pending, -pending.tokens)

    def choose(self, now_s: float, start_s: float, cost: CostModel, budget: TokenBudget) -> Choice:
        """Decide about everything that waits; changes nothing.

        Args:
            now_s: the time.
            start_s: when the engine is predicted to be free for this batch (>= now).
            cost: seconds of a batch by its tokens, padding included.
            budget: of a batch.
        """
        late = [one for one in self if not start_s + cost.predict_s(one.tokens) <= one.deadline_s]
        live, bulk = self._live, self._bulk
        if late:
            gone = set(map(id, late))
            live = [one for one in live if id(one) not in gone]
            bulk = [one for one in bulk if id(one) not in gone]
        overdue = not -BULK_EVERY_S < now_s - self._bulk_from_s < BULK_EVERY_S
        is_bulk = bool(bulk) and (not live or overdue)
        line = bulk if is_bulk else live
        if not line:
            return Choice(late, [], 0, 0, False)
        return _fill(late, line, start_s, cost, budget, is_bulk)

    def take(self, choice: Choice, now_s: float, cost: CostModel, budget: TokenBudget) -> list[list[int]]:
        """Take a batch out of what waits; returns, by share, the places of its texts in their request."""
        if choice.bulk:
            self._bulk_from_s = now_s
        taken = []
        for pending, first, last in choice.shares:
            self.remove(pending)
            taken.append(pending.places[first:last])
            pending.tokens -= sum(pending.lengths[first:last])
            del pending.lengths[first:last], pending.places[first:last]
            if pending.lengths:
                self._insert(pending, now_s, cost, budget)
        return taken

    def _insert(self, pending: Pending, now_s: float, cost: CostModel, budget: TokenBudget) -> None:
        next_s = cost.predict_s(min(pending.tokens, budget.live_tokens))
        latest_s = pending.deadline_s - cost.predict_s(pending.tokens)
        due_s = now_s + PATIENCE * next_s
        pending.due_s = latest_s if latest_s < due_s else due_s
        insort(self._bulk if pending.bulk else self._live, pending, key=Pending.key)
        self._count(pending, pending.tokens)

    def _count(self, pending: Pending, tokens: int) -> None:
        if pending.bulk:
            self.bulk_tokens += tokens
        else:
            self.live_tokens += tokens


def _fill(
    late: list[Pending],
    line: Sequence[Pending],
    start_s: float,
    cost: CostModel,
    budget: TokenBudget,
    is_bulk: bool,
) -> Choice:
    head = line[0]
    line = [one for one in line if one.group == head.group]
    limit = max(budget.bulk_tokens if is_bulk else budget.live_tokens, head.lengths[-1])
    reach = _reach(line, head, min(limit, cost.fits(head.deadline_s - start_s, limit)), budget.width_tokens)
    floor = reach - budget.width_tokens
    most = min(MAX_ROWS, limit // reach)
    shares: list[Share] = []
    rows, longest, earliest_s = 0, 0, head.deadline_s
    for one in line:
        last = bisect_right(one.lengths, reach)
        first = bisect_left(one.lengths, floor, 0, last)
        if first == last:
            continue
        by_s = min(earliest_s, one.deadline_s)
        in_time = cost.fits(by_s - start_s, limit) // reach
        count = min(last - first, most - rows, in_time - rows)
        if not shares:
            count = max(1, count)  # the head is not late, so one of its texts alone is not
        elif count < len(one.lengths):
            continue  # it would not end with this batch, so whoever does need not wait for it
        if count > 0:
            shares.append(Share(one, last - count, last))
            rows += count
            longest = max(longest, one.lengths[last - 1])
            earliest_s = by_s
            if rows >= most:
                break
    return Choice(late, shares, rows, longest, is_bulk)


def _reach(line: Sequence[Pending], head: Pending, limit: int, around: int) -> int:
    """How long the longest text of the batch may be: a little longer than the head's longest, if there is one."""
    longest = head.lengths[-1]
    most = min(longest + around, limit)
    for one in line:
        at = bisect_right(one.lengths, most)
        if at and one.lengths[at - 1] > longest:
            longest = one.lengths[at - 1]
    return longest
