"""A decoder as the steps see it: transformers' hidden states, any cut, the engine's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from build_engines.compression.families.decoder import Decoder, PairData, open_decoder
from build_engines.compression.model import Keep
from build_engines.errors import BuildError
from build_engines.models.causal.network import load_network
from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import package_text
from build_engines.text.pairs import EncodedPair
from build_engines.text.scoring import score_pairs
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from tests.build_engines.causal_models import CONTEXT, FAMILIES, VOCAB, random_model


def pairs(count: int, seed: int) -> tuple[EncodedPair, ...]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        start, length = int(rng.integers(2, VOCAB)), int(rng.integers(5, 14))
        ids = (start + np.arange(length)) % (VOCAB - 2) + 2  # counting: something to learn
        found.append(EncodedPair(ids=ids.astype(np.int64), prompt_tokens=2))
    return tuple(found)


def opened(folder: Path) -> Decoder:
    data = PairData(
        checkpoint=folder,
        train=pairs(40, 1),
        validation=pairs(10, 2),
        calibration=pairs(12, 3),
        batch_tokens=128,
    )
    return open_decoder(folder, data)


def saved(name: str, folder: Path) -> Path:
    random_model(name).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_network_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    """The parameters have the checkpoint's names, and the arithmetic is the family's own."""
    model = random_model(name)
    model.save_pretrained(tmp_path)
    network = load_network(tmp_path).eval()
    ids_BT = torch.from_numpy(np.random.default_rng(0).integers(2, VOCAB, (3, 20)))

    with torch.no_grad():
        found = network.logits(network(ids_BT))
        wanted = model(input_ids=ids_BT).logits

    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-3)
    assert set(network.state_dict()) <= set(model.state_dict())


CUTS: dict[str, Keep] = {
    "nothing": Keep(),
    "heads": Keep(heads=((0, 1), (2, 3))),
    "inner": Keep(inner=(tuple(range(0, 96, 3)),) * 2),
    "width": Keep(dims=tuple(range(0, 64, 2))),
    "blocks": Keep(blocks=(1,)),
    "all": Keep(blocks=(1,), heads=((2, 3),), inner=(tuple(range(32)),), dims=tuple(range(8, 40))),
}


@pytest.mark.parametrize("name", ["llama-biases", "qwen2", "qwen3"])
@pytest.mark.parametrize("cut", list(CUTS))
def test_a_narrowed_decoder_serves_what_it_computes_and_transformers_reads_it(
    name: str, cut: str, tmp_path: Path
) -> None:
    """A cut checkpoint is an ordinary one of its family: transformers, the network and the engine agree on it."""
    small = opened(saved(name, tmp_path / "whole")).narrowed(CUTS[cut])
    small.save(tmp_path / "small")
    asked = pairs(4, 5)

    package_text(
        tmp_path / "small",
        tmp_path / "made",
        options=TextOptions(variant="fp32", max_context=CONTEXT, max_chunk=64),
    )
    engine = OnnxRuntimeCausal(tmp_path / "made" / "model.onnx", pools={64: 4}, threads=1, max_chunk=64)
    served = score_pairs(engine, list(asked), slots=2)
    engine.close()
    reader: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path / "small"), dtype=torch.float32).eval()

    for pair, score in zip(asked, served, strict=True):
        ids = torch.from_numpy(pair.ids[None, :])
        with torch.no_grad():
            own = small.network.logits(small.network(ids[:, :-1]))[0, pair.prompt_tokens - 1 :].log_softmax(
                -1
            )
            theirs = reader(input_ids=ids[:, :-1]).logits[0, pair.prompt_tokens - 1 :].log_softmax(-1)
        answer = ids[0, pair.prompt_tokens :]
        torch.testing.assert_close(own, theirs, atol=5e-4, rtol=1e-3)
        np.testing.assert_allclose(score.logprobs, own[torch.arange(len(answer)), answer], atol=2e-3)
    again = open_decoder(tmp_path / "small", small.data)
    assert again.sizes == small.sizes and again.identity == small.identity
    for label, one in small.module.state_dict().items():
        assert torch.equal(one, again.module.state_dict()[label])


def test_half_a_group_of_heads_is_refused_by_its_block(tmp_path: Path) -> None:
    """Heads that share keys and values stay or go together."""
    model = opened(saved("qwen2", tmp_path))
    with pytest.raises(BuildError, match=r"block 0 would keep heads \(0, 2\); 2 heads share one"):
        model.narrowed(Keep(heads=((0, 2), (0, 1))))
    with pytest.raises(BuildError, match="take prune_rows out"):
        model.narrowed(Keep(rows=np.arange(20)))


def test_a_cut_width_keeps_normalizations_at_the_size_that_they_gave(tmp_path: Path) -> None:
    """What a normalization gives over fewer channels is, on average, as large as what it gave over all."""
    model = opened(saved("llama", tmp_path))
    with torch.no_grad():  # channels that go are much larger than those that stay
        model.module.get_parameter("model.embed_tokens.weight")[:, 32:] *= 8
    small = model.narrowed(Keep(dims=tuple(range(32))))
    batch = next(model.calibration(8))

    def first_norm(one: Decoder) -> torch.Tensor:
        hidden = one.traces(batch).hidden_BTD[0]
        norm = one.module.get_submodule("model.layers.0.input_layernorm")
        out: torch.Tensor = norm(hidden)
        return out

    before, after = first_norm(model)[..., :32].detach().abs().mean(), first_norm(small).detach().abs().mean()
    assert abs(float(after / before) - 1) < 0.05


def test_a_cut_decoder_learns(tmp_path: Path) -> None:
    """Gradients reach every parameter of a cut model, and its loss falls."""
    small = opened(saved("qwen3", tmp_path)).narrowed(CUTS["all"])
    optimizer = torch.optim.AdamW(small.module.parameters(), lr=3e-3)
    before = small.judge()
    for epoch in range(8):
        for batch in small.plan(epoch).batches:
            optimizer.zero_grad()
            small.loss(batch).backward()
            optimizer.step()
    traces = small.traces([0, 1])
    assert small.judge() < before
    assert all(one.grad is not None for one in small.module.parameters())
    assert traces.logits_PC is not None
    assert traces.logits_PC.shape == (sum(len(small.data.train[one].ids) - 2 for one in (0, 1)), VOCAB)
    assert len(traces.hidden_BTD) == 2 and traces.relations["k"].shape[1] == 1


def test_a_saved_decoder_says_its_sizes_in_its_configuration(tmp_path: Path) -> None:
    """config.json has the smaller numbers, in the family's own fields."""
    small = opened(saved("qwen3", tmp_path / "whole")).narrowed(CUTS["all"])
    small.save(tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    named = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
    assert [config[one] for one in named] == [32, 2, 1, 32, 32] and config["num_hidden_layers"] == 1
