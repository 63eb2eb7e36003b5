"""An encoder's parameters and descriptions, cut to smaller shapes. Suffixes: as in ``encoder``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from build_engines.compression.families.narrowing import Cut, NormChange, adjust, columns_of, taken
from build_engines.models.encoder.network import EncoderNetwork
from build_engines.models.encoder.sentence import PROMPTS_FILE


def cut_state(
    network: EncoderNetwork,
    smaller: EncoderNetwork,
    cut: Cut,
    rows: Sequence[int],
    changes: Mapping[str, NormChange],
) -> Mapping[str, Tensor]:
    """Parameters of the smaller network."""
    old, new, dims = network.layout, smaller.layout, cut.dims
    state = {new.words: taken(network.table.weight, rows, dims)}
    for name in (old.positions, old.types):
        if name is not None:
            state[name] = taken(network.get_parameter(name), None, dims)
    for norm in (old.norm.weight, old.norm.bias):
        state[norm] = taken(network.get_parameter(norm), dims)
    adjust(state, new.norm.stem, changes.get(old.norm.stem))
    for place, index in enumerate(cut.blocks):
        heads = columns_of(cut.heads[place], cut.sizes.head_dim)
        inner = cut.inner[place]
        theirs, ours = old.layers[index], new.layers[place]
        axes = ((heads, dims), (dims, heads), (inner, dims), (dims, inner))
        for (outs, ins), before, after in zip(axes, theirs.matrices, ours.matrices, strict=True):
            for source, target in zip(before.parts, after.parts, strict=True):
                state[target.weight] = taken(network.get_parameter(source.weight), outs, ins)
                state[target.bias] = taken(network.get_parameter(source.bias), outs)
        for source, target in ((theirs.norm1, ours.norm1), (theirs.norm2, ours.norm2)):
            state[target.weight] = taken(network.get_parameter(source.weight), dims)
            state[target.bias] = taken(network.get_parameter(source.bias), dims)
            adjust(state, target.stem, changes.get(source.stem))
    return state


def describe_width(folder: Path, dim: int) -> None:
    """Correct what sentence-transformers says of the width beside the encoder's own configuration."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if "word_embedding_dimension" in config:
            write_json(path, {**config, "word_embedding_dimension": dim})
    prompts = folder / PROMPTS_FILE
    if prompts.is_file():
        config = json.loads(prompts.read_text(encoding="utf-8"))
        if (config.get("truncate_dim") or 0) > dim:
            write_json(prompts, {**config, "truncate_dim": dim})


def write_json(path: Path, value: object) -> None:
    """A JSON document for people and programs."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
