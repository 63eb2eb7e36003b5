"""True copy with one planted falsehood, and a text generator that writes it: what the checks are measured with.

The copy is the sample shop's own, true of its record by construction, so a refused claim in it is a mistake of the checks;
the planted sentence is false by construction, so any of it in released copy is one as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from build_engines.data.copy_corpus import CopyExample, make_examples
from build_engines.data.sample_catalogue import make_products
from server.copy_domain import CopyRequest, CopyText, Language
from server.errors import InvalidRequest
from server.pipelines.product_copy.prompt import copy_target, record_lines
from server.text_domain import (
    Chunk,
    ConstraintKind,
    Finished,
    FinishReason,
    GenerateRequest,
    TextModelInfo,
    Usage,
)
from server.text_generator import Message, Sink, StreamDecoder

SHOP_SEED, COPY_SEED, PRODUCTS = 11, 5, 240  # another shop than the demonstration model was trained on
# A sentence by kind and language, with the words that make it false wherever the record does not have them.
LIES: Mapping[str, Mapping[Language, Sequence[tuple[str, str]]]] = {
    "number": {
        Language.EN: (("It comes with 937 accessories.", "937"), ("More than 4,816 reviews.", "4,816")),
        Language.ZH: (("随附937件配件。", "937"), ("已有4816条评价。", "4816")),
    },
    "measure": {
        Language.EN: (("It weighs 6.3 kg.", "6.3"), ("It is 873 mm wide.", "873")),
        Language.ZH: (("重6.3千克。", "6.3"), ("宽873毫米。", "873")),
    },
    "price": {
        Language.EN: (("Now only $3.17.", "3.17"), ("Yours for 3.17 euros.", "3.17")),
        Language.ZH: (("现价3.17元。", "3.17"), ("仅需¥3.17。", "3.17")),
    },
    "brand": {
        Language.EN: (("Made by Bosch.", "Bosch"), ("As good as Philips.", "Philips")),
        Language.ZH: (("由博世制造。", "博世"), ("飞利浦出品。", "飞利浦")),
    },
    "material": {
        Language.EN: (("It is made of titanium.", "titanium"), ("With a cashmere cover.", "cashmere")),
        Language.ZH: (("采用钛合金制成。", "钛"), ("羊绒面料。", "羊绒")),
    },
    "colour": {
        Language.EN: (("It comes in magenta.", "magenta"), ("A turquoise finish.", "turquoise")),
        Language.ZH: (("品红色外观。", "品红"), ("青绿色款。", "青绿")),
    },
    "size": {
        Language.EN: (("Available in size XXL.", "XXL"), ("A king size model.", "king size")),
        Language.ZH: (("提供XXL码。", "XXL"), ("有加大码。", "加大")),
    },
    "certification": {
        Language.EN: (("It is FDA approved.", "FDA"), ("GOTS certified.", "GOTS")),
        Language.ZH: (("通过FDA认证。", "FDA"), ("通过ISO 9001认证。", "9001")),
    },
    "superlative": {
        Language.EN: (("The best in the world.", "best in the world"), ("Simply the finest.", "finest")),
        Language.ZH: (("全球第一。", "第一"), ("行业最好的产品。", "最好")),
    },
    "forbidden": {
        Language.EN: (("It cures back pain.", "cures"), ("Results guaranteed.", "guaranteed")),
        Language.ZH: (("可治疗颈椎病。", "治疗"), ("国家级品质。", "国家级")),
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A piece of copy with one falsehood.

    Attributes:
        kind: of the falsehood.
        words: what makes it false; in none of the record's own texts.
        true: the copy before.
        text: the copy with it.
    """

    request: CopyRequest
    kind: str
    words: str
    true: CopyText
    text: CopyText


def examples() -> list[CopyExample]:
    """True copy, both languages, each product in turn."""
    rows = make_products(np.random.default_rng([SHOP_SEED, 1]), PRODUCTS).records
    return list(make_examples(rows, seed=COPY_SEED, rounds=1, renamed_share=0.0))


