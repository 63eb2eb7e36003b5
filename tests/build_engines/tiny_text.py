"""A checkpoint of a few thousand weights with a real tokenizer, for the tests of the text line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from build_engines.models.demo_lm import DemoSizes, new_model
from build_engines.text.demo import save_folder
from build_engines.text.pairs import EncodedPair, TextPair
from build_engines.text.recipe_parts import SampleCopyPart
from build_engines.text.sample_pairs import sample_pairs
from build_engines.text.tokenizer import END_OF_TEXT, PADDING, train_tokenizer

SAMPLE = SampleCopyPart(num_products=120, every=2, rounds=1)


def echo_pairs(count: int, seed: int = 0) -> list[EncodedPair]:
    """Pairs whose answer is the prompt again: what a tiny model learns in seconds."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        word = generator.integers(4, 24, int(generator.integers(2, 6)))
        pairs.append(EncodedPair(ids=np.array([*word, 1, *word, 0], np.int64), prompt_tokens=len(word) + 1))
    return pairs


def tiny_model(family: str = "qwen2", *, vocab_size: int = 32) -> Any:
    """An untrained model of a known family; always the same weights."""
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**sizes))
        return LlamaForCausalLM(LlamaConfig(**sizes))


@dataclass(frozen=True, slots=True)
class TinyCheckpoint:
    """A folder in Hugging Face form, and pairs of the sample shop."""

    folder: Path
    pairs: list[TextPair]


def save_tiny_checkpoint(folder: Path) -> TinyCheckpoint:
    """An untrained model of 64 wide, with a tokenizer of 512 tokens."""
    pairs = sample_pairs(SAMPLE, chat=False)
    tokenizer = train_tokenizer(
        (text for pair in pairs for text in (str(pair.prompt), pair.answer)), vocab_size=512
    )
    ids = tokenizer.get_vocab()
    sizes = DemoSizes(
        vocab_size=len(ids), dim=64, layers=2, heads=2, kv_heads=1, head_dim=32, hidden=128, max_context=512
    )
    model = new_model(sizes, seed=0, eos_id=ids[END_OF_TEXT], pad_id=ids[PADDING])
    save_folder(model, tokenizer, folder, sizes)
    return TinyCheckpoint(folder, pairs)
