"""Choosing tokens: the distribution that was asked for, and nothing of a row depends on its neighbours."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server.errors import InvalidRequest
from server.sampling import drawing
from server.sampling.base import Sampled
from server.sampling.drawing import Scratch, best, draw
from server.sampling.numpy_sampler import NumpySampler
from server.text_domain import GenerateRequest, SamplingParams

Floats = npt.NDArray[np.float32]
ROWS = arrays(np.float32, st.integers(1, 60), elements=st.floats(-8, 8, width=32).map(lambda x: round(x, 1)))
PARAMS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        "top_k": st.integers(0, 12),
        "top_p": st.sampled_from([0.05, 0.5, 0.9, 1.0]),
        "min_p": st.sampled_from([0.0, 0.1, 1.0]),
        "seed": st.integers(-5, 2**63 - 1),
    }
)


class Allow:
    """A constraint that allows a set of tokens, and remembers what it was told."""

    refused = None

    def __init__(self, allowed: set[int]) -> None:
        self.allowed = allowed
        self.accepted: list[int] = []
        self.fills = 0

    def fill(self, allowed_V: npt.NDArray[np.uint32]) -> None:
        self.fills += 1
        allowed_V[:] = 0
        for token in self.allowed:
            allowed_V[token // 32] |= np.uint32(1) << np.uint32(token % 32)

    def accept(self, token_id: int) -> None:
        if token_id not in self.allowed:
            raise ValueError(f"{token_id} was not allowed")
        self.accepted.append(token_id)

    def done(self) -> bool:
        return False


def asked(prompt: tuple[int, ...] = (1,), **sampling: Any) -> GenerateRequest:
    return GenerateRequest(prompt_ids=prompt, max_tokens=99, sampling=SamplingParams(**sampling))


def sample(
    rows: list[Floats], requests: list[GenerateRequest], masks: list[Allow | None] | None = None
) -> Sampled:
    sampler = NumpySampler(len(rows[0]))
    states = [
        sampler.open(one, mask) for one, mask in zip(requests, masks or [None] * len(rows), strict=True)
    ]
    return sampler.sample(np.stack(rows).astype(np.float32), states)


def kept(logits: Floats, temperature: float, top_k: int, top_p: float, min_p: float) -> set[int]:
    """What may be chosen, by sorting."""
    order = np.argsort(-logits, kind="stable")
    if temperature == 0.0:
        return {int(at) for at in order if logits[at] == logits.max()}
    if top_k:
        order = order[:top_k]
    weights = np.exp((logits[order].astype(np.float64) - logits.max()) / temperature)
    shares = weights / weights.sum()
    above = np.array([shares[shares > share * (1 + 1e-6)].sum() for share in shares])
    return {
        int(at)
        for at, mass, weight in zip(order, above, weights, strict=True)
        if mass < top_p + 1e-6 and weight >= min_p * (1 - 1e-6)
    }


@given(logits=ROWS, params=PARAMS)
@settings(max_examples=400, deadline=None)
def test_a_token_is_one_of_those_that_were_asked_for(logits: Floats, params: dict[str, Any]) -> None:
    """top-k, top-p, min-p and temperature 0 leave out exactly what sorting the row leaves out."""
    told = sample([logits], [asked(**params)])

    params.pop("seed")
    assert not told.bad_B[0]
    assert int(told.tokens_B[0]) in kept(logits, **params)


@given(data=st.data(), size=st.sampled_from([1, 40, 4097, 9000]))
@settings(max_examples=100, deadline=None)
def test_the_best_are_found_without_sorting(data: st.DataObject, size: int) -> None:
    """The k largest, in order, ties by index: as a stable sort has it, for few and for many logits."""
    seed, levels = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from([2, 50, 10**6]))
    logits = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)
    k = data.draw(st.integers(1, size) | st.integers(1, min(size, 60)))

    assert best(logits, k).tolist() == np.argsort(-logits, kind="stable")[:k].tolist()


def frequencies(pick: Callable[[], int], draws: int) -> dict[int, float]:
    counts = Counter(pick() for _ in range(draws))
    return {token: count / draws for token, count in counts.items()}


@pytest.mark.parametrize(
    ("temperature", "top_p", "min_p"), [(1.0, 1.0, 0.0), (0.7, 0.8, 0.0), (1.5, 0.95, 0.06), (2.0, 0.4, 0.0)]
)
def test_tokens_come_as_often_as_their_probability_says(
    temperature: float, top_p: float, min_p: float
) -> None:
    """20,000 draws of 12 tokens: every share is within 5 standard deviations of the renormalized probability."""
    logits = np.random.default_rng(3).normal(0, 0.8, 12).astype(np.float32)
    random = np.random.default_rng(4)
    scratch = Scratch.for_vocabulary(12)
    highest = float(logits.max())

    shares = frequencies(
        lambda: draw(
            logits, highest, random.random, scratch, temperature=temperature, top_p=top_p, min_p=min_p
        ),
        20_000,
    )

    may = sorted(kept(logits, temperature, 0, top_p, min_p))
    weights = np.exp(logits[may].astype(np.float64) / temperature)
    assert set(shares) == set(may)
    for token, share in zip(may, weights / weights.sum(), strict=True):
        assert abs(shares[token] - share) <= 5 * math.sqrt(share * (1 - share) / 20_000)


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.55])
def test_tokens_far_below_the_best_come_as_often_as_they_should(
    top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line drawn at one nat, half of the mass is "far": the short way round must not change a single share."""
    monkeypatch.setattr(drawing, "FAR", 1.0)
    logits = np.full(9000, -3.0, np.float32)
    logits[::900] = np.linspace(3, 6, 10, dtype=np.float32)
    random, scratch = np.random.default_rng(5), Scratch.for_vocabulary(9000)

    shares = frequencies(
        lambda: _group(logits, draw(logits, 6.0, random.random, scratch, temperature=1.0, top_p=top_p)),
        4_000,
    )

    weights = np.exp(logits.astype(np.float64))
    total = weights.sum()
    above = np.array([weights[weights > weight].sum() for weight in weights[::900]] + [weights[::900].sum()])
    groups = [*(int(at) for at in range(0, 9000, 900)), -1]
    mass = np.array([*weights[::900], total - weights[::900].sum()])
    mass[above >= top_p * total] = 0.0
    for group, share in zip(groups, mass / mass.sum(), strict=True):
        assert abs(shares.get(group, 0.0) - share) <= 5 * math.sqrt(share * (1 - share) / 4_000)


