"""Continuous batching over the real engine and sampler: texts that share steps, slots and prefixes are what they are alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from causal_models import CONTEXT, Packed, pack, prompt, random_model

from server.batching.continuous import ContinuousBatcher, TextLimits, TextModel
from server.batching.token_cost import measure
from server.engines.causal import CausalEngine
from server.sampling.numpy_sampler import NumpySampler
from server.text_domain import Chunk, Finished, GenerateRequest, SamplingParams, TextEvent, TextModelInfo

pytestmark = pytest.mark.timeout(120)


def ids_of(length: int, seed: int) -> list[int]:
    """Random tokens but 0, which ``generate`` takes for padding and hides."""
    return np.maximum(prompt(length, seed), 1).tolist()


SHARED = ids_of(30, 99)


class PlainWriter:
    stopped = None

    def __init__(self, request: GenerateRequest) -> None:
        pass

    def push(self, token_id: int, logprob: object) -> Chunk:
        return Chunk("", (token_id,))

    def finish(self) -> None:
        return None


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(random_model("qwen2"), tmp_path_factory.mktemp("continuous"))


@pytest.fixture(scope="module")
def two_graphs(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    calibration = [prompt(64, seed=100 + one)[None] for one in range(4)]
    folder = tmp_path_factory.mktemp("two")
    return pack(random_model("qwen2"), folder, "int8+int4", calibration=calibration)


@pytest.fixture
def engine(packed: Packed) -> Iterator[CausalEngine]:
    engine = packed.engine({48: 3, CONTEXT: 2})
    yield engine
    engine.close()


def write(engine: CausalEngine, requests: Sequence[GenerateRequest], limits: TextLimits) -> list[Any]:
    """All at once; the tokens and the end of each."""
    info = TextModelInfo(
        name="tiny",
        version="1",
        engine=engine.kind,
        precision="fp32",
        vocab_size=engine.limits.vocab_size,
        max_context=engine.limits.max_context,
    )
    codec: Any = SimpleNamespace(eos_ids=frozenset())
    compiler: Any = None
    model = TextModel(
        engine=engine,
        sampler=NumpySampler(engine.limits.vocab_size),
        compiler=compiler,
        codec=codec,
        writer=PlainWriter,
        info=info,
        costs=measure(engine),
    )

    async def whole() -> list[Any]:
        batcher = ContinuousBatcher(model, limits)
        batcher.start()
        events: list[list[TextEvent]] = [[] for _ in requests]
        for request, sink in zip(requests, events, strict=True):
            batcher.submit(request, sink.append)
        async with asyncio.timeout(60):
            while not all(told and not isinstance(told[-1], Chunk) for told in events):
                await asyncio.sleep(0.002)
        await batcher.close(1.0)
        return events

    out = []
    for told in asyncio.run(whole()):
        assert isinstance(told[-1], Finished), told[-1]
        tokens = [token for event in told if isinstance(event, Chunk) for token in event.token_ids]
        out.append((tokens, told[-1]))
    return out


def test_greedy_texts_that_share_everything_are_transformers_own(
    packed: Packed, engine: CausalEngine
) -> None:
    """Nine texts of two priorities over five slots, with a common beginning, computed in chunks and moved to
    larger slots: each is token by token what ``transformers`` writes for it alone, and prefixes were found.
    """
    prompts = [[*SHARED[: 10 * (i % 4)], *ids_of(3 + 2 * i, i)] for i in range(9)]
    requests = [
        GenerateRequest(
            prompt_ids=tuple(ids),
            max_tokens=12 + i,
            ignore_eos=True,
            sampling=SamplingParams(temperature=0.0),
            priority=9 if i < 3 else 0,
        )
        for i, ids in enumerate(prompts)
    ]
    limits = TextLimits(answer_tokens=4, max_step_tokens=16, min_chunk=4, first_token_s=60.0)

    told = write(engine, requests, limits)

    for i, (ids, (tokens, _)) in enumerate(zip(prompts, told, strict=True)):
        assert tokens == packed.greedy(np.array(ids, np.int64), 12 + i)
    assert sum(end.usage.cached_tokens for _, end in told) > 0


def test_a_seed_means_the_same_text_whatever_else_runs(engine: CausalEngine) -> None:
    """Sampled alone, and among seven others: the same tokens."""
    asked = GenerateRequest(
        prompt_ids=tuple(SHARED), max_tokens=16, ignore_eos=True, sampling=SamplingParams(seed=5)
    )
    others = [
        GenerateRequest(
            prompt_ids=(*SHARED[:20], i), max_tokens=10, ignore_eos=True, sampling=SamplingParams(seed=i)
        )
        for i in range(1, 8)
    ]
    limits = TextLimits(first_token_s=60.0)

    alone = write(engine, [asked], limits)[0][0]
    among = write(engine, [*others[:4], asked, *others[4:]], limits)[4][0]

    assert among == alone


@pytest.mark.parametrize("sampling", [SamplingParams(seed=5), SamplingParams(temperature=0.0)])
def test_with_two_graphs_a_repeatable_text_is_the_same_whatever_else_runs(
    two_graphs: Packed, sampling: SamplingParams
) -> None:
    """Alone, among texts that may be decoded in either graph, and once more as what was written is in the cache: its
    prompt is computed in INT8 and its answer in INT4, and both graphs did work for it.
    """
    engine = two_graphs.engine({48: 3, CONTEXT: 2})
    asked = GenerateRequest(prompt_ids=tuple(SHARED), max_tokens=16, ignore_eos=True, sampling=sampling)
    others = [
        GenerateRequest(prompt_ids=(*SHARED[:20], i), max_tokens=10, ignore_eos=True) for i in range(1, 8)
    ]
    limits = TextLimits(first_token_s=60.0, answer_tokens=4, max_step_tokens=16, min_chunk=4)

    alone = write(engine, [asked], TextLimits(first_token_s=60.0))[0][0]
    among = write(engine, [*others[:4], asked, asked, *others[4:]], limits)
    own = write(two_graphs.engine({CONTEXT: 1}, light=None), [asked], limits)[0][0]
    engine.close()

    assert among[4][0] == among[5][0] == alone
    assert alone != own
