"""What config.json says a causal language model is, and whether the graph can be it.

Decision not to undo: what is not known is refused by the field that says so. A field that is ignored here would be a model
that answers, and answers something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.models.config_fields import ConfigFields, read_json

CONFIG_FILE, GENERATION_FILE = "config.json", "generation_config.json"
FAMILIES = ("llama", "qwen2", "qwen3")
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """How positions turn queries and keys.

    Attributes:
        kind: one of ``ROPE_TYPES``.
        theta: base of the wave lengths (> 0).
        factor: by how much positions are stretched ("linear", "llama3").
        low, high: of the original context in wave lengths, between which "llama3" goes from all to no stretch.
        original: tokens of the original context ("llama3").
    """

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def frequencies(self, head_dim: int) -> npt.NDArray[np.float64]:
        """Radians a token for each pair of a head's values, ``[head_dim / 2]``.

        Source:
            Su et al., "RoFormer", 2021, section 3.2; "llama3" as in Meta's reference code for Llama 3.1
            (``apply_scaling``).
        """
        plain = self.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        if self.kind == "default":
            return np.asarray(plain)
        if self.kind == "linear":
            return np.asarray(plain / self.factor)
        waves = self.original * plain / (2.0 * math.pi)  # how often the pair turns in the original context
        kept = np.clip((waves - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.asarray(plain * (kept + (1.0 - kept) / self.factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes and switches of a decoder.

    Attributes:
        family: ``model_type``.
        layers: blocks.
        dim: width.
        heads, kv_heads: of queries; of keys and values (divides ``heads``).
        head_dim: width of a head, even.
        hidden: inner width of the feed-forward part.
        vocab_size: tokens.
        norm_eps: of every normalization.
        rope: positions.
        qkv_bias, out_bias, mlp_bias: which linears have one.
        qk_norm: queries and keys are normalized a head.
        tied: the head is the embedding.
        max_positions: tokens that it was trained for.
        eos_ids: tokens that end a text.
    """

    family: str
    layers: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab_size: int
    norm_eps: float
    rope: Rope
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied: bool
    max_positions: int
    eos_ids: tuple[int, ...]


def read_architecture(folder: Path) -> Architecture:
    """Read config.json, and generation_config.json for what ends a text.

    Raises:
        BuildError: a file is missing or broken, or a field says what the graph cannot do; names file, field and value.
    """
    config = ConfigFields(folder / CONFIG_FILE, read_json(folder / CONFIG_FILE))
    family = config.one_of("model_type", FAMILIES)
    config.must_be("hidden_act", "silu")
    config.must_be("partial_rotary_factor", 1.0)
    config.must_be("quantization_config", None, hint="give the checkpoint that it was quantized from")
    config.must_be("pretraining_tp", 1)
    config.must_be("no_rope_layers", None)
    _refuse_windows(config)
    dim, heads = config.size("hidden_size"), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", heads)
    head_dim = config.size("head_dim", dim // heads or 1)
    if heads % kv_heads:
        config.refuse("num_key_value_heads", f"must divide num_attention_heads ({heads})")
    if head_dim % 2 or head_dim < 8:
        config.refuse("head_dim", f"is {head_dim}, must be even and at least 8")
    attention_bias = config.flag("attention_bias")
    return Architecture(
        family=family,
        layers=config.size("num_hidden_layers"),
        dim=dim,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=config.size("intermediate_size"),
        vocab_size=config.size("vocab_size"),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        rope=_rope(config),
        qkv_bias=family == "qwen2" or attention_bias,
        out_bias=family != "qwen2" and attention_bias,
        mlp_bias=family == "llama" and config.flag("mlp_bias"),
        qk_norm=family == "qwen3",
        tied=config.flag("tie_word_embeddings"),
        max_positions=config.size("max_position_embeddings", 2048),
        eos_ids=_eos_ids(folder, config),
    )


def _refuse_windows(config: ConfigFields) -> None:
    hint = "only attention over the whole context is supported"
    if config.get("model_type") != "llama":
        config.must_be("use_sliding_window", False, hint=hint)
    elif config.get("sliding_window") is not None:
        config.refuse("sliding_window", hint)
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        config.refuse("layer_types", hint)


def _rope(config: ConfigFields) -> Rope:
    # transformers 5 writes rope_parameters; before it, rope_scaling beside rope_theta.
    name = "rope_parameters" if config.get("rope_parameters") is not None else "rope_scaling"
    value = config.get(name)
    if value is None:
        return Rope(theta=config.number("rope_theta", 10_000.0))
    if not isinstance(value, Mapping):
        config.refuse(name, "must be an object")
    older = config.get("rope_scaling")
    if name == "rope_parameters" and isinstance(older, Mapping):
        kinds = [one.get("rope_type", one.get("type", "default")) for one in (value, older)]
        if kinds[0] != kinds[1]:
            config.refuse(
                "rope_scaling", f"says {kinds[1]!r}, rope_parameters {kinds[0]!r}; leave the wrong one out"
            )
    fields = ConfigFields(config.path, value, prefix=f"{name}.")
    kind_name = "rope_type" if "rope_type" in value or "type" not in value else "type"
    kind = fields.one_of(kind_name, ROPE_TYPES, "default")
    theta = fields.number("rope_theta", config.number("rope_theta", 10_000.0))
    fields.must_be("partial_rotary_factor", 1.0)
    if kind == "default":
        return Rope(theta=theta)
    factor = fields.number("factor")
    if kind == "linear":
        return Rope(kind=kind, theta=theta, factor=factor)
    low, high = fields.number("low_freq_factor"), fields.number("high_freq_factor")
    if high <= low:
        fields.refuse("high_freq_factor", f"must be above low_freq_factor ({low:g})")
    original = fields.size("original_max_position_embeddings")
    return Rope(kind=kind, theta=theta, factor=factor, low=low, high=high, original=original)


def _eos_ids(folder: Path, config: ConfigFields) -> tuple[int, ...]:
    source = config
    path = folder / GENERATION_FILE
    if path.is_file():
        generation = ConfigFields(path, read_json(path))
        if generation.get("eos_token_id") is not None:
            source = generation
    value = source.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < config.size("vocab_size"):
            source.refuse("eos_token_id", f"must be tokens below vocab_size ({config.size('vocab_size')})")
    return tuple(ids)
