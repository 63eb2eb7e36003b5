"""The decoder's own arithmetic in torch, to be trained and cut: its parameters have the checkpoint's names.

Whole texts at once, without a cache; padding is on the right, where causal attention never looks. Heads need not fill the
width, which transformers also reads (``head_dim``): a cut checkpoint is an ordinary one with smaller numbers. Parity with
transformers and with the graph is a test.

Suffixes: B texts, T tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from build_engines.models.causal.architecture import Architecture, read_architecture
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.causal.layout import check_tensors, tensor_names

Turns = tuple[Tensor, Tensor]


class CausalAttention(nn.Module):
    """``self_attn`` of a block."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.heads, self.kv_heads = arch.heads, arch.kv_heads
        queries, keys = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
        self.q_proj = nn.Linear(arch.dim, queries, bias=arch.qkv_bias)
        self.k_proj = nn.Linear(arch.dim, keys, bias=arch.qkv_bias)
        self.v_proj = nn.Linear(arch.dim, keys, bias=arch.qkv_bias)
        self.o_proj = nn.Linear(queries, arch.dim, bias=arch.out_bias)
        self.q_norm: nn.Module = (
            nn.RMSNorm(arch.head_dim, eps=arch.norm_eps) if arch.qk_norm else nn.Identity()
        )
        self.k_norm: nn.Module = (
            nn.RMSNorm(arch.head_dim, eps=arch.norm_eps) if arch.qk_norm else nn.Identity()
        )

    def forward(self, x_BTD: Tensor, turns: Turns) -> Tensor:
        """What the heads mix, by ``o_proj``."""
        q = rotated(self.q_norm(by_head(self.q_proj(x_BTD), self.heads)), turns)
        k = rotated(self.k_norm(by_head(self.k_proj(x_BTD), self.kv_heads)), turns)
        v = by_head(self.v_proj(x_BTD), self.kv_heads)
        mixed = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads
        )
        found: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return found


class GatedMlp(nn.Module):
    """``mlp`` of a block."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(arch.dim, arch.hidden, bias=arch.mlp_bias)
        self.up_proj = nn.Linear(arch.dim, arch.hidden, bias=arch.mlp_bias)
        self.down_proj = nn.Linear(arch.hidden, arch.dim, bias=arch.mlp_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """SiLU of the gate times up, by ``down_proj``."""
        found: Tensor = self.down_proj(functional.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return found


class CausalBlock(nn.Module):
    """One block, pre-norm."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.self_attn = CausalAttention(arch)
        self.mlp = GatedMlp(arch)
        self.input_layernorm = nn.RMSNorm(arch.dim, eps=arch.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(arch.dim, eps=arch.norm_eps)

    def forward(self, x_BTD: Tensor, turns: Turns) -> Tensor:
        """The residual stream behind the block."""
        x = x_BTD + self.self_attn(self.input_layernorm(x_BTD), turns)
        found: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return found


class _Body(nn.Module):
    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(arch.vocab_size, arch.dim)
        self.layers = nn.ModuleList(CausalBlock(arch) for _ in range(arch.layers))
        self.norm = nn.RMSNorm(arch.dim, eps=arch.norm_eps)


class CausalNetwork(nn.Module):
    """A whole decoder.

    Args:
        arch: sizes and family.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.model = _Body(arch)
        self.lm_head: nn.Linear | None = (
            None if arch.tied else nn.Linear(arch.dim, arch.vocab_size, bias=False)
        )

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Normalized hidden states ``[B, T, D]``, what the head reads."""
        x = self.model.embed_tokens(ids_BT)
        turns = self._turns(ids_BT.shape[1], x)
        for layer in self.model.layers:
            x = layer(x, turns)
        found: Tensor = self.model.norm(x)
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """``[..., V]`` of hidden states."""
        if self.lm_head is None:
            return functional.linear(hidden, self.model.embed_tokens.weight)
        found: Tensor = self.lm_head(hidden)
        return found

    def _turns(self, length: int, like: Tensor) -> Turns:
        angles = np.outer(np.arange(length), self.arch.rope.frequencies(self.arch.head_dim))
        return (
            torch.from_numpy(np.cos(angles)).to(like),
            torch.from_numpy(np.sin(angles)).to(like),
        )


def by_head(x: Tensor, heads: int) -> Tensor:
    """``[B, H, T, head_dim]`` of ``[B, T, H * head_dim]``."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def rotated(x_BHTD: Tensor, turns: Turns) -> Tensor:
    """Turned by their positions: first and second half of a head are a pair."""
    cosine, sine = turns
    first, second = x_BHTD.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def load_network(folder: Path) -> CausalNetwork:
    """The network of a folder with config.json and weights, in float32.

    Raises:
        BuildError: a file is missing, broken, or says what the network cannot be; names it.
    """
    arch = read_architecture(folder)
    network = CausalNetwork(arch)
    with Checkpoint(folder) as tensors:
        check_tensors(arch, tensors)
        network.load_state_dict(
            {name: torch.from_numpy(np.array(tensors.array(name))) for name in tensor_names(arch)}
        )
    return network


def narrowed_config(config: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
    """config.json of a checkpoint that has these sizes now, in float32."""
    found = dict(config)
    found |= {
        "hidden_size": arch.dim,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads,
        "num_hidden_layers": arch.layers,
        "intermediate_size": arch.hidden,
        "head_dim": arch.head_dim,
    }
    if isinstance(found.get("layer_types"), list):
        found["layer_types"] = found["layer_types"][: arch.layers]
    if found.get("max_window_layers") is not None:
        found["max_window_layers"] = min(found["max_window_layers"], arch.layers)
    for name in ("dtype", "torch_dtype"):
        if name in found:
            found[name] = "float32"
    return found
