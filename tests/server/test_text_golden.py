"""Golden texts: a version that would write something else is found, one whose kernels round otherwise is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import Golden, read_golden, write_golden
from server.artifacts.manifest import Tolerance
from server.engines.causal import CausalCall, CausalLimits
from server.pipelines.text_golden import LOGPROBS, PROMPT_IDS, TOKEN_IDS, record_golden, replay_golden
from server.pipelines.text_pools import pools_for

VOCAB = 11
EXACT = Tolerance(score_abs=1e-5)


class Markov:
    """An engine whose logits are a function of all tokens so far, as a real one's; checks how it is called."""

    kind = "markov"

    def __init__(self, seed: int = 0, noise: float = 0.0, max_chunk: int = 4) -> None:
        rng = np.random.default_rng(seed)
        self._table = rng.normal(size=(VOCAB, VOCAB)).astype(np.float32)
        self._noise = noise * np.random.default_rng(99).normal(size=(64, VOCAB)).astype(np.float32)
        self.limits = CausalLimits(vocab_size=VOCAB, pools={16: 2, 64: 1}, max_chunk=max_chunk)
        self._slot: list[int] = []

    def run(self, call: CausalCall) -> npt.NDArray[np.float32]:
        width = call.input_ids_BT.shape[1]
        filled = int(call.write_index_B[0])
        assert 1 <= width <= self.limits.max_chunk and filled + width <= call.capacity
        self._slot = self._slot[:filled] + call.input_ids_BT[0].tolist()
        assert len(self._slot) == filled + width
        logits_V = sum(self._table[token] / (1 + age) for age, token in enumerate(reversed(self._slot)))
        return np.asarray([logits_V + self._noise[len(self._slot) % 64]], np.float32)

    def copy(self, source: tuple[int, int], target: tuple[int, int], tokens: int) -> None:
        raise AssertionError("golden texts need no copies")

    def close(self) -> None:
        pass


PROMPTS = ([1, 2, 3], [5], [7, 7, 7, 7, 7, 7, 7, 7, 7])


def test_an_engine_reproduces_its_own_texts(tmp_path: Path) -> None:
    """Written, read back, replayed: also in other chunks."""
    write_golden(tmp_path / "golden.npz", record_golden(Markov(), PROMPTS, tokens=12))
    golden = read_golden(tmp_path / "golden.npz")

    replay_golden(Markov(), golden, EXACT, "here")
    replay_golden(Markov(max_chunk=2), golden, EXACT, "here")
    assert golden.outputs[TOKEN_IDS].shape == (3, 12) and golden.inputs[PROMPT_IDS].shape == (3, 9)


def test_another_model_is_refused() -> None:
    """The sentence says which text, which step, by how much, and what to do."""
    golden = record_golden(Markov(0), PROMPTS, tokens=12)

    with pytest.raises(
        ArtifactError, match=r"model 3: golden replay differs on markov: \d+ of 36 tokens hold.*text 1, step"
    ):
        replay_golden(Markov(1), golden, Tolerance(score_abs=0.05), "model 3")


def test_rounding_is_not_another_model() -> None:
    """Within the tolerance all holds, though a text written freely would part at a tie."""
    golden = record_golden(Markov(), PROMPTS, tokens=12)

    replay_golden(Markov(noise=0.002), golden, Tolerance(score_abs=0.02), "here")
    with pytest.raises(ArtifactError):
        replay_golden(Markov(noise=0.5), golden, Tolerance(score_abs=0.02), "here")


def test_a_share_of_tokens_may_be_allowed_to_differ() -> None:
    """min_overlap is the share that must hold."""
    golden = record_golden(Markov(), PROMPTS, tokens=12)
    logprobs_NG = golden.outputs[LOGPROBS].copy()
    logprobs_NG[0, :2] -= 1.0
    changed = Golden(inputs=golden.inputs, outputs={**golden.outputs, LOGPROBS: logprobs_NG})

    replay_golden(Markov(), changed, Tolerance(score_abs=1e-4, min_overlap=0.9), "here")
    with pytest.raises(ArtifactError, match="34 of 36 tokens hold, must be"):
        replay_golden(Markov(), changed, Tolerance(score_abs=1e-4, min_overlap=0.95), "here")


