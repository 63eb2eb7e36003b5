"""The tokenizer files of a checkpoint, read and held against each other before anything is encoded with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from server.artifacts.errors import ArtifactError
from server.encoding.chat_template import ChatTemplate
from server.encoding.token_bytes import TokenBytes, token_bytes

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
GENERATION_CONFIG = "generation_config.json"
CONFIG = "config.json"
MAX_FILE_BYTES = 256 << 20
_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """What they say.

    Attributes:
        tokenizer: ready to encode; neither pads nor truncates.
        bytes: of each token.
        special: content by id of the tokens that stand for no text.
        eos_ids: tokens that end a text.
        template: of conversations, when there is one.
        tool_template: of conversations with tools, when it is another one.
    """

    tokenizer: Tokenizer
    bytes: TokenBytes
    special: Mapping[int, str]
    eos_ids: frozenset[int]
    template: ChatTemplate | None
    tool_template: ChatTemplate | None


def read_tokenizer_files(folder: Path, *, max_vocab: int | None = None) -> TokenizerFiles:
    """Read and check; see ``text.load_codec``.

    Raises:
        ArtifactError: a file is missing, broken, or contradicts another one; names it.
    """
    path = folder / TOKENIZER
    spec = _json(path)
    if spec is None:
        raise ArtifactError(f"{path}: is missing; a text model needs its tokenizer in this form")
    config = _json(folder / TOKENIZER_CONFIG) or {}
    tokenizer = _tokenizer(path)
    _add_missing(tokenizer, config, folder / TOKENIZER_CONFIG)
    added = tokenizer.get_added_tokens_decoder()
    special = {token_id: token.content for token_id, token in added.items() if token.special}
    try:
        table = token_bytes(
            spec,
            tokenizer.get_vocab(with_added_tokens=True),
            {token_id: "" if token.special else token.content for token_id, token in added.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: {error}") from error
    size = len(table.table)
    if not size:
        raise ArtifactError(f"{path}: it has no tokens; copy the file from the checkpoint again")
    if max_vocab is not None and size > max_vocab:
        raise ArtifactError(
            f"{path}: its largest token is {size - 1}, but the model's logits end at {max_vocab - 1}; "
            "it belongs to another model"
        )
    names = _names(config)
    template, tool_template = _templates(folder, config, names)
    return TokenizerFiles(
        tokenizer=tokenizer,
        bytes=table,
        special=special,
        eos_ids=_eos_ids(folder, names, tokenizer, size),
        template=template,
        tool_template=tool_template,
    )


def _read(path: Path) -> str | None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise ArtifactError(f"{path}: {size_bytes} bytes, the limit is {MAX_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error


def _json(path: Path) -> dict[str, Any] | None:
    text = _read(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: is not JSON: {error}; copy it from the checkpoint again") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise ArtifactError(
            f"{path}: is not a tokenizer: {error}; copy it from the checkpoint again"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _add_missing(tokenizer: Tokenizer, config: Mapping[str, Any], path: Path) -> None:
    """Tokens that only ``added_tokens_decoder`` knows, as transformers adds them."""
    listed = config.get("added_tokens_decoder", {})
    if not isinstance(listed, dict):
        raise ArtifactError(f"{path}: added_tokens_decoder is a {type(listed).__name__}, not an object")
    for key in sorted(listed, key=lambda key: (len(key), key)):
        entry = listed[key]
        if not (
            key.isascii()
            and key.isdigit()
            and isinstance(entry, dict)
            and isinstance(entry.get("content"), str)
        ):
            raise ArtifactError(f"{path}: added_tokens_decoder[{key!r}] is not a token by its id")
        content, wanted = entry["content"], int(key)
        found = tokenizer.token_to_id(content)
        if found is None:
            flags = {
                name: bool(entry[name])
                for name in ("single_word", "lstrip", "rstrip", "normalized")
                if name in entry
            }
            is_special = bool(entry.get("special", False))
            token = AddedToken(content, special=is_special, **flags)
            _ = tokenizer.add_special_tokens([token]) if is_special else tokenizer.add_tokens([token])
            found = tokenizer.token_to_id(content)
        if found != wanted:
            raise ArtifactError(
                f"{path}: {content!r} has id {wanted} there and {found} in {TOKENIZER}; the two belong to different models"
            )


def _names(config: Mapping[str, Any]) -> dict[str, str]:
    names = {}
    for name in _NAMES:
        value = config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            names[name] = content
    return names


def _templates(
    folder: Path, config: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[ChatTemplate | None, ChatTemplate | None]:
    source = _read(folder / TEMPLATE)
    if source is not None:
        return _template(source, names, folder / TEMPLATE), None
    path = folder / TOKENIZER_CONFIG
    found = config.get("chat_template")
    if found is None:
        return None, None
    if isinstance(found, str):
        return _template(found, names, path), None
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("template"), str) for one in found
    ):
        raise ArtifactError(f"{path}: chat_template is neither a text nor a list of named templates")
    by_name = {one.get("name"): _template(one["template"], names, path) for one in found}
    return by_name.get("default"), by_name.get("tool_use")


def _template(source: str, names: Mapping[str, str], path: Path) -> ChatTemplate:
    try:
        return ChatTemplate(source, names)
    except ValueError as error:
        raise ArtifactError(f"{path}: the chat template cannot be compiled: {error}") from error


def _eos_ids(folder: Path, names: Mapping[str, str], tokenizer: Tokenizer, size: int) -> frozenset[int]:
    """What ends a text: generation_config's tokens and the tokenizer's own; config's where the first says nothing."""
    found = _ids_of(folder / GENERATION_CONFIG, size) or _ids_of(folder / CONFIG, size)
    if "eos_token" in names:
        token_id = tokenizer.token_to_id(names["eos_token"])
        if token_id is None:
            raise ArtifactError(
                f"{folder / TOKENIZER_CONFIG}: eos_token {names['eos_token']!r} is not a token of {TOKENIZER}"
            )
        found.add(token_id)
    return frozenset(found)


def _ids_of(path: Path, size: int) -> set[int]:
    value = (_json(path) or {}).get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token_id in ids:
        if type(token_id) is not int or not 0 <= token_id < size:
            raise ArtifactError(f"{path}: eos_token_id {token_id!r} is not a token; they are 0 .. {size - 1}")
    return set(ids)
