"""Words of another language for an encoder that reads one: each gets the mean of the rows of its translation.

A vocabulary of English has no row for most Chinese characters, so that a Chinese question is a row of unknowns. Here words are
added to the tokenizer (longest first, as a segmenter would) and to the word table, and **nothing else is touched**: a text
without such a word has the tokens, and in float32 the very vector, that it had before. What comes of it is the encoder's
reading of a word-for-word translation: good enough to tell intents apart, no match for an encoder that was trained on the
language (a multilingual checkpoint needs no such words).

The glossary is text: ``word=translation``, several on a line divided by ``; ``; lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer

from build_engines.errors import BuildError
from build_engines.models.encoder.sentence import TOKENIZER_FILE, weights_folder

CONFIG_FILE, WEIGHTS_FILE, TABLE = "config.json", "model.safetensors", "word_embeddings.weight"


def read_glossary(path: Path) -> dict[str, str]:
    """Translations by word; the first of a word counts.

    Raises:
        BuildError: it cannot be read, or a line is no list of words; names the line.
    """
    words: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path}: cannot be read as UTF-8 text ({error}); name a glossary") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        for entry in line.split("; "):
            word, equals, translation = entry.partition("=")
            if not (equals and word.strip() and translation.strip()):
                raise BuildError(
                    f"{path}:{number}: {entry[:40]!r} is no word=translation; divide entries by '; '"
                )
            words.setdefault(word.strip(), translation.strip())
    if not words:
        raise BuildError(f"{path}: holds no words; write word=translation")
    return words


def add_words(checkpoint: Path, words: Mapping[str, str], folder: Path) -> int:
    """Write the checkpoint with more words into ``folder``.

    Args:
        checkpoint: in Hugging Face or sentence-transformers form, its weights in one ``model.safetensors``.
        words: translations that the encoder reads, by word.
        folder: to write; must not exist.

    Returns:
        How many words the encoder reads now that it did not before.

    Raises:
        BuildError: a file of the checkpoint is missing or has no word table.
    """
    place = weights_folder(checkpoint)
    weights = place / WEIGHTS_FILE
    if not weights.is_file() or not (place / TOKENIZER_FILE).is_file():
        raise BuildError(
            f"{place}: words can be added where there are {WEIGHTS_FILE} and {TOKENIZER_FILE}; save the checkpoint so"
        )
    tokenizer = Tokenizer.from_file(str(place / TOKENIZER_FILE))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tensors = load_file(weights)
    names = [name for name in tensors if name.endswith(TABLE)]
    if len(names) != 1:
        raise BuildError(f"{weights}: has {len(names)} tensors {TABLE}; one is needed to add words")
    table_VD = tensors[names[0]]
    translated = {word: tokenizer.encode(text, add_special_tokens=False).ids for word, text in words.items()}
    before = tokenizer.get_vocab_size(with_added_tokens=True)
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    ids = {word: row for word in words if (row := tokenizer.token_to_id(word)) is not None}
    size = max(len(table_VD), *(one + 1 for one in ids.values()))
    grown_VD = np.zeros((size, table_VD.shape[1]), table_VD.dtype)
    grown_VD[: len(table_VD)] = table_VD
    for word, row in ids.items():
        if translated[word]:
            grown_VD[row] = table_VD[translated[word]].astype(np.float32).mean(axis=0).astype(table_VD.dtype)
    tensors[names[0]] = grown_VD
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", ".*"))
    target = folder / place.relative_to(checkpoint)
    save_file(tensors, target / WEIGHTS_FILE, metadata={"format": "pt"})
    tokenizer.save(str(target / TOKENIZER_FILE))
    config = json.loads((place / CONFIG_FILE).read_text(encoding="utf-8"))
    config["vocab_size"] = size
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return tokenizer.get_vocab_size(with_added_tokens=True) - before
