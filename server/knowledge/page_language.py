"""Which language a page is written in, by its script and, for Latin letters, by its most common words. Pure.

For a page, not for a question: a page is long enough for words like "the" and "und" to decide.
"""

from __future__ import annotations

import re
from collections import Counter

MOST_CHARS = 20_000  # that are looked at
_SCRIPTS = (
    ("zh", re.compile("[\u3400-\u9fff\uf900-\ufaff]")),
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
)
_LATIN = re.compile("[a-zA-Z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+")
_LETTERS_PER_CHARACTER = 3  # a Chinese character says about as much as so many letters
_KANA_SHARE = 0.1  # of a Japanese page's characters, at least: Chinese pages have none
_COMMON = {
    "en": "the and to of you your is in for we it are with that on be can or this",
    "de": "der die das und ist nicht sie wir ihr mit für ein eine auf den im zu von werden",
    "fr": "le la les des et est vous nous votre pour dans un une pas sur avec que du",
    "es": "el los las que y de en su para con por una no es se del nuestro",
    "it": "il gli che di e è per non con una del della sono nel alla",
    "nl": "de het een en van je wij niet voor met zijn op bij uw wordt",
    "pt": "os as que e de não para com uma seu do da em por você",
    "pl": "i w na nie do się jest z że zamówienia lub od przez",
}
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}


def language_of(text: str) -> str:
    """Tell the language of a page.

    Returns:
        A BCP 47 tag; empty: there are no letters. Latin letters without a known word are taken for English.
    """
    seen = text[:MOST_CHARS]
    counts = {language: len(pattern.findall(seen)) for language, pattern in _SCRIPTS}
    if counts["ja"] >= _KANA_SHARE * (counts["ja"] + counts["zh"]) and counts["ja"]:
        counts["ja"], counts["zh"] = counts["ja"] + counts["zh"], 0
    language = max(counts, key=counts.__getitem__)
    latin = len(_LATIN.findall(seen))
    dense = _LETTERS_PER_CHARACTER if language in ("zh", "ja", "ko") else 1
    if counts[language] * dense > latin:
        return language
    return _by_words(seen) if latin else ""


def _by_words(text: str) -> str:
    found = Counter(_WORD.findall(text.lower()))
    scores = {language: sum(found[word] for word in words) for language, words in _WORDS.items()}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > scores["en"] else "en"
