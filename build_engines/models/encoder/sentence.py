"""How a checkpoint makes one vector of a text: pooling, normalization, prefixes and longest text, from its own files.

A folder in the form of sentence-transformers says it in ``modules.json`` and the files that this names; a plain Hugging Face
folder says nothing, and gets the mean over tokens, normalized. What a recipe says wins over either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build_engines.errors import BuildError
from build_engines.models.config_fields import ConfigFields, read_json
from build_engines.models.encoder.architecture import EncoderArchitecture
from build_engines.models.encoder.graph import Pooling

MODULES_FILE, TOKENIZER_FILE = "modules.json", "tokenizer.json"
SENTENCE_FILE, PROMPTS_FILE = "sentence_bert_config.json", "config_sentence_transformers.json"
KINDS = ("query", "passage", "plain")
# The names under which checkpoints keep prompts, by what a text is.
_PROMPTS = {"query": ("query", "search_query"), "passage": ("passage", "document", "search_document")}
_POOLED_AS: Mapping[str, Pooling] = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
_MODE = "pooling_mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceForm:
    """From tokens' vectors to a text's.

    Attributes:
        pooling: see ``EncoderForm``.
        normalize: vectors get length 1.
        dim: width of the vector that is kept.
        max_tokens: longest text, special tokens included.
        prefixes: before a text, by what it is.
    """

    pooling: Pooling
    normalize: bool
    dim: int
    max_tokens: int
    prefixes: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(KINDS, ""))


def weights_folder(folder: Path) -> Path:
    """Where config.json and weights are: the folder itself, or the part of it that modules.json names first."""
    modules = _modules(folder)
    return folder / modules[0][1] if modules else folder


def read_sentence_form(folder: Path, arch: EncoderArchitecture) -> SentenceForm:
    """Read what the folder says.

    Raises:
        BuildError: a file is broken, or says what the graph cannot do; names file, field and value.
    """
    modules = _modules(folder)
    pooling: Pooling = "mean"
    normalize = True
    if modules:
        kinds = [kind for kind, _ in modules]
        if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
            raise BuildError(
                f"{folder / MODULES_FILE}: type = {json.dumps(kinds)}: only Transformer, Pooling and Normalize are "
                "supported, in this order"
            )
        pooling, normalize = _pooling(folder / modules[1][1], arch), "Normalize" in kinds
    limit = _longest(folder, weights_folder(folder), arch)
    dim, prefixes = _prompts(folder, arch)
    return SentenceForm(pooling=pooling, normalize=normalize, dim=dim, max_tokens=limit, prefixes=prefixes)


def _modules(folder: Path) -> list[tuple[str, str]]:
    path = folder / MODULES_FILE
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        modules = [(str(one["type"]).rsplit(".", 1)[-1], str(one["path"])) for one in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{path}: is no list of modules ({error}); fetch the checkpoint again") from error
    for _, place in modules:
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise BuildError(f"{path}: path = {json.dumps(place)}: must stay inside the checkpoint")
    return modules


def _pooling(folder: Path, arch: EncoderArchitecture) -> Pooling:
    path = folder / "config.json"
    config = ConfigFields(path, read_json(path))
    config.must_be("word_embedding_dimension", arch.dim, hint=f"must be the encoder's width ({arch.dim})")
    config.must_be(
        "include_prompt", True, hint="prompts are pooled with the text; leaving them out is not supported"
    )
    if config.get(_MODE) is not None:
        return _POOLED_AS[config.one_of(_MODE, tuple(_POOLED_AS))]
    chosen = [name for name in _flags(config) if config.flag(name)]
    modes = [_POOLED_AS.get(name.removeprefix(f"{_MODE}_")) for name in chosen]
    if len(modes) != 1 or modes[0] is None:
        raise BuildError(
            f"{path}: {', '.join(chosen) or _MODE} = {'true' if chosen else 'null'}: not supported, there are "
            f"{_MODE}_mean_tokens and {_MODE}_cls_token, one of them"
        )
    return modes[0]


def _flags(config: ConfigFields) -> list[str]:
    return [name for name in config.names() if name.startswith(f"{_MODE}_")]


def _longest(folder: Path, weights: Path, arch: EncoderArchitecture) -> int:
    limit = arch.max_tokens
    for path in {folder / SENTENCE_FILE, weights / SENTENCE_FILE}:
        if not path.is_file():
            continue
        config = ConfigFields(path, read_json(path))
        if config.flag("do_lower_case") and not _lowers(weights / TOKENIZER_FILE):
            config.refuse(
                "do_lower_case", "tokenizer.json does not lower letters; set its normalizer to do it"
            )
        if config.get("max_seq_length") is not None:
            limit = min(limit, config.size("max_seq_length"))
    return limit


def _lowers(path: Path) -> bool:
    def found(part: Any) -> bool:
        if not isinstance(part, Mapping):
            return False
        inner = part.get("normalizers") or []
        return part.get("lowercase") is True or part.get("type") == "Lowercase" or any(map(found, inner))

    return path.is_file() and found(read_json(path).get("normalizer"))


def _prompts(folder: Path, arch: EncoderArchitecture) -> tuple[int, dict[str, str]]:
    prefixes = dict.fromkeys(KINDS, "")
    path = folder / PROMPTS_FILE
    if not path.is_file():
        return arch.dim, prefixes
    config = ConfigFields(path, read_json(path))
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, Mapping) or not all(isinstance(text, str) for text in prompts.values()):
        config.refuse("prompts", "must be texts by name")
    for kind, names in _PROMPTS.items():
        prefixes[kind] = next((prompts[name] for name in names if name in prompts), "")
    usual = config.get("default_prompt_name")
    if usual is not None:
        if usual not in prompts:
            config.refuse("default_prompt_name", f"is none of prompts ({', '.join(prompts)})")
        prefixes["plain"] = prompts[usual]
    dim = config.size("truncate_dim", arch.dim)
    if dim > arch.dim:
        config.refuse("truncate_dim", f"the encoder is {arch.dim} wide")
    return dim, prefixes
