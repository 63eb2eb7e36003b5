"""What the text gate rests on: texts judged through the serving calls, and verdicts that need the whole interval."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.text.evidence import (
    floor_evidence,
    parity_evidence,
    perplexity_evidence,
    token_counts_scores,
)
from build_engines.text.pairs import EncodedPair
from build_engines.text.recipe_parts import TextGatePart
from build_engines.text.scoring import Scores, perplexity, rise_over, score_pairs
from server.engines.causal import CausalCall, CausalLimits


class Remembering:
    """An engine whose logits are a function of every token that its slot holds, and of nothing else."""

    kind = "remembering"

    def __init__(self, capacity: int, slots: int, max_chunk: int, vocab_size: int = 16) -> None:
        self.limits = CausalLimits(vocab_size=vocab_size, pools={capacity: slots}, max_chunk=max_chunk)
        self.slots = np.full((slots, capacity), -1, np.int64)

    def run(self, call: CausalCall) -> npt.NDArray[np.float32]:
        rows, width = call.input_ids_BT.shape
        assert width <= self.limits.max_chunk
        logits_BV = np.zeros((rows, self.limits.vocab_size), np.float32)
        for row in range(rows):
            at, new = int(call.write_index_B[row]), int(call.n_new_B[row])
            assert at + width <= call.capacity
            slot = self.slots[call.first_slot + row]
            slot[at : at + width] = -7  # what is padded is written too
            slot[at : at + new] = call.input_ids_BT[row, :new]
            seed = hash(tuple(slot[: at + new].tolist())) % 2**32
            logits_BV[row] = np.random.default_rng(seed).normal(size=self.limits.vocab_size)
        return logits_BV

    def copy(self, source: tuple[int, int], target: tuple[int, int], tokens: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


def pair(prompt: list[int], answer: list[int]) -> EncodedPair:
    return EncodedPair(ids=np.array([*prompt, *answer], np.int64), prompt_tokens=len(prompt))


TOKENS = st.lists(st.integers(0, 15), min_size=1, max_size=12)


@given(
    asked=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=7),
    slots=st.integers(1, 4),
    chunk=st.integers(1, 6),
)
def test_a_text_is_judged_as_if_it_were_alone(
    asked: list[tuple[list[int], list[int]]], slots: int, chunk: int
) -> None:
    """Whatever it shares a batch with, and however its prompt is cut: the same probabilities, all of its answer."""
    pairs = [pair(*one) for one in asked]

    longest = max(len(one.ids) for one in pairs)  # the engine holds not one token more

    together = score_pairs(Remembering(longest, slots, chunk), pairs, slots=slots)
    alone = score_pairs(Remembering(longest, 1, 24), pairs, slots=1)

    for one, other, (_, answer) in zip(together, alone, asked, strict=True):
        assert len(one.logprobs) == len(answer)
        assert np.array_equal(one.logprobs, other.logprobs)
        assert np.array_equal(one.greedy, other.greedy)


def scores(*logprobs: float) -> Scores:
    return Scores(np.array(logprobs), np.zeros(len(logprobs), np.int64))


def test_perplexity_is_of_tokens_and_its_rise_is_relative() -> None:
    """Two answers, one of 1/4 a token and one of 1/2: by hand; half as likely everywhere is twice the perplexity."""
    parent = [scores(math.log(1 / 4), math.log(1 / 4)), scores(math.log(1 / 2), math.log(1 / 2))]
    candidate = [Scores(one.logprobs - math.log(2), one.greedy) for one in parent]

    found = rise_over(parent, candidate)

    assert perplexity(parent) == pytest.approx(math.sqrt(8))
    assert (found.rise, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("loss", "verdict"), [(0.0, "pass"), (0.02, "pass"), (0.2, "fail"), (math.nan, "undecidable")]
)
def test_the_gate_judges_the_whole_interval(loss: float, verdict: str) -> None:
    """Within the limit, above it, and no number at all: only the first is a pass."""
    generator = np.random.default_rng(0)
    parent = [scores(*-generator.random(20)) for _ in range(50)]
    candidate = [Scores(one.logprobs - loss, one.greedy) for one in parent]

    found = perplexity_evidence(parent, candidate, TextGatePart())

    assert found.verdict == verdict
    assert found.passed is (verdict == "pass")


def test_an_interval_across_the_limit_decides_nothing() -> None:
    """On average within the limit, but a few texts could say otherwise: not published, and more pairs are asked for."""
    generator = np.random.default_rng(0)
    parent = [scores(*-generator.random(20)) for _ in range(12)]
    candidate = [Scores(one.logprobs - generator.normal(0.04, 0.1), one.greedy) for one in parent]

    found = perplexity_evidence(parent, candidate, TextGatePart())

    assert found.interval is not None and found.interval[0] < found.limit < found.interval[1]
    assert found.verdict == "undecidable" and not found.passed
    assert "pairs would decide it" in found.note


def test_an_engine_that_differs_from_the_reference_fails() -> None:
    """One token off by more than the limit is enough."""
    wanted = [scores(-1.0, -2.0), scores(-3.0)]

    close = parity_evidence([scores(-1.01, -2.0), scores(-3.0)], wanted, TextGatePart())
    far = parity_evidence([scores(-1.0, -2.0), scores(-3.1)], wanted, TextGatePart())

    assert close.passed and not far.passed
    assert far.value == pytest.approx(0.1)


def test_a_model_that_counts_as_well_is_no_model() -> None:
    """The floor: predicting answers no better than the counts of their tokens is refused."""
    pairs = [pair([1], [2, 3, 0]) for _ in range(20)]
    counts = token_counts_scores(pairs, pairs, 16)
    better = [Scores(one.logprobs + 0.5, one.greedy) for one in counts]

    assert counts[0].logprobs == pytest.approx(np.log([21 / 76] * 3))
    assert floor_evidence(better, counts, TextGatePart()).passed
    assert not floor_evidence(
        [Scores(one.logprobs - 0.5, one.greedy) for one in counts], counts, TextGatePart()
    ).passed
