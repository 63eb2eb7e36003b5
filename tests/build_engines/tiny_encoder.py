"""A BERT of some thousand weights with its tokenizer, on disk; and questions whose intent stands in one word."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from build_engines.intents.examples import Example

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
KEYS = {
    "track": ("parcel", "tracking", "courier"),
    "refund": ("refund", "money", "back"),
    "cancel": ("cancel", "stop", "undo"),
}
FILLER = ("please", "my", "order", "the", "a", "is", "where", "how", "can", "i", "hello", "now", "today")
OUTSIDE = ("weather", "poem", "football")


def tiny_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Write it into ``folder``."""
    words = [*SPECIAL, *FILLER, *(word for words in KEYS.values() for word in words), *OUTSIDE, "?", "!"]
    vocabulary = {word: at for at, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    folder.mkdir(parents=True, exist_ok=True)
    BertModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def questions(number: int, *, seed: int = 0, outside: bool = True) -> list[Example]:
    """Texts with one telling word among filler."""
    draw = random.Random(seed)
    kinds = {**KEYS, **({"out_of_scope": OUTSIDE} if outside else {})}
    found: dict[str, Example] = {}
    while len(found) < number:
        intent = draw.choice(sorted(kinds))
        words = [*draw.choices(FILLER, k=draw.randint(2, 7)), draw.choice(kinds[intent])]
        draw.shuffle(words)
        text = " ".join(words)
        found.setdefault(text, Example(text=text, intent=intent))
    return list(found.values())
