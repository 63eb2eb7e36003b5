"""A client's grammar may cost so much and no more, and what it does wrong is told as the client's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from server.batching.step_runner import StepOutcome, StepRunner
from server.batching.token_cost import TokenCosts
from server.batching.token_step import RunCall, Step
from server.engines.causal import CausalCall
from server.errors import InvalidRequest
from server.sampling.base import RowSampler
from server.sampling.constraints import FREE_S, GrammarMask
from server.sampling.numpy_sampler import NumpySampler
from server.text_domain import ConstraintKind
from tests.server.test_constraints import allowed, asked, codec, compiler, opened

AMBIGUOUS = 'start: s\ns: s s s | s s | "a"\n'
DOUBLING = "start: a0\n" + "".join(f"a{at}: a{at + 1} a{at + 1}\n" for at in range(50)) + 'a50: "a"\n'


def written(mask: Any, most: int) -> int:
    """Tokens until the constraint gives up; ``most`` if it does not."""
    words = np.zeros(-(-codec().vocab_size // 32), np.uint32)
    letter = codec().encode("a", add_special_tokens=False)[0]
    for count in range(most):
        mask.fill(words)
        if mask.refused is not None:
            assert not words.any()
            return count
        try:
            mask.accept(letter)
        except ValueError:
            return count
    return most


@pytest.mark.parametrize(
    ("kind", "text"),
    [("lark", AMBIGUOUS), ("lark", DOUBLING), ("regex", "(a?){5000}a{5000}")],
    ids=["ambiguous", "doubling", "optional"],
)
def test_a_grammar_that_grows_with_its_text_is_refused_as_its_senders(kind: str, text: str) -> None:
    """Refused while compiling or on the way: a sentence of the constraint, never of the engine."""
    try:
        mask: Any = opened(kind, text)
    except InvalidRequest as error:
        refusal = error
    else:
        assert written(mask, 3000) < 3000
        refusal = mask.refused
    assert refusal is not None and refusal.field == "structured_outputs"
    assert refusal.message.startswith(f"the {kind} constraint cannot be used: ")
    assert "non-verbose" not in refusal.message


def test_the_time_of_all_masks_of_a_text_is_bounded() -> None:
    """Masks of 10 ms each are refused once they have taken what a text may take, however cheap one is."""
    now = [0.0]

    def cpu_s() -> float:
        now[0] += 0.01
        return now[0]

    made: Any = opened("regex", "a*")
    mask = GrammarMask(made._matcher, codec().vocab_size, None, ConstraintKind.REGEX, cpu_s)
    count = written(mask, 500)
    assert FREE_S / 0.02 <= count <= FREE_S / 0.02 * 1.2
    assert mask.refused is not None and "of CPU time" in mask.refused.message


def test_an_ordinary_schema_stays_far_below_its_budget() -> None:
    """Three hundred tokens of a string cost no refusal."""
    mask: Any = opened("regex", "a{1,2000}")
    assert written(mask, 300) == 300
    assert mask.refused is None and mask._spent_s < FREE_S / 2


def test_a_schema_without_an_end_is_refused_in_words() -> None:
    """Not in the engine's own word for it."""
    with pytest.raises(InvalidRequest, match="leads back to itself") as told:
        compiler().compile(asked("json_schema", {"$ref": "#"}))
    assert "NoExtension" not in told.value.message


class Logits:
    """An engine whose logits are what the test says."""

    def __init__(self, value: float) -> None:
        self.value = value

    def run(self, call: CausalCall) -> np.ndarray:
        return np.full((1, 64), self.value, np.float32)


class Spent:
    """A constraint that allows nothing any more."""

    def __init__(self, refused: InvalidRequest | None) -> None:
        self.refused = refused

    def fill(self, allowed_V: np.ndarray) -> None:
        allowed_V[:] = 0 if self.refused is not None else 0xFFFFFFFF

    def accept(self, token_id: int) -> None:
        raise AssertionError("no token was to be chosen")

    def done(self) -> bool:
        return False


def faults(mask: Spent, logit: float) -> StepOutcome:
    sampler = NumpySampler(64)
    rows: Mapping[int, RowSampler] = {1: sampler.open(asked("regex", "a"), mask)}
    runner = StepRunner("text", Logits(logit), sampler, TokenCosts({64: 1}), lambda: 0.0)  # type: ignore[arg-type]
    zero = np.zeros(1, np.int64)
    run = RunCall(CausalCall(64, 0, zero[:, None], zero, zero + 1), ((0, 1, True),))
    try:
        return runner.run(Step(operations=[run], samples=[1]), rows)  # type: ignore[arg-type,call-arg]
    finally:
        runner.stop()


def test_a_spent_constraint_is_not_the_engines_fault_and_nan_is_not_the_clients() -> None:
    refusal = InvalidRequest("the lark constraint cannot be used: too long", field="structured_outputs")

    spent = faults(Spent(refusal), 0.0)
    broken = faults(Spent(None), float("nan"))

    assert spent.faults[1].cause is refusal and spent.engine_fault is None
    assert broken.faults[1].cause is None and broken.engine_fault == "its logits are not finite"


def test_allowed_is_nothing_after_a_refusal() -> None:
    mask: Any = opened("regex", "a*")
    mask._refuse("it is enough")
    assert allowed(mask) == []


def test_as_many_choices_as_may_be_sent_are_followed() -> None:
    """The limit of a row is no lower than that of choices."""
    mask: Any = opened("choice", [f"a{at}" for at in range(2048)])
    assert written(mask, 1) == 1
    assert allowed(mask) and mask.refused is None
