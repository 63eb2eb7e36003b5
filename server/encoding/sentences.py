"""Texts to the token ids that a sentence encoder reads, by the checkpoint's own ``tokenizer.json``.

**What users write is data**: a special token spelled out in a text (``[SEP]``) is encoded as the characters that it is. The
special tokens of a text are put around it here, and are the same for a text and for token ids that the caller made.

**A long text costs what is read of it.** A megabyte of text takes a second to tokenize, and an encoder reads some hundred
tokens. So a long text is tokenized from its start, as far as its tokens can be of use, and no further; where it is refused for
its length, the sentence says "more than".

Nothing here changes after loading, so that one codec serves the event loop and the threads that encode long texts.

Units: characters and tokens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from server.artifacts.errors import ArtifactError
from server.encoder_domain import InputKind, Truncate
from server.encoding.surrogates import check_surrogates
from server.errors import InvalidRequest

TOKENIZER_FILE = "tokenizer.json"
MAX_CHARS = 1 << 24  # of one text; more is a mistake of somebody's
_WINDOW_CHARS = 8  # a token, at first guess; a text of longer words or blanks is looked at again, further
_SLACK_TOKENS = 16  # beyond what is needed, so that where a long text was cut is never among what is kept
_SHORT_CHARS = 1024
_PROBE = "a"
# One text at a time needs no pool of threads beside the engine's; read by the library at each call.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Tokens(NamedTuple):
    """One text.

    Attributes:
        ids: int64 ``[T]``, special tokens included.
        truncated: whether its end is left out.
        known: share of the tokens read that the vocabulary has, special ones left out.
    """

    ids: npt.NDArray[np.int64]
    truncated: bool
    known: float


@dataclass(frozen=True, slots=True)
class _Around:
    before: tuple[int, ...]
    after: tuple[int, ...]


class SentenceCodec:
    """A tokenizer with the encoder's limits and prefixes; see ``load_sentence_codec``.

    Attributes:
        vocab_size: ids are below it.
        max_tokens: of a text, special tokens included.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        max_tokens: int,
        prefixes: Mapping[InputKind, str],
        unknown: int | None,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._prefixes = dict(prefixes)
        self._unknown = unknown
        self._around = _special_tokens(tokenizer)
        self._room = max_tokens - len(self._around.before) - len(self._around.after)
        self._prefix_ids = {kind: self._ids(text) if text else [] for kind, text in prefixes.items()}
        if self._room <= max((len(ids) for ids in self._prefix_ids.values()), default=0):
            raise ValueError(f"max_tokens = {max_tokens} leaves no room for a text beside its special tokens")

    def encode(
        self,
        inputs: Sequence[str | Sequence[int]],
        kind: InputKind,
        truncate: Truncate,
        *,
        field: str = "input",
    ) -> list[Tokens]:
        """Tokens of each text, or of token ids that the caller made.

        Args:
            inputs: texts, or ids without special tokens.
            kind: whose prefix stands before each.
            truncate: what happens to one that is too long.
            field: name of the inputs, for messages.

        Raises:
            InvalidRequest: an input is empty, holds nothing that the encoder can read, is no text, has an id that is no
                token, or is too long; its ``field`` names the input, as ``input[3]``.
        """
        return [
            self._one(given, kind, truncate, f"{field}[{at}]" if len(inputs) > 1 else field)
            for at, given in enumerate(inputs)
        ]

    def whole(self, inputs: Sequence[str | Sequence[int]], field: str = "input_ids") -> list[Tokens]:
        """Token ids that the caller made with their special tokens, as the graph takes them; raises what ``encode`` does."""
        found: list[Tokens] = []
        for at, given in enumerate(inputs):
            where = f"{field}[{at}]"
            if isinstance(given, str):
                raise InvalidRequest(f"{where} is text; send token ids", field=where, limit="token ids")
            ids = self._checked(given, where)
            if len(ids) > self.max_tokens:
                raise InvalidRequest(
                    f"{where} has {len(ids)} tokens, the encoder reads {self.max_tokens}; send fewer",
                    field=where,
                    limit=f"{self.max_tokens} tokens",
                )
            known = 1.0 - ids.count(self._unknown) / len(ids) if self._unknown is not None else 1.0
            found.append(Tokens(np.array(ids, np.int64), False, known))
        return found

    def _one(self, given: str | Sequence[int], kind: InputKind, truncate: Truncate, where: str) -> Tokens:
        if isinstance(given, str):
            ids, whole = self._text(given, kind, where)
        else:
            ids, whole = self._checked(given, where), True
            ids = self._prefix_ids[kind] + ids if self._prefix_ids.get(kind) else ids
        too_long = len(ids) > self._room
        if too_long:
            if truncate is Truncate.ERROR:
                special = self.max_tokens - self._room
                raise InvalidRequest(
                    f"{where} has {'' if whole else 'more than '}{len(ids) + special} tokens, special ones included; the "
                    f"encoder reads {self.max_tokens}; send less, or set truncate to end",
                    field=where,
                    limit=f"{self.max_tokens} tokens",
                )
            ids = ids[: self._room]
        around = self._around
        known = 1.0 - ids.count(self._unknown) / len(ids) if self._unknown is not None else 1.0
        return Tokens(np.array([*around.before, *ids, *around.after], np.int64), too_long, known)

    def _text(self, text: str, kind: InputKind, where: str) -> tuple[list[int], bool]:
        if not text:
            raise InvalidRequest(f"{where} is empty; send some text", field=where, limit=">= 1 token")
        if len(text) > MAX_CHARS:
            raise InvalidRequest(
                f"{where} has {len(text)} characters, the limit is {MAX_CHARS}; cut it into passages",
                field=where,
                limit=f"{MAX_CHARS} characters",
            )
        check_surrogates(text, where)
        prefix = self._prefixes.get(kind, "")
        need = self._room + 1 + _SLACK_TOKENS
        window = max(_SHORT_CHARS, need * _WINDOW_CHARS)
        while True:
            whole = len(text) <= window
            ids = self._ids(prefix + (text if whole else text[: _blank_before(text, window)]))
            if whole or len(ids) >= need:
                break
            window *= 4
        own = ids[len(self._prefix_ids[kind]) :] if prefix else ids
        if not own or (self._unknown is not None and all(token == self._unknown for token in own)):
            raise InvalidRequest(
                f"{where} holds nothing that this encoder can read; send words in a language that it knows",
                field=where,
                limit=">= 1 known token",
            )
        return ids, whole

    def _checked(self, given: Sequence[int], where: str) -> list[int]:
        if not given:
            raise InvalidRequest(f"{where} is empty; send some tokens", field=where, limit=">= 1 token")
        for token in given:
            if not 0 <= token < self.vocab_size:
                raise InvalidRequest(
                    f"{where} has the token {token}; the encoder's are 0 .. {self.vocab_size - 1}",
                    field=where,
                    limit=f"0 .. {self.vocab_size - 1}",
                )
        return list(given)

    def _ids(self, text: str) -> list[int]:
        if len(text) < _SHORT_CHARS:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
            return ids
        # Releases the interpreter, which encode does not.
        (one,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids = one.ids
        return ids


def load_sentence_codec(
    path: Path, *, vocab_size: int, max_tokens: int, prefixes: Mapping[InputKind, str]
) -> SentenceCodec:
    """Read a tokenizer.

    Args:
        path: ``tokenizer.json``.
        vocab_size: ids that the graph has rows for.
        max_tokens: of a text, special tokens included.
        prefixes: what stands before a text of each kind.

    Raises:
        ArtifactError: it cannot be read, or does not fit the encoder; names the file.
    """
    try:
        source = path.read_text(encoding="utf-8")
        spec = json.loads(source)
        tokenizer = Tokenizer.from_str(source)
        codec = SentenceCodec(
            tokenizer,
            vocab_size=vocab_size,
            max_tokens=max_tokens,
            prefixes=prefixes,
            unknown=_unknown(spec.get("model", {}), tokenizer),
        )
    except Exception as error:  # the library raises nothing more special
        raise ArtifactError(
            f"{path}: is not this encoder's tokenizer: {error}; build and publish it again"
        ) from error
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab_size:
        raise ArtifactError(
            f"{path}: its largest token is {largest}, but the encoder's end at {vocab_size - 1}; "
            "it belongs to another model"
        )
    return codec


def _unknown(model: Mapping[str, Any], tokenizer: Tokenizer) -> int | None:
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    name = model.get("unk_token")
    found: int | None = tokenizer.token_to_id(name) if isinstance(name, str) else None
    return found


def _special_tokens(tokenizer: Tokenizer) -> _Around:
    plain = tokenizer.encode(_PROBE, add_special_tokens=False).ids
    whole = tokenizer.encode(_PROBE, add_special_tokens=True).ids
    for at in range(len(whole) - len(plain) + 1):
        if plain and whole[at : at + len(plain)] == plain:
            return _Around(tuple(whole[:at]), tuple(whole[at + len(plain) :]))
    raise ValueError(f"it makes {whole} of a text that alone is {plain}: not a text between special tokens")


def _blank_before(text: str, at: int) -> int:
    """A place to cut near ``at``, between two words if there are any."""
    blank = text.rfind(" ", at // 2, at)
    return blank if blank > 0 else at
