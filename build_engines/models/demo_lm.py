"""A small causal language model to demonstrate with: Qwen3 form, a few million parameters, as a Hugging Face folder.

Qwen3's form because its norms of queries and keys let a small model learn fast without diverging, and because it is a form
that ``causal.package`` packages: nothing here is special to the demonstration but its size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

WEIGHTS_FILE, CONFIG_FILE, GENERATION_FILE = "model.safetensors", "config.json", "generation_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSizes:
    """Sizes of the model; widths are multiples of 32, INT4's block.

    Attributes:
        vocab_size: tokens.
        dim: width.
        layers: blocks.
        heads: of queries, ``head_dim`` wide each.
        kv_heads: of keys and values; divides ``heads``.
        head_dim: width of a head.
        hidden: inner width.
        max_context: tokens of prompt and answer together.

    Raises:
        ValueError: sizes do not go together.
    """

    vocab_size: int
    dim: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    hidden: int = 640
    max_context: int = 2048

    def __post_init__(self) -> None:
        """Check what sizes say of each other."""
        for name in ("dim", "head_dim", "hidden"):
            if getattr(self, name) < 32 or getattr(self, name) % 32:
                raise ValueError(f"{name} is {getattr(self, name)}; use a multiple of 32")
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}, must divide heads ({self.heads})")


def new_model(sizes: DemoSizes, *, seed: int, eos_id: int, pad_id: int) -> nn.Module:
    """An untrained model; the same seed gives the same weights."""
    config = Qwen3Config(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.dim,
        intermediate_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=sizes.max_context,
        tie_word_embeddings=True,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = Qwen3ForCausalLM(config)
    return model


def save_demo(model: nn.Module, folder: Path) -> None:
    """Write configuration and weights, matrices in half precision: half the bytes, and far finer than INT4."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict()  # type: ignore[operator,union-attr]
    config["architectures"], config["dtype"] = ["Qwen3ForCausalLM"], "float16"
    _write_json(folder / CONFIG_FILE, config)
    generation = {
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "do_sample": False,
    }
    _write_json(folder / GENERATION_FILE, generation)
    tensors = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"  # tied: the embedding
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")
