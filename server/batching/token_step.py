"""One step of continuous batching as data: what the scheduler decided, and what came of it.

The operations of a step are carried out in their order. That order is part of the decision: a prefix may be copied from a
slot whose tokens are computed by a call before it.

Units: seconds on the caller's clock, and tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from server.batching.kv_slots import Slot
from server.engines.causal import CausalCall


@dataclass(slots=True, kw_only=True, eq=False)
class TextJob:
    """A text as the scheduler sees it.

    Attributes:
        key: unique, ascending in order of arrival.
        tokens: prompt and answer.
        prompt_tokens: how many of them are the prompt.
        most_tokens: of prompt and answer, at most; never more than the context.
        priority: 0 first.
        tenant: whose it is.
        repeatable: it must be the same text whatever else runs. Of two graphs, one computes its prompt and the other its
            answer, by the token's place and nothing else; other texts are decoded in whichever is faster at the moment.
        arrived_s: when it came.
        first_token_at_s: when its first token is of no use any more.
        prompt_ids: the prompt as an array, for looking it up; grows by the answer when it is preempted.
        slot: where it writes; None: it waits.
        filled: its tokens that are computed in its slot.
        cached: prompt tokens that were not computed for it but found.
        expected_cached: prompt tokens that admission expects to be found.
        began_s: when its first token was computed or found; None: not yet.
        preempted: how often it lost its slot.
    """

    key: int
    tokens: list[int]
    prompt_tokens: int
    most_tokens: int
    priority: int = 0
    tenant: str = ""
    repeatable: bool = True
    arrived_s: float = 0.0
    first_token_at_s: float = float("inf")
    prompt_ids: np.ndarray[tuple[int], np.dtype[np.int64]] = field(init=False, repr=False)
    slot: Slot | None = None
    filled: int = 0
    cached: int = 0
    expected_cached: int = 0
    began_s: float | None = None
    preempted: int = 0

    def __post_init__(self) -> None:
        self.prompt_ids = np.array(self.tokens, np.int64)

    @property
    def answer_tokens(self) -> int:
        """Tokens written so far."""
        return len(self.tokens) - self.prompt_tokens


class CopySlot(NamedTuple):
    """Copy the first tokens of a slot's cache to another one; ``key`` is the text that writes in the target."""

    source: Slot
    target: Slot
    tokens: int
    key: int | None


class RunCall(NamedTuple):
    """Run a call.

    Attributes:
        call: for the engine.
        rows: of the call: row, key of its text, and whether its logits choose a token.
    """

    call: CausalCall
    rows: tuple[tuple[int, int, bool], ...]


@dataclass(slots=True)
class Step:
    """What to do next.

    Attributes:
        operations: in order.
        expired: keys of texts that waited for too long; they are gone from the books.
        samples: keys of the texts that get a token, in order of the rows in ``operations``.
        prompt_tokens: prompt tokens it computes.
        cached_tokens: prompt tokens that are not computed, of texts that begin in it.
        prefix_asked: prompt tokens of the texts that begin in it.
        preemptions: texts that lost their slot.
        waiting: texts that still have no slot.
        slots_in_use: slots with a writer.
        predicted_s: what its calls are expected to take.
        touched: keys of texts that have a part in it already; they keep their slots until it is made.
    """

    operations: list[CopySlot | RunCall] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefix_asked: int = 0
    preemptions: int = 0
    waiting: int = 0
    slots_in_use: int = 0
    predicted_s: float = 0.0
    touched: set[int] = field(default_factory=set)
