"""Which tensors of a checkpoint make which matrices of the graph; each family has its own names for the same things.

A ``Matrix`` is ``[rows, columns]`` as the graph multiplies (``x @ matrix``); checkpoints store the transpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from build_engines.errors import BuildError
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.encoder.architecture import EncoderArchitecture

# What a sentence encoder does not use: heads of pre-training, and what readers compute anew.
UNUSED = ("pooler.", "cls.", "lm_head.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "classifier.",
          "pre_classifier.", "qa_outputs.")  # fmt: skip
BUFFERS = ("position_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Affine:
    """A pair of weight and bias; the stem of both names."""

    stem: str

    @property
    def weight(self) -> str:
        """The tensor."""
        return f"{self.stem}.weight"

    @property
    def bias(self) -> str:
        """The tensor."""
        return f"{self.stem}.bias"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Products of the graph that have one input: queries, keys and values, or a single one.

    Attributes:
        name: in the graph, "layers.3.qkv".
        parts: whose transposes are multiplied by.
        rows: K.
        columns: of each part.
    """

    name: str
    parts: tuple[Affine, ...]
    rows: int
    columns: int

    def weight(self, checkpoint: Checkpoint) -> Floats:
        """All of them side by side, ``[K, N]``."""
        parts = [checkpoint.columns(part.weight, 0, self.rows) for part in self.parts]
        return np.ascontiguousarray(np.concatenate(parts, axis=1))


@dataclass(frozen=True, slots=True)
class Layer:
    """Tensors of one block, in the order in which they are applied."""

    qkv: Matrix
    out: Matrix
    norm1: Affine
    up: Matrix
    down: Matrix
    norm2: Affine

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Its products."""
        return (self.qkv, self.out, self.up, self.down)


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of all tensors that the graph uses.

    Attributes:
        words, positions: tables.
        types: table; None: the family has none.
        norm: behind the sum of the tables.
        layers: blocks.
    """

    words: str
    positions: str
    types: str | None
    norm: Affine
    layers: tuple[Layer, ...]


def find_layout(arch: EncoderArchitecture, checkpoint: Checkpoint) -> Layout:
    """Names of the tensors, whatever stands before them ("bert.", "roberta.model." or nothing), checked against the sizes.

    Raises:
        BuildError: a tensor is missing, of another shape, or none that the graph would use; names it.
    """
    words = "embeddings.word_embeddings.weight"
    prefixes = [name[: -len(words)] for name in checkpoint.names() if name.endswith(words)]
    if len(prefixes) != 1:
        raise BuildError(
            f"{checkpoint.folder}: {len(prefixes)} tensors end with {words!r}, must be one; this is no encoder of the "
            f"{arch.family} family"
        )
    layout = layout_of(arch, prefixes[0])
    _check(arch, layout, checkpoint, prefixes[0])
    return layout


def layout_of(arch: EncoderArchitecture, prefix: str = "") -> Layout:
    """Names of the tensors of the family, behind a prefix."""
    tables = f"{prefix}embeddings"
    make = _distilbert_layer if arch.family == "distilbert" else _bert_layer
    return Layout(
        words=f"{tables}.word_embeddings.weight",
        positions=f"{tables}.position_embeddings.weight",
        types=f"{tables}.token_type_embeddings.weight" if arch.token_types else None,
        norm=Affine(f"{tables}.LayerNorm"),
        layers=tuple(make(arch, prefix, index) for index in range(arch.layers)),
    )


def _bert_layer(arch: EncoderArchitecture, prefix: str, index: int) -> Layer:
    base, name = f"{prefix}encoder.layer.{index}", f"layers.{index}"
    inner = tuple(Affine(f"{base}.attention.self.{part}") for part in ("query", "key", "value"))
    width = arch.heads * arch.head_dim
    return Layer(
        qkv=Matrix(f"{name}.qkv", inner, arch.dim, width),
        out=Matrix(f"{name}.out", (Affine(f"{base}.attention.output.dense"),), width, arch.dim),
        norm1=Affine(f"{base}.attention.output.LayerNorm"),
        up=Matrix(f"{name}.up", (Affine(f"{base}.intermediate.dense"),), arch.dim, arch.hidden),
        down=Matrix(f"{name}.down", (Affine(f"{base}.output.dense"),), arch.hidden, arch.dim),
        norm2=Affine(f"{base}.output.LayerNorm"),
    )


def _distilbert_layer(arch: EncoderArchitecture, prefix: str, index: int) -> Layer:
    base, name = f"{prefix}transformer.layer.{index}", f"layers.{index}"
    inner = tuple(Affine(f"{base}.attention.{part}_lin") for part in "qkv")
    width = arch.heads * arch.head_dim
    return Layer(
        qkv=Matrix(f"{name}.qkv", inner, arch.dim, width),
        out=Matrix(f"{name}.out", (Affine(f"{base}.attention.out_lin"),), width, arch.dim),
        norm1=Affine(f"{base}.sa_layer_norm"),
        up=Matrix(f"{name}.up", (Affine(f"{base}.ffn.lin1"),), arch.dim, arch.hidden),
        down=Matrix(f"{name}.down", (Affine(f"{base}.ffn.lin2"),), arch.hidden, arch.dim),
        norm2=Affine(f"{base}.output_layer_norm"),
    )


def _check(arch: EncoderArchitecture, layout: Layout, checkpoint: Checkpoint, prefix: str) -> None:
    wanted = dict(_expected(arch, layout))
    for name, shape in wanted.items():
        found = checkpoint.shape(name)
        if found != shape:
            raise BuildError(
                f"{checkpoint.folder}: tensor {name!r} has shape {found}, config.json says {shape}"
            )
    extra = sorted(
        name
        for name in checkpoint.names() - set(wanted)
        if not name.removeprefix(prefix).startswith(UNUSED) and not name.endswith(BUFFERS)
    )
    if extra:
        raise BuildError(
            f"{checkpoint.folder}: {len(extra)} tensors are not part of a {arch.family} encoder as config.json describes "
            f"it, the first is {extra[0]!r}; the graph would leave them out"
        )


def _expected(arch: EncoderArchitecture, layout: Layout) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield layout.words, (arch.table_rows, arch.dim)
    yield layout.positions, (arch.positions, arch.dim)
    if layout.types is not None:
        yield layout.types, (arch.token_types, arch.dim)
    norms = [layout.norm]
    for layer in layout.layers:
        norms += [layer.norm1, layer.norm2]
        for matrix in layer.matrices:
            for part in matrix.parts:
                yield part.weight, (matrix.columns, matrix.rows)
                yield part.bias, (matrix.columns,)
    for norm in norms:
        yield norm.weight, (arch.dim,)
        yield norm.bias, (arch.dim,)
