"""Cut what may not be said, so that what is left reads as if it had never been there.

First what can be mended is mended (the shop's spelling and marks). Then the smallest thing that can go without a trace goes: a
clause after a comma, what an "and" adds, a phrase of a headline; else the sentence, else the bullet. What is left is a whole
sentence, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from server.pipelines.product_copy.folding import CJK, HAS_CJK
from server.pipelines.product_copy.sentences import ADJUNCTS, capital, has_verb, sentences

Spans = Sequence[tuple[int, int]]
Refused = Callable[[str], list[tuple[int, int]]]
_COMMA = re.compile(r",\s+(?!\d{3}\b)|;\s+|\s[–—-]\s")
_CN_COMMA = re.compile(r"[，；]")
_AND = re.compile(r",?\s+(?:and|but|while|plus)\s+", re.I)
_CONNECTS = re.compile(
    r"^(?:and|but|also|plus|however|besides|moreover|in addition|so|yet|then|furthermore|what is more)[,\s]+",
    re.I,
)
_CN_CONNECTS = re.compile(r"^(?:而且|并且|还|也|同时|又|且|此外|另外|但|不过|因此|所以|于是|并)+[，,]?")
_PHRASE = re.compile(
    r",\s+|\s[|–—·-]\s|\s\|\s?|;\s+|:\s+|，|｜|：|；|、|(?=\s\()|(?=\s(?:with|in|for|made of|made with|made from|featuring|by|from|without|plus|and|&)\s)"
)
_LEADING = re.compile(
    r"^(?:with|in|for|made of|made with|made from|featuring|by|from|without|plus|and|&|or)\s+", re.I
)
_MOST_ROUNDS = 6


def without_refused(part: str, text: str, refused: Refused) -> str:
    """The text without its refused claims.

    Args:
        part: its name; a description is sentences, a headline or bullet phrases.
        text: to cut.
        refused: spans of what may not be said in a text.

    Returns:
        Text in which nothing is refused, or an empty string.
    """
    for _ in range(_MOST_ROUNDS):
        spans = refused(text)
        if not spans or not text:
            return text
        shorter = _description(text, spans) if part == "description" else _line(text, spans)
        if shorter == text or len(shorter) >= len(text):
            return ""
        text = shorter
    return "" if refused(text) else text


def _description(text: str, spans: Spans) -> str:
    kept: list[str] = []
    dropped = False
    chinese = False
    for start, end in sentences(text):
        sentence = text[start:end]
        chinese = chinese or HAS_CJK.search(sentence) is not None
        inside = [(max(0, a - start), min(end, b) - start) for a, b in spans if a < end and start < b]
        if inside:
            sentence = _sentence(sentence, inside)
            if not sentence:
                dropped = True
                continue
        if dropped:
            sentence = capital(_CN_CONNECTS.sub("", _CONNECTS.sub("", sentence)))
            sentence = re.sub(r"^(It|This|They) also ", r"\1 ", sentence)
        dropped = False
        kept.append(sentence)
    return ("" if chinese else " ").join(kept).strip()


def _sentence(sentence: str, spans: Spans) -> str:
    body = sentence.rstrip(".!?。！？…\"'”’ ")
    stop = sentence[len(body) :].strip()
    if HAS_CJK.search(sentence):
        pieces = _split(body, _CN_COMMA)
        kept = [piece for piece in pieces if not _hit(piece, spans)]
        if len(kept) == len(pieces):
            return ""
        shown = "，".join(text.strip() for _, _, text in kept if text.strip())
        shown = _CN_CONNECTS.sub("", shown)
        letters = len(re.findall(f"[{CJK}]", shown))
        return shown + (stop or "。") if letters >= 4 else ""
    pieces = _split(body, _COMMA)
    if len(pieces) > 1 and not _hit(pieces[0], spans):
        kept = [piece for piece in pieces if not _hit(piece, spans)]
        plain = all(_adjunct(text) for _, _, text in pieces[1:])
        if len(kept) < len(pieces) and plain and has_verb(kept[0][2]):
            return ", ".join(text.strip() for _, _, text in kept) + (stop or ".")
    for found in reversed(list(_AND.finditer(body))):
        head = body[: found.start()]
        if (
            all(found.start() <= a for a, _ in spans)
            and has_verb(head)
            and not re.search(r"\b(?:both|between|either)\b", head, re.I)
        ):
            return head.rstrip(" ,;") + (stop or ".")
    return ""


def _adjunct(piece: str) -> bool:
    first = re.match(r"\s*([A-Za-z']+)", piece)
    return first is not None and first.group(1).lower() in ADJUNCTS


def _line(text: str, spans: Spans) -> str:
    pieces = _split(text, _PHRASE)
    kept = [piece for piece in pieces if not _hit(piece, spans)]
    if not kept or len(kept) == len(pieces):
        return ""
    before = {piece: text[pieces[at - 1][1] : piece[0]] if at else "" for at, piece in enumerate(pieces)}
    shown = ""
    for piece in kept:
        if not shown:
            shown = _LEADING.sub("", piece[2].strip())
        elif before[piece] or piece[2][:1].isspace():
            shown += before[piece] + piece[2]
        else:
            shown += ("，" if HAS_CJK.search(text) else ", ") + piece[2].strip()
    shown = shown.strip(" ,;:|，｜：；、&-–—")
    if kept[0] is not pieces[0]:  # what was named first is gone: only a phrase of its own can stand
        first = kept[0][2].strip()
        if _LEADING.match(first) or re.match(r"[\d(]", first):
            return ""
        shown = capital(shown)
    if text.rstrip().endswith((".", "。")) and not shown.endswith((".", "。")):
        shown += text.rstrip()[-1]
    words = re.findall(rf"[A-Za-z0-9]+|[{CJK}]", shown)
    return shown if len(words) >= 2 or (words and len(words[0]) > 2) else ""


def _split(text: str, at: re.Pattern[str]) -> list[tuple[int, int, str]]:
    pieces, start = [], 0
    for found in at.finditer(text):
        if found.start() > start:
            pieces.append((start, found.start(), text[start : found.start()]))
        start = found.end()
    if start < len(text):
        pieces.append((start, len(text), text[start:]))
    return pieces


def _hit(piece: tuple[int, int, str], spans: Spans) -> bool:
    return any(a < piece[1] and piece[0] < b for a, b in spans)
