"""The FP32 engine is the checkpoint's model: transformers on the same weights gives the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.build_engines.causal_models import FAMILIES, Packed, call, pack, prompt, random_model

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(random_model(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(random_model("qwen2"), tmp_path_factory.mktemp("qwen2"))


def test_logits_are_those_of_transformers_at_every_position(packed: Packed) -> None:
    """A prompt and then token after token: each answer has transformers' logits."""
    ids, engine = prompt(40), packed.engine()
    wanted_TV = packed.logits_TV(ids)

    found = [engine.run(call([ids[:9]], [0]))[0]]
    found += [engine.run(call([ids[place : place + 1]], [place]))[0] for place in range(9, 40)]

    assert np.ptp(wanted_TV, axis=1).min() > 1.0  # answers that say something
    np.testing.assert_allclose(found, wanted_TV[8:], **CLOSE)


def test_greedy_tokens_are_those_of_transformers(packed: Packed) -> None:
    """Twenty tokens written greedily are transformers' twenty tokens."""
    ids, engine = prompt(12, seed=1), packed.engine()

    written = [int(engine.run(call([ids], [0]))[0].argmax())]
    for place in range(12, 31):
        written.append(int(engine.run(call([np.array(written[-1:])], [place]))[0].argmax()))

    assert written == packed.greedy(ids, 20)


def test_rows_of_a_batch_are_what_they_are_alone(packed: Packed) -> None:
    """Prompts of different lengths, some slots part filled, one idle: each row's logits are those it has alone."""
    prompts = [prompt(length, seed=length) for length in (3, 17, 30)]
    together = packed.engine()
    for slot, ids in enumerate(prompts):
        together.run(call([ids[:-1]], [0], first=slot))

    logits_BV = together.run(call([*(ids[-1:] for ids in prompts), np.empty(0, np.int64)], [2, 16, 29, 0]))

    for ids, found in zip(prompts, logits_BV, strict=False):
        np.testing.assert_allclose(found, packed.logits_TV(ids)[-1], **CLOSE)


def test_an_uneven_batch_of_prompts_ignores_its_padding(qwen: Packed) -> None:
    """Prompts of 5 and 21 tokens in one call, and what follows them, are as if each were alone."""
    short, long = prompt(6, seed=5), prompt(22, seed=6)
    engine = qwen.engine()

    first = engine.run(call([short[:5], long[:21]], [0, 0]))
    second = engine.run(call([short[5:], long[21:]], [5, 21]))

    for row, (ids, length) in enumerate(((short, 5), (long, 21))):
        np.testing.assert_allclose(first[row], qwen.logits_TV(ids)[length - 1], **CLOSE)
        np.testing.assert_allclose(second[row], qwen.logits_TV(ids)[length], **CLOSE)


@pytest.mark.parametrize("chunk", [1, 7, 16, 50])
def test_a_prompt_in_chunks_is_the_prompt_whole(qwen: Packed, chunk: int) -> None:
    """However a prompt is cut, its last logits are the same."""
    ids, engine = prompt(50, seed=2), qwen.engine()

    for start in range(0, 50, chunk):
        found = engine.run(call([ids[start : start + chunk]], [start]))

    np.testing.assert_allclose(found[0], qwen.logits_TV(ids)[-1], **CLOSE)


def test_a_slot_that_was_used_is_as_good_as_a_fresh_one(qwen: Packed) -> None:
    """What a longer text left in a slot changes not a bit of a later text's logits."""
    ids = prompt(20, seed=3)
    used, fresh = qwen.engine(), qwen.engine()
    used.run(call([prompt(60, seed=4)], [0]))

    found, wanted = used.run(call([ids], [0])), fresh.run(call([ids], [0]))

    np.testing.assert_array_equal(found, wanted)


def test_a_context_may_be_filled_to_its_last_token(qwen: Packed) -> None:
    """The last token of a slot is computed like any other."""
    ids, engine = prompt(64, seed=8), qwen.engine()

    engine.run(call([ids[:63]], [0]))
    found = engine.run(call([ids[63:]], [63]))

    np.testing.assert_allclose(found[0], qwen.logits_TV(ids)[-1], **CLOSE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_checkpoints_are_read_exactly(tmp_path: Path, dtype: str) -> None:
    """A checkpoint in half precision, in several files, is computed in FP32 from exactly its values."""
    model = random_model("qwen3").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "checkpoint", max_shard_size="40KB")
    # Read anew: halving a model halves its rotations too, which no checkpoint holds.
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", dtype=torch.float32).eval()
    packed = pack(wanted, tmp_path)
    ids = prompt(16)

    assert len(list((tmp_path / "checkpoint").glob("*.safetensors"))) > 1
    np.testing.assert_allclose(packed.engine().run(call([ids], [0]))[0], packed.logits_TV(ids)[-1], **CLOSE)


def test_the_package_says_what_it_is(qwen: Packed) -> None:
    """Limits, tensors, files and the token that ends a text are told as the manifest needs them."""
    package = qwen.package

    assert package.limits == {"max_context": 128, "vocab_size": 96, "max_chunk": 64}
    assert [one.name for one in package.inputs[:4]] == ["input_ids", "write_index", "n_new", "past.0.k"]
    assert package.inputs[3].shape == ("B", 2, "S", 16)
    assert package.outputs[0].shape == ("B", 96)
    assert package.files == {
        name: (qwen.folder / name).stat().st_size for name in ("model.onnx", "model.weights")
    }
    assert package.eos_ids == (1,)
    assert package.kernels["GroupQueryAttention"] == 2
