"""A shop's own rules held against a text, and what of them can be mended without cutting: spelling, marks, capitals, emoji."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from server.copy_domain import ClaimKind, count_words
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import Folded, fold
from server.pipelines.product_copy.forbidden import pattern_of
from server.pipelines.product_copy.record import RecordFacts
from server.pipelines.product_copy.sentences import sentences
from server.pipelines.product_copy.style_rules import StyleRules

_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u26ff\u2700-\u27bf\u2190-\u21ff\u2b00-\u2bff\u3030\u303d\u3297\u3299\u231a-\u23ff]+"
)
_CAPS = re.compile(r"(?<![A-Za-z])[A-Z]{4,}(?![A-Za-z])")
_MARK = re.compile(r"[!！]+")


@lru_cache(maxsize=16)
def _banned(terms: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(pattern_of, terms))) if terms else None


@lru_cache(maxsize=16)
def _spelling(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern_of(wrong)), right) for wrong, right in pairs)


def style_findings(original: str, text: Folded, facts: RecordFacts, rules: StyleRules) -> Iterator[Finding]:
    """Every breach of a rule."""
    banned = _banned(rules.banned_terms)
    if banned is not None:
        for found in banned.finditer(text.text):
            yield _breach(*found.span(), "the shop's own rules ban it")
    for start, end, right in _wrong(original, text, rules):
        yield _breach(start, end, f"the shop spells it {right}")
    if not rules.exclamation_marks:
        for found in _MARK.finditer(text.text):
            yield _breach(*found.span(), "the shop's rules allow no exclamation marks")
    if not rules.emoji:
        for found in _EMOJI.finditer(text.text):
            yield _breach(*found.span(), "the shop's rules allow no emoji")
    if not rules.all_caps:
        for start, end in _shouted(original, text, facts):
            yield _breach(start, end, "the shop's rules allow no words in capitals")
    if rules.max_sentence_words is not None:
        for start, end in sentences(text.text):
            if count_words(text.text[start:end]) > rules.max_sentence_words:
                yield _breach(start, end, f"a sentence may have {rules.max_sentence_words} words")


def mended(original: str, text: Folded, facts: RecordFacts, rules: StyleRules) -> str:
    """The text with what can be mended mended."""
    changes = [(*text.span(start, end), right) for start, end, right in _wrong(original, text, rules)]
    if not rules.all_caps:
        for start, end in _shouted(original, text, facts):
            first, last = text.span(start, end)
            begins = re.search(r"(?:^|[.!?:。！？：])\s*$", original[:first]) is not None
            calm = original[first:last].lower()
            changes.append((first, last, calm.capitalize() if begins else calm))
    for start, end, right in sorted(changes, reverse=True):
        original = original[:start] + right + original[end:]
    if not rules.exclamation_marks:
        original = re.sub(r"\s?[!！]+(?=[.?。？])|(?<=[.?。？])[!！]+", "", original)
        original = re.sub(r"！+|(?<=[\u4e00-\u9fff])!+", "。", original)
        original = re.sub(r"!+", ".", original)
    if not rules.emoji:
        original = re.sub(r"\s{2,}", " ", _EMOJI.sub("", original)).strip()
    return original


def _breach(start: int, end: int, reason: str) -> Finding:
    return Finding(ClaimKind.BANNED, start, end, None, reason)


def _wrong(original: str, text: Folded, rules: StyleRules) -> Iterator[tuple[int, int, str]]:
    for pattern, right in _spelling(tuple(rules.spelling.items())):
        fine = [found.span() for found in re.finditer(re.escape(fold(right)), text.text)]
        for found in pattern.finditer(text.text):
            start, end = found.span()
            shown = original[slice(*text.span(start, end))]
            capital = right[:1].upper() + right[1:]
            whole = next((span for span in fine if span[0] <= start and end <= span[1]), None)
            if whole is not None:
                shown = original[slice(*text.span(*whole))]
                start, end = whole
            if shown not in (right, capital):
                yield start, end, capital if shown[:1].isupper() else right


def _shouted(original: str, text: Folded, facts: RecordFacts) -> Iterator[tuple[int, int]]:
    proper = facts.product.title + " " + facts.product.brand
    if sum(char.isupper() for char in proper) > 0.7 * max(1, sum(char.isalpha() for char in proper)):
        proper = facts.product.brand  # a title that shouts excuses nobody
    back = {place: at for at, place in reversed(list(enumerate(text.places)))}
    for found in _CAPS.finditer(original):
        if found.group() not in proper and found.start() in back:
            start = back[found.start()]
            yield start, start + len(found.group())