def _group(logits: Floats, token: int) -> int:
    return token if logits[token] > 0 else -1


@given(data=st.data(), count=st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_a_row_is_the_same_alone_and_in_company(data: st.DataObject, count: int) -> None:
    """Same logits, same request, same seed: the same tokens and logprobs, whatever else is in the step and in which place."""
    size = data.draw(st.sampled_from([7, 300, 9001]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    rows = [rng.normal(0, 3, size).astype(np.float32) for _ in range(count)]
    requests = [
        asked(**data.draw(PARAMS), top_logprobs=data.draw(st.sampled_from([None, 0, 3])))
        for _ in range(count)
    ]

    together = sample(rows, requests)

    for at in range(count):
        alone = sample([rows[at]], [requests[at]])
        assert together.tokens_B[at] == alone.tokens_B[0]
        assert together.logprobs[at] == alone.logprobs[0]


def test_a_seed_repeats_a_text_and_another_one_does_not() -> None:
    def text(seed: int | None) -> list[int]:
        sampler, rng = NumpySampler(500), np.random.default_rng(0)
        row = sampler.open(asked(seed=seed), None)
        return [
            int(sampler.sample(rng.normal(0, 1, (1, 500)).astype(np.float32), [row]).tokens_B[0])
            for _ in range(20)
        ]

    assert text(7) == text(7) != text(8)
    assert text(None) != text(None)
    assert text(-1) == text(2**64 - 1)


def test_penalties_follow_their_formulas() -> None:
    """Repetition counts prompt and answer once each; presence and frequency count the answer; bias is added last."""
    logits = np.array([2.0, -1.0, 0.5, 1.0, 3.0], np.float32)
    sampler = NumpySampler(5)
    request = asked(
        (0, 0, 1), temperature=0.0, repetition_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.5,
        logit_bias={2: 1.5}, top_logprobs=5,
    )  # fmt: skip
    row = sampler.open(request, None)
    sampler.sample(logits[None].copy(), [row])  # chooses 4
    sampler.sample(np.array([[0, 0, 0, 0, 9]], np.float32), [row])  # chooses 4 again

    told = sampler.sample(logits[None].copy(), [row]).logprobs[0]

    after = np.array([2.0 / 2, -1.0 * 2, 0.5 + 1.5, 1.0, 3.0 / 2 - 0.25 - 2 * 0.5])
    expected = after - np.log(np.exp(after).sum())
    assert told is not None
    assert told.token_id == 2
    assert [token for token, _ in told.top] == [2, 0, 3, 4, 1]
    assert dict(told.top) == pytest.approx(dict(enumerate(expected)), abs=1e-5)


def test_a_text_that_repeats_itself_is_turned_away_by_its_penalty() -> None:
    """A row that always prefers one token stops choosing it once the frequency penalty outweighs it."""
    sampler = NumpySampler(40)
    row = sampler.open(asked(temperature=0.0, frequency_penalty=1.0), None)
    logits = np.zeros((1, 40), np.float32)
    logits[0, 3] = 2.5
    chosen = [int(sampler.sample(logits.copy(), [row]).tokens_B[0]) for _ in range(30)]
    assert chosen[:3] == [3, 3, 3]
    assert len(set(chosen)) > 20


@given(
    allowed=st.sets(st.integers(0, 99), max_size=100) | st.sets(st.integers(0, 99), max_size=4),
    params=PARAMS,
    seed=st.integers(0, 99),
)
@settings(max_examples=300, deadline=None)
def test_a_constraint_is_never_broken(allowed: set[int], params: dict[str, Any], seed: int) -> None:
    """The token is allowed and the mask is told it; where nothing is allowed the row is bad and nobody is told."""
    logits = np.random.default_rng(seed).normal(0, 4, 100).astype(np.float32)
    mask = Allow(allowed)

    told = sample([logits], [asked(**params, top_logprobs=3)], [mask])

    if not allowed:
        assert told.bad_B[0] and not mask.accepted
        return
    assert not told.bad_B[0]
    assert mask.accepted == [int(told.tokens_B[0])]
    logprob = told.logprobs[0]
    assert logprob is not None
    assert {token for token, _ in logprob.top} <= allowed
    among = sorted(allowed)
    total = math.log(np.exp(logits[among].astype(np.float64)).sum())
    assert logprob.logprob == pytest.approx(float(logits[logprob.token_id]) - total, abs=1e-4)


def test_masks_are_made_once_a_step_whether_prepared_or_not() -> None:
    mask = Allow({1, 2, 3})
    sampler = NumpySampler(64)
    row = sampler.open(asked(temperature=0.0), mask)
    sampler.sample(np.zeros((1, 64), np.float32), [row])
    assert mask.fills == 1
    sampler.prepare([row])
    sampler.prepare([row])
    sampler.sample(np.zeros((1, 64), np.float32), [row])
    assert mask.fills == 2


def test_a_constraint_that_fails_on_its_own_token_fails_its_text_alone() -> None:
    """A grammar that becomes too complex between its mask and its token takes no other text with it."""

    class Tired(Allow):
        def accept(self, token_id: int) -> None:
            raise ValueError("too complex")

    told = sample(
        [np.zeros(64, np.float32)] * 3, [asked(temperature=0.0)] * 3, [None, Tired({3}), Allow({5})]
    )

    assert told.bad_B.tolist() == [False, True, False]
    assert told.tokens_B[2] == 5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("broken", ["nan", "all nan", "inf", "nothing"])
def test_a_row_that_is_not_numbers_is_bad_and_its_neighbours_are_not(temperature: float, broken: str) -> None:
    """NaN anywhere in a row, an infinity, or no logit at all: that text fails, the others get their tokens."""
    rows = [np.zeros(5000, np.float32) for _ in range(3)]
    for row in rows:
        row[7] = 30.0
    rows[1][{"nan": slice(4000, 4001), "inf": slice(3, 4)}.get(broken, slice(None))] = {
        "inf": np.inf, "nothing": -np.inf
    }.get(broken, np.nan)  # fmt: skip

    told = sample(rows, [asked(temperature=temperature, seed=1)] * 3)

    assert told.bad_B.tolist() == [False, True, False]
    assert told.tokens_B[[0, 2]].tolist() == [7, 7]


def test_a_bias_of_no_token_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"logit_bias names the token 64; the model's are 0 \.\. 63"):
        NumpySampler(64).open(asked(logit_bias={64: 1.0}), None)


@given(logits=ROWS, extreme=st.sampled_from([1e-4, 1e-30, 1e30]))
@settings(max_examples=100, deadline=None)
def test_extreme_temperatures_still_choose(logits: Floats, extreme: float) -> None:
    told = sample([logits], [asked(temperature=extreme, top_p=0.5, seed=2)])
    assert not told.bad_B[0]
    if extreme < 1:
        assert logits[told.tokens_B[0]] == logits.max()
