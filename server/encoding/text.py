"""Texts to tokens and back, as a checkpoint's own tokenizer files say.

Nothing here changes after loading, so one codec serves the event loop and the threads that encode long prompts.

**What users write is data**: a special token spelled out in a message (``<|im_end|>``) is encoded as the characters that
it is, so no message can end its turn and begin another one's. Only the template writes special tokens. The text of a plain
completion is all the caller's own, and its special tokens are special, as every server has it.

Units: characters and tokens.
"""

from __future__ import annotations

import codecs
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from server.encoding.chat_template import ChatTemplate
from server.encoding.surrogates import check_surrogates
from server.encoding.token_bytes import TokenBytes
from server.encoding.tokenizer_files import TokenizerFiles, read_tokenizer_files
from server.errors import EngineFault, InvalidRequest
from server.text_generator import Message

_SHORT_CHARS = 1024
# One text at a time needs no pool of threads beside the engine's; read by the library at each call.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class TokenStream:
    """The text of one answer, token by token; never half a character."""

    def __init__(self, table: TokenBytes) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = table.strip_first

    def push(self, token_id: int) -> str:
        """The characters that this token completes; may be empty."""
        table = self._table.table
        found = table[token_id] if 0 <= token_id < len(table) else b""
        if found and self._strip:
            found, self._strip = found.removeprefix(self._strip), b""
        return self._decoder.decode(found)

    def flush(self) -> str:
        """What is left at the end; incomplete bytes become U+FFFD."""
        return self._decoder.decode(b"", final=True)


