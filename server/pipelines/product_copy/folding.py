"""One spelling for what looks the same, character by character, so that places in the folded text are places in the text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

CJK = r"\u3400-\u9fff\uf900-\ufaff"
HAS_CJK = re.compile(f"[{CJK}]")
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_SAME = {
    "“": '"', "”": '"', "″": '"', "＂": '"', "‘": "'", "’": "'", "′": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-",
    "—": "-", "−": "-", "·": ".", "〇": "零", "两": "二", "兩": "二",
}  # fmt: skip
_BETWEEN_NUMBERS = re.compile(r"(?<=[\d\"'])[x*](?=\s?\d)")


@lru_cache(maxsize=65536)
def _fold_char(char: str) -> str:
    same = _SAME.get(char)
    if same is not None:
        return same
    plain = unicodedata.normalize("NFKC", char)
    if len(plain) != 1 or char in "²³":
        plain = char
    if unicodedata.category(plain) == "Nd":
        plain = str(unicodedata.digit(plain))
    lower = plain.lower()
    return lower if len(lower) == 1 else plain


def fold(text: str) -> str:
    """Lower case, half width, plain quotes and dashes, European digits; exactly as long as ``text``."""
    if text.isascii():
        folded = text.lower()
    else:
        folded = "".join(map(_fold_char, text))
    return _BETWEEN_NUMBERS.sub("×", folded)


def visible(text: str) -> str:
    """Text without invisible characters, its white space single: what a reader sees is what was checked."""
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(_INVISIBLE.sub("", safe).split())


def stem(word: str) -> str:
    """A word without its plural, for comparing nouns; crude on purpose and the same for both sides."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word
