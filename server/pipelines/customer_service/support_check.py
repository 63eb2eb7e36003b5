"""Whether a sentence that a language model wrote is borne out by a quoted page: words, numbers, negation, and meaning.

What is negated, joined by "and" or "or", and how surely it holds is compared by ``claim_form``.

A sentence is held against one sentence of a page at a time, never against the page as a whole: "express costs €4.95" has all
its words and numbers in a page that says what standard and express delivery cost. Numbers must stand beside the same words.
Whatever is doubtful is refused; then the page is quoted as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from server.pipelines.customer_service.claim_form import same_form
from server.pipelines.customer_service.words import content_words, coverage, root
from server.pipelines.product_copy.folding import CJK, fold
from server.pipelines.product_copy.number_words import NUMBER, value_of
from server.pipelines.product_copy.sentences import sentences

MOST_UNITS = 64  # sentences of pages that are looked at
NEAR_WORDS = 3  # between a number and the word that says what it counts
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|except|unless|cannot|nobody|nothing|hardly)\b|n't\b|\b(?:un|im|ir)(?:able|possible|likely|available|used|opened)\b"
    r"|不(?!论|管|仅|但|过|同)|没|无(?!论)|未|非(?!常)|除(?!了|以)|勿|禁|别(?!的|家)"
)
# Words that promise something or say how much of it holds: each must stand in the page's sentence itself.
_STRONG = re.compile(
    r"\b(?:free|discount\w*|voucher\w*|coupon\w*|refund\w*|compensat\w*|guarantee\w*|always|all|every|any|only|must|immediately|instantly|forever|"
    r"lifetime|unlimited|today|tomorrow|bonus|gift\w*|credit\w*|replac\w*|before|after|until|within|least|most|more|less|first|last)\b"
    r"|免费|折扣|优惠|退款|赔偿|补偿|保证|一定|全部|所有|任何|立即|马上|永久|终身|只|必须|赠|之前|之后|以内|至少|最多"
)
# What bounds a promise: a page's sentence that has one bears out none that has none.
_BOUND = re.compile(
    r"\b(?:if|unless|only|until|once|except|when|within|before|after|between|free from|as long as|up to|at least)\b|如果|除非|除了|满|之前|之后|仅|只要|只有|必须|最多|至少|以内"
)
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w-]+")
_TOKEN = re.compile(rf"[^\W_{CJK}]+(?:['-][^\W_{CJK}]+)*|[{CJK}]")
_MARK = re.compile(r"€|\$|£|¥|%|‰|°")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportLimits:
    """What counts as borne out.

    Attributes:
        coverage: least share of a sentence's words that the page's sentence has.
        cosine: least cosine of the two.
    """

    coverage: float = 0.6
    cosine: float = 0.7


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence, and the one of a page that may bear it out.

    Attributes:
        sentence: that was written.
        unit: of the page.
        page: which page.
    """

    sentence: str
    unit: str
    page: int


def pairs(text: str, pages: Sequence[str], limits: SupportLimits) -> list[Pair] | None:
    """For each sentence of a text the page's sentence that bears it out by words, numbers and negation.

    Returns:
        One pair a sentence; None where a sentence has none, or there is no sentence.
    """
    units = [
        (page, text_of[start:end]) for page, text_of in enumerate(pages) for start, end in sentences(text_of)
    ][:MOST_UNITS]
    found = []
    for start, end in sentences(text):
        sentence = text[start:end]
        words = content_words(sentence)
        fitting = [
            (coverage(words, content_words(unit)), -at)
            for at, (_, unit) in enumerate(units)
            if _borne_out(sentence, words, unit, limits)
        ]
        if not fitting:
            return None
        page, unit = units[-max(fitting)[1]]
        found.append(Pair(sentence, unit, page))
    return found or None


def meanings_agree(
    sentences_ND: npt.NDArray[np.float32], units_ND: npt.NDArray[np.float32], limits: SupportLimits
) -> bool:
    """Whether each sentence is near its page's sentence; vectors of length 1, row by row."""
    cosines_N = np.einsum("nd,nd->n", sentences_ND, units_ND)
    return bool(np.all(cosines_N >= limits.cosine))  # NaN is not


def _borne_out(sentence: str, words: frozenset[str], unit: str, limits: SupportLimits) -> bool:
    there = content_words(unit)
    if not words or coverage(words, there) < limits.coverage:
        return False
    plain, page = fold(sentence), fold(unit)
    if NUMBER.search(plain) and not all(_stands(word, there, page) for word in words):
        return False  # "overnight delivery costs €4.95" where the page says it of standard delivery
    if bool(_NEGATION.search(plain)) != bool(_NEGATION.search(page)):
        return False
    told = {root(word) for word in _STRONG.findall(page)}
    if any(root(word) not in told for word in _STRONG.findall(plain)):
        return False
    if _BOUND.search(page) and not _BOUND.search(plain):
        return False
    if not same_form(plain, page):
        return False
    if any(name.lower() not in unit.lower() for name in _NAME.findall(sentence)):
        return False
    return _numbers_stand(plain, page)


def _stands(word: str, there: frozenset[str], page: str) -> bool:
    """Whether a word of a sentence with numbers is the page's; of a pair of Chinese characters, which may have met by chance, each."""
    return word in there or (not word.isascii() and all(char in page for char in word))


def _numbers_stand(plain: str, page: str) -> bool:
    told = _numbers(page)
    for value, near, marks in _numbers(plain):
        if not any(
            value == other and marks <= marks_there and (not near or near & near_there)
            for other, near_there, marks_there in told
        ):
            return False
    return True


def _numbers(plain: str) -> list[tuple[Fraction, frozenset[str], frozenset[str]]]:
    """Numbers with the words around them and the signs beside them."""
    found = []
    for match in NUMBER.finditer(plain):
        value = value_of(match)
        if value is None:
            continue
        before = _TOKEN.findall(plain[max(0, match.start() - 60) : match.start()])[-NEAR_WORDS:]
        after = _TOKEN.findall(plain[match.end() : match.end() + 60])[:NEAR_WORDS]
        near = frozenset(root(word) for word in [*before, *after] if content_words(word) or len(word) == 1)
        marks = frozenset(_MARK.findall(plain[max(0, match.start() - 2) : match.end() + 2]))
        found.append((value, near, marks))
    return found
