"""Which tensors of a checkpoint make which matrices of the graph.

Queries, keys and values are one product, and so are gate and up: fewer, larger products are faster at one token a step.
A ``Matrix`` is ``[rows, columns]`` as the graph multiplies (``x @ matrix``); checkpoints store the transpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from build_engines.errors import BuildError
from build_engines.models.causal.architecture import Architecture
from build_engines.models.causal.checkpoint import Checkpoint

EMBEDDING, HEAD, FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
# What some exporters leave in and every reader computes anew.
IGNORED = ("rotary_emb.inv_freq", "attention.bias", "masked_bias")


@dataclass(frozen=True, slots=True)
class Matrix:
    """One product of the graph.

    Attributes:
        name: in the graph, "layers.3.qkv".
        parts: tensors whose transposes lie side by side in it.
        bias: tensors of its bias, side by side; empty: none.
        rows: K.
        columns: of each part.
    """

    name: str
    parts: tuple[str, ...]
    bias: tuple[str, ...]
    rows: int
    columns: tuple[int, ...]

    @property
    def width(self) -> int:
        """N, columns in all."""
        return sum(self.columns)


@dataclass(frozen=True, slots=True)
class Layer:
    """Tensors of one block."""

    norm1: str
    qkv: Matrix
    q_norm: str
    k_norm: str
    out: Matrix
    norm2: str
    gate_up: Matrix
    down: Matrix


def layer_layout(arch: Architecture, index: int) -> Layer:
    """Names and sizes of block ``index``."""
    base, name = f"model.layers.{index}", f"layers.{index}"
    attention, mlp = f"{base}.self_attn", f"{base}.mlp"
    queries, keys = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim

    def matrix(
        label: str, owner: str, parts: tuple[str, ...], biased: bool, rows: int, *columns: int
    ) -> Matrix:
        weights = tuple(f"{owner}.{part}_proj.weight" for part in parts)
        bias = tuple(f"{owner}.{part}_proj.bias" for part in parts) if biased else ()
        return Matrix(f"{name}.{label}", weights, bias, rows, columns)

    return Layer(
        norm1=f"{base}.input_layernorm.weight",
        qkv=matrix("qkv", attention, ("q", "k", "v"), arch.qkv_bias, arch.dim, queries, keys, keys),
        q_norm=f"{attention}.q_norm.weight",
        k_norm=f"{attention}.k_norm.weight",
        out=matrix("out", attention, ("o",), arch.out_bias, queries, arch.dim),
        norm2=f"{base}.post_attention_layernorm.weight",
        gate_up=matrix("gate_up", mlp, ("gate", "up"), arch.mlp_bias, arch.dim, arch.hidden, arch.hidden),
        down=matrix("down", mlp, ("down",), arch.mlp_bias, arch.hidden, arch.dim),
    )


def head_layout(arch: Architecture) -> Matrix:
    """The output head; a tied one is a copy of the embedding, because that is looked up in and this is multiplied by."""
    return Matrix("head", (EMBEDDING if arch.tied else HEAD,), (), arch.dim, (arch.vocab_size,))


def check_tensors(arch: Architecture, checkpoint: Checkpoint) -> None:
    """See that every tensor is there in its shape, and that none is there that the graph would not use.

    Raises:
        BuildError: names the tensor and both shapes.
    """
    wanted = dict(_expected(arch))
    for name, shape in wanted.items():
        found = checkpoint.shape(name)
        if found != shape:
            raise BuildError(
                f"{checkpoint.folder}: tensor {name!r} has shape {found}, config.json says {shape}"
            )
    extra = sorted(
        name
        for name in checkpoint.names() - set(wanted) - ({HEAD} if arch.tied else set())
        if not name.endswith(IGNORED)
    )
    if extra:
        raise BuildError(
            f"{checkpoint.folder}: {len(extra)} tensors are not part of a {arch.family} model as config.json describes "
            f"it, the first is {extra[0]!r}; the graph would leave them out"
        )


def tensor_names(arch: Architecture) -> tuple[str, ...]:
    """Names of all tensors that the graph uses."""
    return tuple(name for name, _ in _expected(arch))


def _expected(arch: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield EMBEDDING, (arch.vocab_size, arch.dim)
    yield FINAL_NORM, (arch.dim,)
    if not arch.tied:
        yield HEAD, (arch.vocab_size, arch.dim)
    for index in range(arch.layers):
        layer = layer_layout(arch, index)
        yield layer.norm1, (arch.dim,)
        yield layer.norm2, (arch.dim,)
        if arch.qk_norm:
            yield layer.q_norm, (arch.head_dim,)
            yield layer.k_norm, (arch.head_dim,)
        for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down):
            for part, columns in zip(matrix.parts, matrix.columns, strict=True):
                yield part, (columns, matrix.rows)
            for part, columns in zip(matrix.bias, matrix.columns, strict=False):
                yield part, (columns,)
