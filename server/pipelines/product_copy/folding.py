"""One spelling for what looks the same, with the way back: places in the folded text are places in the text.

Width, case, diacritics, look-alike letters of other scripts, styled letters, invisible characters and traditional characters
fall away, so that no list and no comparison has to know of them. A fraction sign stays, and so does a squared one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

CJK = r"\u3400-\u9fff\uf900-\ufaff"
HAS_CJK = re.compile(f"[{CJK}]")
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_SAME = {
    "“": '"', "”": '"', "″": '"', "‘": "'", "’": "'", "′": "'", "`": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-",
    "−": "-", "⁃": "-", "﹣": "-", "·": ".", "•": ".", "〇": "零", "两": "二", "兩": "二", "，": "，", "。": "。", "；": "；",
    "：": "：", "！": "！", "？": "？", "（": "（", "）": "）", "、": "、", "™": "", "®": "", "©": "", "℃": "℃", "℉": "℉", "×": "×",
    "µ": "µ", "μ": "µ", "²": "²", "³": "³", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ı": "i", "⁄": "/", "∕": "/",
}  # fmt: skip
_LOOK_ALIKE = dict(zip(
    "аәеоорсухіїјѕһԁԛԝвкмнтгпьӏαβεηικνορτυχωγ"
    "ʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢᴀɑɡƖǀⅼ",
    "aaeoopcyxiijshdqwbkmhtrnblabenikvoptuxwy"
    "bcdefghijklmnoprstuvwyzaaglll", strict=True,
))  # fmt: skip
_BETWEEN_NUMBERS = re.compile(r"(?<=[\d\"'])(?P<near>\s?)[x*](?=\s?\d)|(?<=\d[mc]m)\s?[x*](?=\s?\d)")


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text.

    Attributes:
        text: folded.
        places: of each of its characters in the original, and last the original's length.
    """

    text: str
    places: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """A span of the folded text in the original."""
        if end <= start:
            return self.places[start], self.places[start]
        return self.places[start], self.places[end - 1] + 1


@cache
def _simplified() -> dict[str, str]:
    text = (
        files("server.pipelines.product_copy").joinpath("data", "traditional.txt").read_text(encoding="utf-8")
    )
    pairs = (pair for line in text.splitlines() if not line.startswith("#") for pair in line.split())
    return {pair[0]: pair[1] for pair in pairs if pair[0] != pair[1]}


@lru_cache(maxsize=65536)
def _fold_char(char: str) -> str:
    same = _SAME.get(char, _SAME.get(char.lower()))
    if same is not None:
        return same
    if _INVISIBLE.match(char):
        return ""
    if "\U0001f1e6" <= char <= "\U0001f1ff":  # flags' letters, then letters in boxes
        return chr(ord(char) - 0x1F1E6 + ord("a"))
    for first in (0x1F130, 0x1F150, 0x1F170):
        if first <= ord(char) < first + 26:
            return chr(ord(char) - first + ord("a"))
    category = unicodedata.category(char)
    if category in ("Mn", "Me", "Cf", "Cs"):
        return ""
    if category == "No" and unicodedata.numeric(char, 0.5) % 1:
        return char
    if char.isspace() and char != "\n":
        return " "
    plain = unicodedata.normalize("NFKD", char)
    plain = "".join(one for one in plain if unicodedata.category(one) not in ("Mn", "Me")).lower()
    if len(plain) > 4:
        return char
    return "".join(_letter(one) for one in plain)


def _letter(char: str) -> str:
    if unicodedata.category(char) == "Nd":
        return str(unicodedata.digit(char))
    char = _LOOK_ALIKE.get(char, char)
    return _simplified().get(char, _SAME.get(char, char))


@lru_cache(maxsize=512)
def folded(text: str) -> Folded:
    """Fold a text, remembering places."""
    return folded_once(text)


def folded_once(text: str) -> Folded:
    """Fold a text and keep nothing of it: for what people write about themselves."""
    if text.isascii() and text.isprintable():
        return Folded(_BETWEEN_NUMBERS.sub(_times, text.lower()), range(len(text) + 1))
    out: list[str] = []
    places: list[int] = []
    for at, char in enumerate(text):
        new = _fold_char(char)
        out.append(new)
        places.extend([at] * len(new))
    places.append(len(text))
    return Folded(_BETWEEN_NUMBERS.sub(_times, "".join(out)), places)


def fold(text: str) -> str:
    """Lower case, half width, plain quotes and dashes, European digits, latin letters, nothing invisible."""
    return folded(text).text


def _times(match: re.Match[str]) -> str:
    return match.group()[:-1] + "×"


def visible(text: str) -> str:
    """Text without invisible characters, its white space single: what a reader sees is what was checked."""
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(_INVISIBLE.sub("", safe).split())


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A word without its plural, for comparing nouns; crude on purpose and the same for both sides."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word
