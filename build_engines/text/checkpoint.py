"""A checkpoint folder as far as text goes: its tokens as the server will make them, its ends of text, its size.

Reads no weights: sizes come from the headers of the safetensors files. The codec is the server's own, so that training,
calibration and the gate see the tokens that serving will send.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from build_engines.data.errors import DataError
from server.encoding.text import HuggingFaceCodec, load_codec
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
        codec: its tokens.
        eos_ids: tokens that end a text; the first is what training ends an answer with.
        chat: whether product copy is asked as a conversation: it has a template, which takes a system message.
        parameters: of all weight files.
    """

    folder: Path
    config: Mapping[str, Any]
    codec: HuggingFaceCodec
    eos_ids: tuple[int, ...]
    chat: bool
    parameters: int

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation that the model is to answer.

        Raises:
            DataError: there is no template, or it refuses these messages.
        """
        try:
            return self.codec.encode_chat(messages)
        except InvalidRequest as error:
            hint = "give conversations that its chat template takes, or prompt and answer"
            raise DataError(self.folder, str(error), hint=hint) from error


def open_checkpoint(folder: Path) -> TextCheckpoint:
    """Look at a checkpoint.

    Raises:
        DataError: a file is missing or broken, or nothing ends a text; names it.
        ArtifactError: the tokenizer's files are broken or contradict each other; names them.
    """
    config = _json(folder / CONFIG_FILE)
    codec = load_codec(folder)
    if codec.template_fault is not None:
        raise DataError(
            folder,
            f"its chat template does not write one user's turn: {codec.template_fault}",
            hint=f"mend {TEMPLATE_FILE}, or chat_template in {TOKENIZER_CONFIG}",
        )
    if not codec.eos_ids:
        raise DataError(
            folder, "nothing says which token ends a text", hint=f"set eos_token_id in {GENERATION_FILE}"
        )
    return TextCheckpoint(
        folder=folder,
        config=config,
        codec=codec,
        eos_ids=_ends(folder, codec),
        chat=_takes_conversations(codec),
        parameters=_parameters(folder),
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """Everything that the line reads of a checkpoint, in order."""
    return sorted(
        path for name in (*TEXT_FILES, "*.safetensors", "*.index.json") for path in folder.glob(name)
    )


def _takes_conversations(codec: HuggingFaceCodec) -> bool:
    try:
        codec.encode_chat(({"role": "system", "content": "x"}, {"role": "user", "content": "x"}))
    except InvalidRequest:
        return False
    return True


def _ends(folder: Path, codec: HuggingFaceCodec) -> tuple[int, ...]:
    # A chat model has several; the tokenizer's own is what its template ends a turn with.
    own: object = None
    if (folder / TOKENIZER_CONFIG).is_file():
        own = _json(folder / TOKENIZER_CONFIG).get("eos_token")
    if isinstance(own, Mapping):  # an AddedToken written out
        own = own.get("content")
    return tuple(sorted(codec.eos_ids, key=lambda token: (codec.special_text(token) != own, token)))


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
        raise DataError(folder, "holds no weights (*.safetensors)", hint="convert the checkpoint first")
    return total


def _json(path: Path) -> dict[str, Any]:
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
