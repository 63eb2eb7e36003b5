"""A checkpoint folder as far as text goes: its tokenizer, its chat template, its ends of text, its digests.

Reads no weights: sizes come from the headers of the safetensors files.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from build_engines.data.errors import DataError
from server.encoding.chat_template import ChatTemplate
from server.errors import InvalidRequest

CONFIG_FILE, GENERATION_FILE, TOKENIZER_FILE = "config.json", "generation_config.json", "tokenizer.json"
TOKENIZER_CONFIG, TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
# What a served version takes of it, where it is there.
TEXT_FILES = (CONFIG_FILE, GENERATION_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG, TEMPLATE_FILE)
Message = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextCheckpoint:
    """What ``open_checkpoint`` found.

    Attributes:
        folder: where.
        config: config.json.
        tokenizer: as tokenizer.json says.
        eos_ids: tokens that end a text; at least one, the first is what training ends an answer with.
        template: of conversations, or None.
        special: texts of special tokens, for the template ("bos_token" ...).
        parameters: of all weight files.
    """

    folder: Path
    config: Mapping[str, Any]
    tokenizer: Tokenizer
    eos_ids: tuple[int, ...]
    template: str | None
    special: Mapping[str, str]
    parameters: int

    def encode(self, text: str) -> list[int]:
        """Tokens of a text as it is, with what the tokenizer puts before every text."""
        return list(self.tokenizer.encode(text).ids)

    def encode_answer(self, text: str) -> list[int]:
        """Tokens of what follows a prompt."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation that the model is to answer.

        Raises:
            DataError: there is no template, or it refuses these messages.
        """
        if self.template is None:
            raise DataError(
                self.folder, "has no chat template", hint="give prompt and answer instead of messages"
            )
        try:
            template = ChatTemplate(self.template, self.special)
            text = template.render([dict(one) for one in messages], (), add_generation_prompt=True)
        except (InvalidRequest, ValueError) as error:
            raise DataError(
                self.folder, str(error), hint="give conversations that its template takes"
            ) from error
        return self.encode_answer(text)


def open_checkpoint(folder: Path) -> TextCheckpoint:
    """Look at a checkpoint.

    Raises:
        DataError: a file is missing or broken; names it.
    """
    config = _json(folder / CONFIG_FILE, needed=True)
    tokenizer_config = _json(folder / TOKENIZER_CONFIG)
    generation = _json(folder / GENERATION_FILE)
    path = folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise DataError(path, f"is no tokenizer ({error})", hint="save it with save_pretrained") from error
    special = {
        name: text
        for name in ("bos_token", "eos_token", "pad_token")
        if (text := _text(tokenizer_config.get(name)))
    }
    ends = _ends(generation, config)
    named = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    eos_ids = tuple(dict.fromkeys([*([named] if named is not None else []), *ends]))
    if not eos_ids:
        raise DataError(
            folder, "nothing says which token ends a text", hint=f"set eos_token_id in {GENERATION_FILE}"
        )
    template_path = folder / TEMPLATE_FILE
    template = (
        template_path.read_text(encoding="utf-8")
        if template_path.is_file()
        else tokenizer_config.get("chat_template")
    )
    return TextCheckpoint(
        folder=folder,
        config=config,
        tokenizer=tokenizer,
        eos_ids=eos_ids,
        template=template if isinstance(template, str) and template else None,
        special=special,
        parameters=_parameters(folder),
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """Everything that the line reads of a checkpoint, in order."""
    return sorted(
        path for name in (*TEXT_FILES, "*.safetensors", "*.index.json") for path in folder.glob(name)
    )


def _parameters(folder: Path) -> int:
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, 100_000_000)))
            total += sum(prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
        except (OSError, struct.error, ValueError, KeyError, TypeError) as error:
            raise DataError(
                path, f"is no safetensors file ({error})", hint="fetch the checkpoint again"
            ) from error
    if total == 0:
        raise DataError(
            folder, "holds no weights (*.safetensors)", hint="convert the checkpoint to safetensors first"
        )
    return total


def _ends(*configs: Mapping[str, Any]) -> list[int]:
    for config in configs:
        value = config.get("eos_token_id")
        if isinstance(value, int):
            return [value]
        if isinstance(value, list) and value:
            return [int(one) for one in value]
    return []


def _text(value: object) -> str:
    if isinstance(value, Mapping):  # an AddedToken written out
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _json(path: Path, *, needed: bool = False) -> dict[str, Any]:
    if not needed and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            path, f"cannot be read ({error.strerror})", hint="name a checkpoint in Hugging Face form"
        ) from error
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})", hint="fetch the checkpoint again") from error
    if not isinstance(value, dict):
        raise DataError(path, "is not a JSON object", hint="fetch the checkpoint again")
    return value
