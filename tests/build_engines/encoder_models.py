"""Encoders of every family with random weights as checkpoints, and transformers' own vectors on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from build_engines.models.encoder.batches import Ids

VOCAB, POSITIONS = 96, 40
WORDS = ["where", "is", "my", "order", "when", "will", "it", "come", "i", "want", "to", "return", "shoes", "money", "back", "size", "card", "payment", "lost", "parcel", "address", "change", "cancel", "blue", "red", "late", "broken", "help", "person", "shop", "open", "price"]  # fmt: skip
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
DISTIL: dict[str, Any] = {
    "vocab_size": VOCAB, "dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "max_position_embeddings": POSITIONS
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "bert": lambda: BertModel(BertConfig(**SIZES)),
    "bert-tanh-gelu": lambda: BertModel(BertConfig(**SIZES, hidden_act="gelu_new", layer_norm_eps=1e-5)),
    "distilbert": lambda: DistilBertModel(DistilBertConfig(**DISTIL)),
    "distilbert-relu": lambda: DistilBertModel(DistilBertConfig(**DISTIL, activation="relu")),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)),
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**SIZES, pad_token_id=1, type_vocab_size=1)),
    # The width, heads and inner width of multilingual-e5-small, with a short vocabulary.
    "multilingual-e5": lambda: BertModel(
        BertConfig(**{**SIZES, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12}, pad_token_id=1)
    ),
}  # fmt: skip


def random_model(name: str, seed: int = 0) -> Any:
    """A model whose every parameter is random, biases and norms too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[name]()
        for label, value in model.named_parameters():
            if "norm" in label.lower() and label.endswith("weight"):
                value.data.uniform_(0.5, 1.5)
            else:
                value.data.normal_(0.0, 0.5 if "embeddings" in label else 0.1)
    return model.eval()


def save_checkpoint(model: Any, folder: Path) -> Path:
    """Write it with a tokenizer of whole words."""
    model.save_pretrained(folder)
    vocab = {
        "[PAD]": 0,
        "[UNK]": 1,
        "[CLS]": 2,
        "[SEP]": 3,
        **{word: 4 + at for at, word in enumerate(WORDS)},
    }
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def texts(count: int, longest: int = 30, seed: int = 0) -> list[Ids]:
    """Token ids of texts of different lengths."""
    generator = np.random.default_rng(seed)
    return [
        np.concatenate([[2], generator.integers(4, VOCAB, generator.integers(1, longest - 1)), [3]])
        for _ in range(count)
    ]


def wanted(
    model: Any, ids: Sequence[Ids], *, pooling: str = "mean", normalize: bool = True
) -> npt.NDArray[np.float32]:
    """Vectors by transformers, a text at a time."""
    found = []
    with torch.no_grad():
        for one in ids:
            states = model(input_ids=torch.from_numpy(one)[None, :]).last_hidden_state[0]
            pooled = states[0] if pooling == "cls" else states.mean(dim=0)
            found.append(torch.nn.functional.normalize(pooled, dim=0) if normalize else pooled)
    return torch.stack(found).numpy()


def sentence_files(
    folder: Path, dim: int, *, mode: str = "pooling_mode_cls_token", normalize: bool = False
) -> None:
    """What sentence-transformers puts beside a checkpoint."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (kind, path) in enumerate(zip(kinds, paths, strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": dim, "pooling_mode_mean_tokens": False, mode: True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
