"""What bytes each token of a Hugging Face tokenizer stands for, and how a text's bytes are put together.

Byte-exact decoding is what makes streams, stop strings and grammars agree: all of them read this one table. Only decoders
whose text is the tokens' bytes in a row have one: byte-level BPE (Llama 3, Qwen) and SentencePiece with byte fallback
(Llama 2, Mistral). Another one is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """The table.

    Attributes:
        table: bytes by token id; empty for special tokens and for ids that no token has.
        strip_first: a space that is left out where it begins a text.
    """

    table: Sequence[bytes]
    strip_first: bytes


def token_bytes(spec: Mapping[str, Any], vocab: Mapping[str, int], added: Mapping[int, str]) -> TokenBytes:
    """Read a tokenizer's decoder.

    Args:
        spec: ``tokenizer.json``.
        vocab: id by token, with added ones.
        added: content by id of added tokens, which no decoder changes but in name.

    Raises:
        ValueError: a decoder that this table cannot follow; names it.
    """
    read, strip = _reader(spec.get("decoder"))
    table = [b""] * (max(vocab.values(), default=-1) + 1)
    for token, token_id in vocab.items():
        content = added.get(token_id)
        table[token_id] = read(token) if content is None else _utf8(content)
    return TokenBytes(table, strip)


def _reader(decoder: Any) -> tuple[Callable[[str], bytes], bytes]:
    steps = _steps(decoder)
    kinds = [str(step.get("type")) for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level, b""
    marks: list[tuple[str, str]] = []
    strip, fallback = b"", False
    for kind, step in zip(kinds, steps, strict=True):
        if kind == "Metaspace":
            marks.append((step.get("replacement", "▁"), " "))
            if step.get("prepend_scheme", "always") != "never":
                strip = b" "
        elif kind == "Replace" and set(step.get("pattern", {})) == {"String"}:
            marks.append((step["pattern"]["String"], step["content"]))
        elif kind == "ByteFallback":
            fallback = True
        elif kind == "Strip" and step.get("start", 0) <= 1 and not step.get("stop", 0):
            strip = str(step.get("content", " ")).encode() if step.get("start", 0) else strip
        elif kind != "Fuse":
            raise ValueError(
                f"decoder {kind} ({' + '.join(kinds)}) is not supported; this server decodes ByteLevel, Metaspace, and "
                "Replace with ByteFallback"
            )

    def read(token: str) -> bytes:
        byte = _BYTE.fullmatch(token) if fallback else None
        if byte is not None:
            return bytes((int(byte[1], 16),))
        for old, new in marks:
            token = token.replace(old, new)
        return _utf8(token)

    return read, strip


def _steps(decoder: Any) -> list[Mapping[str, Any]]:
    if not isinstance(decoder, Mapping):
        raise ValueError("it has no decoder, so that its tokens cannot be made text again")
    if decoder.get("type") == "Sequence":
        return [step for inner in decoder.get("decoders", ()) for step in _steps(inner)]
    return [decoder]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's: printable Latin-1 bytes are themselves, the others follow from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + at): byte for at, byte in enumerate(hidden)}


_ALPHABET = _byte_alphabet()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(_ALPHABET[char] for char in token)
    except KeyError:
        return _utf8(token)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
