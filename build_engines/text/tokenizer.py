"""A byte-level BPE tokenizer from texts, saved in Hugging Face form; made for models that copy facts.

Three decisions serve copying. Digits stand alone, so a number is copied digit by digit. A space belongs to the word after
it only where that word begins with a small letter: "Brimora" is the same tokens after a space, a quote or a colon. Chinese
characters stand alone: a colour is the same tokens whatever surrounds it. So a fact in a record and in its copy look alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT, PADDING = "<|endoftext|>", "<|pad|>"
TOKENIZER_FILE, TOKENIZER_CONFIG, TEMPLATE_FILE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_PIECES = r"\p{N}| ?\p{Ll}+|\p{Lu}\p{Ll}*|[\p{Lo}\p{Lm}\p{Lt}\p{M}]| ?[^\s\p{L}\p{N}\p{M}]+|\s*\n|\s"  # every character is in one
# A model of copy has no turns: what the user says is the prompt, as ``copy_prompt`` writes it. Rules of the system are for
# models that can read them.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] != 'system' -%}"
    "{{- message['content'] -}}"
    "{%- if not message['content'].endswith('\\n') -%}{{- '\\n' -}}{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn merges.

    Args:
        texts: what to learn from, in any order: the same texts give the same tokenizer.
        vocab_size: tokens at most, bytes and the two special ones (ids 0 and 1) included (>= 258).

    Raises:
        ValueError: ``vocab_size`` is too small.
    """
    if vocab_size < 258:
        raise ValueError(f"vocab_size is {vocab_size}; 256 bytes and 2 special tokens need 258 or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[
            AddedToken(END_OF_TEXT, special=True, normalized=False),
            AddedToken(PADDING, special=True, normalized=False),
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_context: int) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja`` as transformers reads them."""
    tokenizer.save(str(folder / TOKENIZER_FILE))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": PADDING,
        "model_max_length": max_context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    _write(folder / TOKENIZER_CONFIG, json.dumps(config, indent=2) + "\n")
    _write(folder / TEMPLATE_FILE, CHAT_TEMPLATE)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
