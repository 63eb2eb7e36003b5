"""What config.json says an encoder is, and whether the graph can be it.

Decision not to undo: what is not known is refused by the field that says so. A field that is ignored here would be a model
that answers, and answers something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from build_engines.models.config_fields import ConfigFields, read_json

CONFIG_FILE = "config.json"
WORD_ROWS_FILE = "word_rows.npy"  # int32 [vocab_size]: the row of the word table that stands for a token
FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta")
_OFFSET_FAMILIES = ("roberta", "xlm-roberta")  # their positions begin behind the padding token's id
Activation = Literal["gelu", "gelu_tanh", "relu"]
_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"
}  # fmt: skip
# DistilBERT's own names for the same fields.
_DISTILBERT = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}
_DISTILBERT_EPS = 1e-12  # written into its code, not into its configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderArchitecture:
    """Sizes and switches of an encoder.

    Attributes:
        family: ``model_type``.
        layers: blocks.
        dim: width.
        heads: of attention.
        head_dim: width of a head; ``heads * head_dim`` is ``dim`` unless heads or width were cut.
        hidden: inner width of the feed-forward part.
        vocab_size: tokens.
        positions: rows of the position table.
        first_position: row of a text's first token.
        token_types: rows of the token-type table, of which the first is used; 0: there is none.
        norm_eps: of every normalization.
        activation: between the two feed-forward products.
        word_rows: rows of the word table where tokens share them (see ``WORD_ROWS_FILE``); None: one for each token.
    """

    family: str
    layers: int
    dim: int
    heads: int
    head_dim: int
    hidden: int
    vocab_size: int
    positions: int
    first_position: int
    token_types: int
    norm_eps: float
    activation: Activation
    word_rows: int | None = None

    @property
    def table_rows(self) -> int:
        """Rows of the word table."""
        return self.word_rows or self.vocab_size

    @property
    def max_tokens(self) -> int:
        """Longest text that has positions, special tokens included."""
        return self.positions - self.first_position


def read_architecture(folder: Path) -> EncoderArchitecture:
    """Read config.json.

    Raises:
        BuildError: it is missing or broken, or a field says what the graph cannot do; names file, field and value.
    """
    path = folder / CONFIG_FILE
    config = ConfigFields(path, read_json(path))
    family = config.one_of("model_type", FAMILIES)
    _refuse_others(config, family)

    def name(field: str) -> str:
        return _DISTILBERT[field] if family == "distilbert" else field

    dim, heads = config.size(name("hidden_size")), config.size(name("num_attention_heads"))
    if config.get("head_dim") is None and dim % heads:
        config.refuse(name("num_attention_heads"), f"must divide {name('hidden_size')} ({dim})")
    head_dim = config.size("head_dim", dim // heads or 1)
    if head_dim % 8:
        config.refuse(name("num_attention_heads"), f"heads are {head_dim} wide, must be a multiple of 8")
    positions = config.size("max_position_embeddings", 512)
    first = _padding(config) + 1 if family in _OFFSET_FAMILIES else 0
    if first >= positions:
        config.refuse("max_position_embeddings", f"must be above pad_token_id + 1 ({first})")
    return EncoderArchitecture(
        family=family,
        layers=config.size(name("num_hidden_layers")),
        dim=dim,
        heads=heads,
        head_dim=head_dim,
        hidden=config.size(name("intermediate_size")),
        vocab_size=config.size("vocab_size"),
        positions=positions,
        first_position=first,
        token_types=0 if family == "distilbert" else config.size("type_vocab_size", 2),
        norm_eps=_DISTILBERT_EPS if family == "distilbert" else config.number("layer_norm_eps", 1e-12),
        activation=_ACTIVATIONS[config.one_of(name("hidden_act"), tuple(_ACTIVATIONS), "gelu")],
        word_rows=None if config.get("word_rows") is None else config.size("word_rows"),
    )


def narrowed_config(config: Mapping[str, Any], arch: EncoderArchitecture) -> dict[str, Any]:
    """config.json of a checkpoint that has these sizes now.

    ``head_dim`` and ``word_rows`` are written only where they say something: without them other readers of the family read
    the checkpoint too, and with them they refuse its shapes.
    """

    def name(field: str) -> str:
        return _DISTILBERT[field] if arch.family == "distilbert" else field

    found = dict(config)
    found[name("hidden_size")] = arch.dim
    found[name("num_attention_heads")] = arch.heads
    found[name("num_hidden_layers")] = arch.layers
    found[name("intermediate_size")] = arch.hidden
    if "embedding_size" in found:
        found["embedding_size"] = arch.dim
    for field in ("head_dim", "word_rows"):
        found.pop(field, None)
    if arch.heads * arch.head_dim != arch.dim:
        found["head_dim"] = arch.head_dim
    if arch.word_rows is not None:
        found["word_rows"] = arch.word_rows
    return found


def _refuse_others(config: ConfigFields, family: str) -> None:
    config.must_be("position_embedding_type", "absolute")
    config.must_be("is_decoder", False, hint="a decoder is no sentence encoder")
    config.must_be("add_cross_attention", False)
    config.must_be("quantization_config", None, hint="give the checkpoint that it was quantized from")
    config.must_be("embedding_size", config.get("hidden_size"), hint="must be hidden_size")
    pruned: Any = config.get("pruned_heads")
    if pruned:
        config.refuse("pruned_heads", "heads of different numbers in each block are not supported")
    config.must_be("chunk_size_feed_forward", 0)


def _padding(config: ConfigFields) -> int:
    value = config.get("pad_token_id")
    value = 1 if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        config.refuse("pad_token_id", "must be a token's id")
    return int(value)