def planted(found: Sequence[CopyExample], count: int) -> list[Planted]:
    """At most ``count`` records, each with one falsehood; all kinds in both languages in turn."""
    chance = random.Random(COPY_SEED)
    kinds = list(LIES)
    out: list[Planted] = []
    turns = {language: 0 for language in Language}
    for example in found:
        language = example.request.language
        kind = kinds[turns[language] % len(kinds)]
        sentence, words = chance.choice(LIES[kind][language])
        record = "\n".join(record_lines(example.request.product)).casefold()
        if words.casefold() in record:
            continue
        turns[language] += 1
        out.append(
            Planted(
                request=replace(example.request, max_words=None),
                kind=kind,
                words=words,
                true=example.text,
                text=_plant(example.text, sentence, language, chance),
            )
        )
        if len(out) == count:
            break
    return out


def _plant(text: CopyText, sentence: str, language: Language, chance: random.Random) -> CopyText:
    place = chance.choice(("description", "description", "bullets" if text.bullets else "headline"))
    if place == "bullets":
        at = chance.randrange(len(text.bullets))
        bare = sentence.rstrip(".。")
        return replace(text, bullets=(*text.bullets[:at], bare, *text.bullets[at + 1 :]))
    if place == "headline":
        return replace(text, headline=sentence.rstrip(".。"))
    joint = " " if language is Language.EN else ""
    return replace(text, description=f"{sentence}{joint}{text.description}")


class StubbornWriter:
    """A text generator that writes what it is given, and the same again when it is asked for a part again.

    Its tokens are characters. It follows the protocol of ``TextGenerator``; the engine's own speed is not in it.
    """

    def __init__(self) -> None:
        self.codec = _Characters()
        self.text = CopyText(headline="", description="")

    def info(self) -> TextModelInfo:
        """A name for the report."""
        return TextModelInfo(
            name="planted",
            version="1",
            engine="script",
            precision="",
            vocab_size=self.codec.vocab_size,
            max_context=1 << 16,
        )

    def ready(self) -> tuple[bool, str]:
        """Always."""
        return True, ""

    def submit(self, request: GenerateRequest, sink: Sink) -> _Written:
        """Write."""
        constraint = request.constraint
        if constraint is None or constraint.kind is ConstraintKind.JSON_SCHEMA:
            return _Written(copy_target(self.text), request, sink)
        begun = self.codec.decode(request.prompt_ids).rpartition("copy:\n")[2]
        if begun.endswith('"headline":'):
            part = self.text.headline
        elif begun.endswith('"description":'):
            part = self.text.description
        else:
            standing = begun.partition('"bullets":')[2]
            at = min(standing.count('", ') + standing.endswith('",'), len(self.text.bullets) - 1)
            part = self.text.bullets[at]
        opening = ' ["' if begun.endswith('"bullets":') else ' "'
        return _Written(f'{opening}{part.replace(chr(34), "")}"', request, sink)


class _Written:
    def __init__(self, text: str, request: GenerateRequest, sink: Sink) -> None:
        self._sink: Sink | None = sink
        self._text = text
        self._request = request
        asyncio.get_running_loop().call_soon(self._write)

    def cancel(self) -> None:
        """Nothing more is told."""
        self._sink = None

    def _write(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            tokens = tuple(map(ord, self._text))
            usage = Usage(prompt_tokens=len(self._request.prompt_ids), completion_tokens=len(tokens))
            sink(Chunk(self._text, tokens))
            sink(Finished(reason=FinishReason.STOP, usage=usage, queue_s=0.0, first_token_s=0.0, total_s=0.0))


class _Characters:
    vocab_size = 0x110000
    eos_ids = frozenset({0x10FFFF})

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Code points."""
        return list(map(ord, text))

    def encode_chat(self, messages: Sequence[Message], **_: object) -> list[int]:
        """None."""
        raise InvalidRequest("this writer has no chat template")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Characters."""
        return "".join(map(chr, token_ids))

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8."""
        return chr(token_id).encode()

    def stream(self) -> StreamDecoder:
        """Not needed: a token is a character."""
        raise NotImplementedError
