"""Make a text fit its limits, cut where a sentence, a clause or at least a thought ends; never inside a word, a number or its unit.

A headline names a thing: it is cut behind a noun phrase and not within a list, or not at all ("Micro-Cut Paper, CD" is no
shredder, "Mobile Laptop" no laptop cart); ``naming`` has shorter names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from server.copy_domain import count_words
from server.pipelines.product_copy.folding import CJK, HAS_CJK
from server.pipelines.product_copy.noun_phrases import in_list, phrase_ends
from server.pipelines.product_copy.sentences import has_verb, sentences

_DANGLING = re.compile(
    r"(?:[\s,;:/&+|(\[–—-]|(?<![A-Za-z0-9'])(?:a|an|the|and|or|with|of|for|in|to|by|from|at|on|is|are|was|its|it|that|which|as|not|no|per|your|"
    r"our|this|these|but|so|into|than|up|made|has|have|comes|can|be|will|x|each|every|one|if|when|while|where|who|you|we|they|their|very|"
    r"more|most|only|also|without|over|under|between|plus|vs|includes|including|featuring)(?![A-Za-z0-9])|[，、；：｜的与和及或为是在以将把由])+$",
    re.I,
)
_CLAUSE = re.compile(r"(?=[,;]\s|\s[–—|-]\s|\s\(|[，；、｜：（]|:\s)")
_WORD_EDGE = re.compile(rf"(?=\s)|(?<=[{CJK}])(?=[{CJK}A-Za-z0-9])|(?<=[A-Za-z0-9.])(?=[{CJK}])")
_MOST_TRIES = 16


def fits(text: str, chars: int, words: int) -> bool:
    """Whether a text is within both limits."""
    return len(text) <= chars and count_words(text) <= words


def shortened(part: str, text: str, *, chars: int, words: int, good: Callable[[str], bool]) -> str:
    """The longest beginning of a text that is within both limits and can stand alone.

    Args:
        part: its name; a description is sentences.
        text: to shorten.
        chars: the most characters.
        words: the most words.
        good: whether a cut has not made the text claim something else (1.7 of 1.7 l).

    Returns:
        Empty when nothing of use fits.
    """
    if chars < 1 or words < 1:
        return ""
    if fits(text, chars, words):
        return text
    if part == "description":
        whole = _sentences(text, chars, words)
        if whole:
            return whole
    for tried, shown in enumerate(_beginnings(part, text[: 4 * chars + 200], chars, words)):
        if good(shown):
            return shown
        if tried >= _MOST_TRIES:
            break
    return ""


def _sentences(text: str, chars: int, words: int) -> str:
    spans = sentences(text[: 2 * chars + 200])
    best = ""
    for _, end in spans:
        shown = text[spans[0][0] : end]
        if not fits(shown, chars, words):
            break
        if end <= len(text) and (shown[-1:] in ".!?。！？…" or end == len(text)):
            best = shown
    return best


def _beginnings(part: str, text: str, chars: int, words: int) -> Iterator[str]:
    seen = set()
    sentence = part == "description"
    for pattern in (_CLAUSE, _WORD_EDGE):
        cuts = sorted({found.start() for found in pattern.finditer(text)}, reverse=True)
        if part == "headline" and pattern is _CLAUSE:
            cuts = [cut for cut in cuts if not in_list(text, cut)]
        elif part == "headline":
            cuts = phrase_ends(text)[::-1]
        for cut in cuts:
            shown = _closed(text[:cut], sentence)
            if shown and shown not in seen and fits(shown, chars, words):
                seen.add(shown)
                if pattern is not _WORD_EDGE and len(shown) < chars // 3:
                    continue  # too little: a cut between words says more
                yield shown


def _closed(text: str, sentence: bool) -> str:
    text = _DANGLING.sub("", text.rstrip())
    for opened, closed in ("()", "（）", "[]", '""', "“”", "「」"):
        if opened != closed and text.count(opened) > text.count(closed):
            text = _DANGLING.sub("", text[: text.rfind(opened)])
    if text.count('"') % 2 and not re.search(r'\d"', text):
        text = _DANGLING.sub("", text[: text.rfind('"')])
    if not text or not re.search(rf"[A-Za-z0-9{CJK}]", text):
        return ""
    if sentence and text[-1] not in ".!?。！？…":
        if not has_verb(text):
            return ""
        text += "。" if HAS_CJK.search(text) else "."
    return text
