"""The encoder's own arithmetic in torch, to be trained and cut: its parameters have the checkpoint's names.

One network for every family: which names they go by is ``layout``'s business. Heads and width need not belong together, so
it also is what a checkpoint is held against that other readers of its family refuse. Parity with transformers and with the
graph is a test. There is no dropout: what trains here has a teacher, and few texts.

Suffixes: B texts, T tokens, D width, H heads, V tokens of the vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from build_engines.errors import BuildError
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.encoder.architecture import (
    WORD_ROWS_FILE,
    EncoderArchitecture,
    read_architecture,
)
from build_engines.models.encoder.layout import BUFFERS, Layer, Layout, find_layout, layout_of

Rows = npt.NDArray[np.int64]


class EncoderBlock(nn.Module):
    """One block, post-norm; its modules stand where the family's names say.

    Args:
        arch: sizes.
        layer: names.
        own: what stands before all of them: the block's own name, and a dot.
    """

    def __init__(self, arch: EncoderArchitecture, layer: Layer, own: str) -> None:
        super().__init__()
        self.heads, self.activation = arch.heads, arch.activation
        query, key, value = (part.stem.removeprefix(own) for part in layer.qkv.parts)
        self.names = {
            "q": query,
            "k": key,
            "v": value,
            "out": layer.out.parts[0].stem.removeprefix(own),
            "up": layer.up.parts[0].stem.removeprefix(own),
            "down": layer.down.parts[0].stem.removeprefix(own),
            "norm1": layer.norm1.stem.removeprefix(own),
            "norm2": layer.norm2.stem.removeprefix(own),
        }
        width = arch.heads * arch.head_dim
        shapes = {part: (arch.dim, width) for part in "qkv"}
        shapes |= {
            "out": (width, arch.dim),
            "up": (arch.dim, arch.hidden),
            "down": (arch.hidden, arch.dim),
        }
        for part, (rows, columns) in shapes.items():
            _put(self, self.names[part], nn.Linear(rows, columns))
        for part in ("norm1", "norm2"):
            _put(self, self.names[part], nn.LayerNorm(arch.dim, eps=arch.norm_eps))

    def by_head(self, projected: Tensor) -> Tensor:
        """``[B, H, T, head_dim]`` of what a projection gave."""
        batch, length, width = projected.shape
        return projected.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x_BTD: Tensor, visible_B11T: Tensor) -> Tensor:
        """The residual stream behind the block."""
        q, k, v = (self.by_head(self._apply_part(part, x_BTD)) for part in "qkv")
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible_B11T)
        x = self._apply_part("norm1", self._apply_part("out", mixed.transpose(1, 2).flatten(2)) + x_BTD)
        inner = self._apply_part("up", x)
        if self.activation == "relu":
            inner = functional.relu(inner)
        else:
            inner = functional.gelu(inner, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return self._apply_part("norm2", self._apply_part("down", inner) + x)

    def _apply_part(self, part: str, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(self.names[part])(x)
        return found


class EncoderNetwork(nn.Module):
    """A whole encoder without pooling.

    Args:
        arch: sizes and family.
        row_V: the row of the word table that stands for each token, int64 ``[V]``; None: each has its own.
    """

    def __init__(self, arch: EncoderArchitecture, row_V: Rows | None = None) -> None:
        super().__init__()
        if (row_V is None) != (arch.word_rows is None):
            raise ValueError("word_rows of the architecture goes with the rows of tokens")
        self.arch, self.layout = arch, layout_of(arch)
        if row_V is not None:
            self.register_buffer("row_V", torch.from_numpy(row_V.copy()), persistent=False)
        layout = self.layout
        _put(self, _stem(layout.words), nn.Embedding(arch.table_rows, arch.dim))
        _put(self, _stem(layout.positions), nn.Embedding(arch.positions, arch.dim))
        if layout.types is not None:
            _put(self, _stem(layout.types), nn.Embedding(arch.token_types, arch.dim))
        _put(self, layout.norm.stem, nn.LayerNorm(arch.dim, eps=arch.norm_eps))
        for index, layer in enumerate(layout.layers):
            _put(self, self.block_name(index), EncoderBlock(arch, layer, self.block_name(index) + "."))

    def block_name(self, index: int) -> str:
        """Name of a block."""
        stem = self.layout.layers[index].norm1.stem
        place = stem.index(f".{index}.")
        return stem[: place + len(f".{index}")]

    def block(self, index: int) -> EncoderBlock:
        """A block."""
        found = self.get_submodule(self.block_name(index))
        assert isinstance(found, EncoderBlock)
        return found

    @property
    def table(self) -> nn.Embedding:
        """The word table."""
        found = self.get_submodule(_stem(self.layout.words))
        assert isinstance(found, nn.Embedding)
        return found

    @property
    def rows_V(self) -> Rows:
        """The row of each token."""
        if self.arch.word_rows is None:
            return np.arange(self.arch.vocab_size)
        rows: Rows = self.get_buffer("row_V").cpu().numpy()
        return rows

    def embedded_BTD(self, ids_BT: Tensor) -> Tensor:
        """Tables summed and normalized."""
        rows_BT = ids_BT if self.arch.word_rows is None else self.get_buffer("row_V")[ids_BT]
        layout, first = self.layout, self.arch.first_position
        x: Tensor = self.table(rows_BT)
        x = x + self.get_parameter(layout.positions)[first : first + ids_BT.shape[1]]
        if layout.types is not None:
            x = x + self.get_parameter(layout.types)[0]
        found: Tensor = self.get_submodule(layout.norm.stem)(x)
        return found

    def forward(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Hidden states ``[B, T, D]``; what lies behind a text's length means nothing."""
        visible_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
        x = self.embedded_BTD(ids_BT)
        for index in range(self.arch.layers):
            x = self.get_submodule(self.block_name(index))(x, visible_BT[:, None, None])
        return x