class HuggingFaceCodec:
    """A ``TextCodec`` over ``tokenizer.json``; see ``load_codec``.

    Attributes:
        vocab_size: one more than the largest token id.
        eos_ids: tokens that end a text.
        longest_token_bytes: what a token stands for at most.
        special_ids: tokens that stand for no text.
        template_fault: why its chat template writes no conversation at all, as a sentence; None: it does, or there is none.
        tokenizer_json: what it was made of, for a grammar engine that reads the same tokens.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        self.vocab_size = len(files.bytes.table)
        self.eos_ids = files.eos_ids
        self.longest_token_bytes = max(
            map(len, (*files.bytes.table, *map(str.encode, files.special.values()), b" "))
        )
        self.special_ids = frozenset(files.special)
        self._bytes = files.bytes
        self._tokenizer = files.tokenizer
        self._template = files.template
        self._tool_template = files.tool_template
        self.template_fault = None if files.template is None else _fault_of(files.template)
        self._special = dict(files.special)
        self._literals = _spelled_out(files.tokenizer, files.special)
        names = sorted(self._literals, key=len, reverse=True)
        self._literal: re.Pattern[str] | None = re.compile("|".join(map(re.escape, names))) if names else None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Tokens of a text.

        Raises:
            InvalidRequest: it holds half of a surrogate pair, which no text has.
        """
        check_surrogates(text, "prompt")
        return self._ids(text, add_special_tokens)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Tokens of a conversation, by the model's own template.

        Raises:
            InvalidRequest: there is no template, it refuses these messages, or they hold half of a surrogate pair.
            EngineFault: the template takes no conversation at all, which is the model's fault and not the caller's.
        """
        template = (self._tool_template or self._template) if tools else self._template
        if self.template_fault is not None and template is self._template:
            raise EngineFault(
                "the model's chat template is broken and takes no conversation at all; use /v1/completions with the whole "
                f"prompt, or ask for the model to be published again ({self.template_fault})"
            )
        if template is None:
            raise InvalidRequest(
                "this model has no chat template; use /v1/completions with the whole prompt", field="messages"
            )
        guard = _Guard(self._literal)
        plain_messages = [guard.plain(message, f"messages[{at}]") for at, message in enumerate(messages)]
        plain_tools = [guard.plain(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
        text = template.render(plain_messages, plain_tools, add_generation_prompt=add_generation_prompt)
        check_surrogates(text, "messages")  # a template can cut a text, never a pair; but it is a program
        if guard.mark is None:
            return self._ids(text, False)
        ids: list[int] = []
        for at, piece in enumerate(guard.split(text)):
            if at % 2:
                ids += self._literals[guard.found[int(piece)]]
            elif piece:
                ids += self._ids(piece, False)
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens; ids that no token has are nothing."""
        table, size = self._bytes.table, self.vocab_size
        parts = [table[token] if 0 <= token < size else b"" for token in token_ids]
        if not skip_special_tokens:
            parts = [
                self._special[token].encode() if token in self._special else part
                for token, part in zip(token_ids, parts, strict=True)
            ]
        return b"".join(parts).removeprefix(self._bytes.strip_first).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; empty for special tokens."""
        return self._bytes.table[token_id] if 0 <= token_id < self.vocab_size else b""

    def special_text(self, token_id: int) -> str:
        """How a special token is written; empty for any other."""
        return self._special.get(token_id, "")

    def stream(self) -> TokenStream:
        """A decoder for one answer."""
        return TokenStream(self._bytes)

    def _ids(self, text: str, add_special_tokens: bool) -> list[int]:
        if len(text) < _SHORT_CHARS:
            one = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        else:  # releases the interpreter, which encode does not: a megabyte takes a second
            (one,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = one.ids
        return ids


def _fault_of(template: ChatTemplate) -> str | None:
    """What is wrong with a template that writes neither one user's turn nor that after a system's."""
    user, system = {"role": "user", "content": "x"}, {"role": "system", "content": "x"}
    fault = None
    for messages in ([user], [system, user]):
        try:
            template.render(messages, (), add_generation_prompt=True)
            return None
        except InvalidRequest as error:
            fault = fault or error.message
    return fault


def load_codec(folder: Path, *, max_vocab: int | None = None) -> HuggingFaceCodec:
    """Read the tokenizer of a checkpoint or of a published version.

    Args:
        folder: holds ``tokenizer.json``, and of ``tokenizer_config.json``, ``chat_template.jinja``,
            ``generation_config.json`` and ``config.json`` those that the checkpoint has.
        max_vocab: width of the model's logits, which the tokens must fit.

    Raises:
        ArtifactError: a file is missing, broken, or contradicts another one; names it.
    """
    return HuggingFaceCodec(read_tokenizer_files(folder, max_vocab=max_vocab))


class _Guard:
    """Makes messages plain data, with marks in place of special tokens that are spelled out in them.

    Marks are letters and digits that nobody can guess, so that whatever a template does to a text, short of cutting it,
    leaves them whole.
    """

    def __init__(self, literal: re.Pattern[str] | None) -> None:
        self._literal = literal
        self.mark: str | None = None
        self.found: list[str] = []

    def plain(self, value: Any, where: str) -> Any:
        if isinstance(value, str):
            check_surrogates(value, where)
            text = str(value)
            return self._literal.sub(self._marked, text) if self._literal is not None else text
        if isinstance(value, Mapping):
            return {
                self.plain(key, where): self.plain(inner, f"{where}.{key}"[:80])
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.plain(inner, where) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise InvalidRequest(
            f"{where} holds a {type(value).__name__}; send JSON values", field=where.partition("[")[0]
        )

    def split(self, text: str) -> list[str]:
        """Text and places in ``found``, by turns."""
        return re.split(f"{self.mark}x([0-9]+)x", text)

    def _marked(self, match: re.Match[str]) -> str:
        self.mark = self.mark or f"v{secrets.token_hex(12)}"
        self.found.append(match[0])
        return f"{self.mark}x{len(self.found) - 1}x"


def _spelled_out(tokenizer: Tokenizer, special: Mapping[int, str]) -> dict[str, list[int]]:
    """Ordinary tokens of each special token's characters."""
    tokenizer.encode_special_tokens = True
    try:
        return {
            text: tokenizer.encode(text, add_special_tokens=False).ids for text in special.values() if text
        }
    finally:
        tokenizer.encode_special_tokens = False