def test_a_text_ends_at_its_end() -> None:
    """The end of a text is recorded and replayed, and nothing after it."""
    free = record_golden(Markov(), PROMPTS[:1], tokens=12).outputs[TOKEN_IDS][0].tolist()
    golden = record_golden(Markov(), PROMPTS[:1], tokens=12, eos_ids={free[4]})
    at = free.index(free[4])

    assert golden.outputs[TOKEN_IDS][0].tolist() == free[: at + 1]
    replay_golden(Markov(), golden, EXACT, "here")


def test_a_server_may_look_at_the_beginnings_only() -> None:
    """So many steps in all, the first of each text: later differences are publishing's to find."""
    golden = record_golden(Markov(), PROMPTS, tokens=12)
    tokens_NG = golden.outputs[TOKEN_IDS].copy()
    tokens_NG[:, 6:] = 0
    late = Golden(inputs=golden.inputs, outputs={**golden.outputs, TOKEN_IDS: tokens_NG})

    replay_golden(Markov(), late, EXACT, "here", steps=18)
    with pytest.raises(ArtifactError, match="of 36 tokens hold"):
        replay_golden(Markov(), late, EXACT, "here")


def test_nan_is_never_golden() -> None:
    """An engine whose logits are not numbers is refused, whatever the tolerance."""
    golden = record_golden(Markov(), PROMPTS, tokens=4)
    with pytest.raises(ArtifactError, match="NaN"):
        replay_golden(Markov(noise=float("nan")), golden, Tolerance(score_abs=1e9), "here")


BAD = [
    Golden(inputs={"x": np.zeros(1)}, outputs={"y": np.zeros(1)}),
    Golden(inputs={PROMPT_IDS: np.zeros((1, 0), np.int64)}, outputs={TOKEN_IDS: np.zeros((1, 0), np.int64), LOGPROBS: np.zeros((1, 0), np.float32)}),
    Golden(inputs={PROMPT_IDS: np.ones((2, 3), np.int64)}, outputs={TOKEN_IDS: np.ones((1, 2), np.int64), LOGPROBS: np.zeros((1, 2), np.float32)}),
    Golden(inputs={PROMPT_IDS: np.full((1, 3), 99)}, outputs={TOKEN_IDS: np.ones((1, 2), np.int64), LOGPROBS: np.zeros((1, 2), np.float32)}),
    Golden(inputs={PROMPT_IDS: np.ones((1, 3), np.int64)}, outputs={TOKEN_IDS: np.full((1, 2), 99), LOGPROBS: np.zeros((1, 2), np.float32)}),
    Golden(inputs={PROMPT_IDS: np.full((1, 3), -1)}, outputs={TOKEN_IDS: np.ones((1, 2), np.int64), LOGPROBS: np.zeros((1, 2), np.float32)}),
    Golden(inputs={PROMPT_IDS: np.ones((1, 70), np.int64)}, outputs={TOKEN_IDS: np.ones((1, 2), np.int64), LOGPROBS: np.zeros((1, 2), np.float32)}),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(BAD)))
def test_a_record_that_is_none_is_refused(at: int) -> None:
    """Other tensors, nothing in it, rows that do not pair, tokens that do not exist, texts that do not fit: a sentence."""
    with pytest.raises(ArtifactError, match="here: golden"):
        replay_golden(Markov(), BAD[at], EXACT, "here")


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 1 << 17), st.integers(1, 64), st.booleans())
def test_pools_hold_the_context_and_every_slot(max_context: int, slots: int, dense: bool) -> None:
    """The largest pool is the context; the smallest holds all slots; none is empty; capacities ascend."""
    pools = pools_for(max_context, slots, dense)
    capacities = list(pools)

    assert capacities == sorted(set(capacities)) and capacities[-1] == max_context
    assert pools[capacities[0]] == slots and all(1 <= count <= slots for count in pools.values())