def pooled(
    hidden_BTD: Tensor, lengths_B: Tensor, *, pooling: Literal["mean", "cls"], dim: int, normalize: bool
) -> Tensor:
    """A vector a text ``[B, dim]``, as the graph pools."""
    if pooling == "cls":
        found = hidden_BTD[:, 0]
    else:
        inside_BT1 = (torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device) < lengths_B[:, None])[
            ..., None
        ]
        found = (hidden_BTD * inside_BT1).sum(1) / lengths_B[:, None]
    found = found[:, :dim]
    return functional.normalize(found, dim=-1, eps=1e-12) if normalize else found


def load_network(folder: Path) -> EncoderNetwork:
    """The network of a folder with config.json and weights.

    Raises:
        BuildError: a file is missing, broken, or says what the network cannot be; names it.
    """
    arch = read_architecture(folder)
    network = EncoderNetwork(arch, read_word_rows(folder, arch))
    with Checkpoint(folder, left_out=BUFFERS) as tensors:
        theirs, ours = find_layout(arch, tensors), network.layout
        state = {
            own: torch.from_numpy(np.array(tensors.array(name)))
            for own, name in zip(_names(ours), _names(theirs), strict=True)
        }
    network.load_state_dict(state)
    return network


def read_word_rows(folder: Path, arch: EncoderArchitecture) -> Rows | None:
    """The row of each token, where tokens share rows.

    Raises:
        BuildError: the file is missing or names rows that the table has not.
    """
    if arch.word_rows is None:
        return None
    path = folder / WORD_ROWS_FILE
    try:
        row_V: Any = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: cannot be read ({error}); run the compression again") from error
    if row_V.shape != (arch.vocab_size,) or row_V.min() < 0 or row_V.max() >= arch.word_rows:
        raise BuildError(
            f"{path}: has {row_V.shape} entries up to {row_V.max()}, must name one of {arch.word_rows} rows for each of "
            f"{arch.vocab_size} tokens"
        )
    rows: Rows = row_V.astype(np.int64)
    return rows


def _names(layout: Layout) -> list[str]:
    names = [layout.words, layout.positions, *([layout.types] if layout.types is not None else [])]
    affine = [layout.norm]
    for layer in layout.layers:
        affine += [layer.norm1, layer.norm2, *(part for matrix in layer.matrices for part in matrix.parts)]
    return names + [name for one in affine for name in (one.weight, one.bias)]


def _stem(name: str) -> str:
    return name.removesuffix(".weight")


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    *path, last = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)
