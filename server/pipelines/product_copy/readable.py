"""Whether a model's text can be read at all: a text without a single false claim can still be none.

A small model that is far from what it knows repeats itself, runs words together, or talks of nothing. What is looked for is
coarse on purpose, so that nothing a copywriter would write is refused: the same word or sentence again and again, sentences
without a space between them, and a headline or description that has no word in common with its record. Templates are not
looked at; they repeat what the shop wrote.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from functools import cache

from server.copy_domain import ProductRecord
from server.pipelines.product_copy.folding import CJK, HAS_CJK, fold, stem
from server.pipelines.product_copy.lexicon import is_common
from server.pipelines.product_copy.prompt import value_text
from server.pipelines.product_copy.quantities import units

MOST_IN_A_ROW = 2  # of one word
LEAST_DISTINCT = 0.6  # share of different three-word runs, in texts of some length
_LONG_WORDS = 12
_WORD = re.compile(rf"[a-z0-9]+(?:['.-][a-z0-9]+)*|[{CJK}]")
_RUN = re.compile(r"(?=\S*[^\W\d_])(\S{2,12}?)\1{3,}")  # "ritingritingritingriting"; 10000000 is a number
_SMALL_WORD = re.compile(r"(?<![\w'.@&/-])[a-z][a-z']*[a-z](?![\w@&/])")
_JOINED = re.compile(r"[a-z]{2}[.!?][A-Z][a-z]")
_SENTENCE = re.compile(r"[.!?。！？\n]+")
_CJK_RUN = re.compile(f"[{CJK}]{{2,}}")
_MOST_RECORD_CHARS = 20_000


class Readable:
    """Texts about one product."""

    def __init__(self, product: ProductRecord) -> None:
        fields = [product.title, product.brand, product.category, product.description]
        for name, value in product.attributes.items():
            fields += [name.replace("_", " "), value_text(value)]
        self._record = "\n".join(fields)[:_MOST_RECORD_CHARS]
        self._words: frozenset[str] | None = None
        self._spelled: frozenset[str] | None = None

    def flaw(self, part: str, text: str) -> str:
        """Why a text cannot be read, or an empty string."""
        words = _WORD.findall(fold(text))
        row = 0
        for before, word in itertools.pairwise(words):
            row = row + 1 if word == before and not re.match(f"[{CJK}]", word) else 0
            if row >= MOST_IN_A_ROW:
                return f"it says {word!r} {row + 1} times in a row"
        if _RUN.search(text):
            return "it repeats a part of a word"
        joined = _JOINED.search(text)
        if joined is not None and joined.group() not in self._record:
            return "it runs sentences together"
        said = Counter(
            sentence for sentence in map(str.strip, _SENTENCE.split(fold(text))) if len(sentence) > 3
        )
        if said and max(said.values()) > 1:
            return "it says a sentence twice"
        runs = list(zip(words, words[1:], words[2:], strict=False))
        if len(words) >= _LONG_WORDS and len(set(runs)) < LEAST_DISTINCT * len(runs):
            return "it says the same again and again"
        strange = self._strange(text)
        if len(strange) > (1 if part == "description" else 0):
            return f"{strange[0]!r} is no word of the record or of the language"
        if not self._anchored(text, short=part.startswith("bullets")):
            return "it has no word in common with the record"
        return ""

    def _anchored(self, text: str, *, short: bool) -> bool:
        if HAS_CJK.search(text) and not HAS_CJK.search(
            self._record
        ):  # told in another language than the record is
            return True
        if short and any(char in self._record for char in HAS_CJK.findall(text)):  # 选用铝 for 材质：铝
            return True
        return not self._tokens(text).isdisjoint(self._known())

    def _strange(self, text: str) -> list[str]:
        """Words in small letters that neither the record nor the list of words has; capitals are names, judged elsewhere."""
        if self._spelled is None:
            self._spelled = frozenset(re.findall(r"[a-z']+", fold(self._record)))
        found = []
        for word in _SMALL_WORD.findall(text):
            base = word.removesuffix("'s")
            if word not in self._spelled and not any(
                (len(piece) > 2 and is_common(piece))
                or piece in _SHORT
                or piece in self._spelled
                or piece in _units()
                or stem(piece) in self._known()
                for piece in (word, base)
            ):
                found.append(word)
        return found

    def _known(self) -> frozenset[str]:
        if self._words is None:
            self._words = self._tokens(self._record)
        return self._words

    @staticmethod
    def _tokens(text: str) -> frozenset[str]:
        folded = fold(text)
        tokens = {
            stem(word)
            for word in _WORD.findall(folded)
            if (len(word) > 2 or word.isdigit()) and word not in _EMPTY
        }
        for run in _CJK_RUN.findall(folded):
            tokens.update(run[at : at + 2] for at in range(len(run) - 1))
        return frozenset(tokens)


@cache
def _units() -> frozenset[str]:
    return frozenset(units()[1])


_SHORT = frozenset(
    ["am", "an", "as", "at", "be", "by", "do", "eg", "go", "he", "hi", "id", "if", "in", "is", "it", "me", "my", "no", "of", "oh", "ok",
     "on", "or", "ox", "pc", "so", "to", "tv", "up", "us", "vs", "we", "ah", "ex", "it's", "i'm", "pm", "re", "de", "ad"]
)  # fmt: skip
_EMPTY = frozenset(
    ["the", "and", "for", "with", "this", "that", "from", "our", "your", "you", "its", "are", "has", "have", "all", "any", "can", "see",
     "take", "look", "below", "details", "shop", "available", "here", "more", "need", "choose", "help", "will"]
)  # fmt: skip
