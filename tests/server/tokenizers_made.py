"""Small tokenizers in Hugging Face form, made here: byte-level as Llama 3 and Qwen have it, and SentencePiece's form."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = (
    "The blue mug of 0.3 l is made of stoneware and keeps tea warm for an hour.",
    "Das ist ein Becher aus Steinzeug, blau glasiert, 9 cm hoch und spülmaschinenfest.",
    "蓝色陶瓷马克杯,容量三百毫升,适合茶和咖啡。",
    '{"headline": "A mug", "bullets": ["blue", "0.3 l"], "price": 12.50, "ok": true}',
    "emoji 😀🎉 and naïve café",
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@functools.cache
def byte_level_json(vocab_size: int = 600) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(
        [AddedToken("<tool_call>", normalized=False), AddedToken("<think it>", normalized=False)]
    )
    return tokenizer.to_str()


@functools.cache
def sentence_piece_json() -> str:
    chars = sorted({char for text in TEXTS[:2] for char in text.replace(" ", "▁")})
    words = ["▁blue", "▁mug", "▁the", "ea", "▁t"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *chars]
    merges = []
    for word in words:
        built = word[0]
        for char in word[1:]:
            merges.append((built, char))
            built += char
            tokens += [built] if built not in tokens else []
            tokens += [char] if char not in tokens else []
    vocab = {token: at for at, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(
        models.BPE(vocab, list(dict.fromkeys(merges)), unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    return tokenizer.to_str()


def write_files(folder: Path, tokenizer_json: str, *, template: str | None = CHATML, **config: Any) -> Path:
    """A checkpoint's tokenizer files."""
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    config = {"eos_token": "<|im_end|>", **config}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
