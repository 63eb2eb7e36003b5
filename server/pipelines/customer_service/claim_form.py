"""What of a sentence its words and numbers do not say: what is negated, joined by "and" or by "or", how much and how surely.

Two sentences may have all words in common and say the opposite of each other. So what each negation stands before, what each
"and" or "or" stands between, and every word that says how many or whether one may or must, is read out of both and compared.
Whatever is doubtful counts as different. Over folded text; both languages.
"""

from __future__ import annotations

import re

from server.pipelines.customer_service.words import content_words, root
from server.pipelines.product_copy.folding import CJK

_TOKEN = re.compile(rf"[a-z0-9]+(?:['-][a-z0-9]+)*|[{CJK}]+|[,.;:!?，。；：！？、]")
_NO = re.compile(
    r"(?:not|no|never|none|neither|nor|without|cannot|nobody|nothing|hardly|unless|except|barely|instead)|\w+n't"
)
_CLAUSE = frozenset(",.;:!?，。；：！？、") | {"but", "however", "though", "although"}
REACH = 5  # words that a negation is taken to be about
_REVERSED = re.compile(r"(?:un|in|im|ir|il|dis|non-?)(?=[a-z]{3})")
_AND = frozenset({"and", "plus", "both"})
_OR = frozenset({"or", "either"})
# How many, how much and how surely: each of them means something else, so none may stand in for another.
_QUANTIFIERS = {
    **dict.fromkeys(["all", "every", "each", "whole", "entire", "any", "anything", "anyone", "everything"], "all"),
    **dict.fromkeys(["some", "several", "certain", "selected", "part", "partly", "few"], "some"),
    **dict.fromkeys(["most", "mostly", "usually", "normally", "generally", "often", "typically", "majority"], "most"),
    **dict.fromkeys(["sometimes", "occasionally", "rarely", "seldom"], "seldom"),
    **dict.fromkeys(["always", "forever"], "always"),
    **dict.fromkeys(["only", "solely", "exclusively", "just"], "only"),
    **dict.fromkeys(["half"], "half"),
    **dict.fromkeys(["twice", "double"], "double"),
    **dict.fromkeys(["once"], "once"),
    **dict.fromkeys(["about", "around", "approximately", "roughly", "nearly", "almost"], "about"),
}  # fmt: skip
_MUST = frozenset({"must", "need", "needs", "have", "has", "required", "obliged", "shall"})
_MAY = frozenset({"can", "may", "could", "might", "able", "possible", "allowed"})
_ZH_NO = re.compile(r"不(?!论|管|仅|但|过|同)|没|无(?!论)|未|非(?!常)|勿|禁|别(?!的|家)")
_ZH_QUANTIFIERS = re.compile(
    r"(?P<all>全部|所有|任何|每|都|一切)|(?P<some>部分|某些|有些|个别|几)|(?P<most>大部分|大多|多数|一般|通常)|(?P<only>仅|只有?|唯一)|(?P<always>一律|总是|始终|永远|一定)"
    r"|(?P<least>至少|最少|以上)|(?P<atmost>最多|至多|以内|不超过|以下)|(?P<must>必须|需要?|应当?|得(?=[付交还]))|(?P<may>可以|能|可(?!能)|允许)"
)
_ZH_OR = re.compile(r"(?:或者?|还是)")
_ZH_AND = re.compile(r"(?:以及|并且?|和|与|及|同时|而且)")
ZH_REACH = 4  # characters


def same_form(told: str, page: str) -> bool:
    """Whether a sentence keeps what a page's sentence negates, joins and bounds.

    Args:
        told: the sentence, folded.
        page: the page's, folded.
    """
    return (
        _same_polarity(told, page)
        and _same_joints(told, page)
        and _quantifiers(told) == _kept(_quantifiers(page), told, page)
        and _same_duties(told, page)
    )


def _words(plain: str) -> list[str]:
    return [word for word in _TOKEN.findall(plain)]


def _polarity(plain: str) -> dict[str, set[bool]]:
    """Of each word, whether it stands behind a negation in its clause."""
    found: dict[str, set[bool]] = {}
    left, negated = 0, False
    for word in _words(plain):
        if word in _CLAUSE:
            left, negated = 0, False
            continue
        if _NO.fullmatch(word):
            negated, left = not negated if left else True, REACH
            continue
        bare = _REVERSED.sub("", word, count=1)
        here = negated and left > 0
        if content_words(word):
            found.setdefault(root(word), set()).add(here)
            if bare != word:
                found.setdefault(root(bare), set()).add(not here)
            left = max(0, left - 1)
    return found


def _same_polarity(told: str, page: str) -> bool:
    mine, theirs = _polarity(told), _polarity(page)
    if any(not mine[word] & theirs[word] for word in mine.keys() & theirs.keys()):
        return False
    return all(signs & _zh_polarity(page).get(pair, signs) for pair, signs in _zh_polarity(told).items())


def _zh_polarity(plain: str) -> dict[str, set[bool]]:
    found: dict[str, set[bool]] = {}
    for run in re.finditer(rf"[{CJK}]+", plain):
        text = run.group()
        for at in range(len(text) - 1):
            pair = text[at : at + 2]
            if _ZH_NO.search(pair):
                continue
            before = text[max(0, at - ZH_REACH) : at]
            found.setdefault(pair, set()).add(len(_ZH_NO.findall(before)) % 2 == 1)
    return found


def _joints(plain: str) -> set[tuple[str, str, str]]:
    """What stands to the left and to the right of each "and" and "or", and which of them it is."""
    words = _words(plain)
    found = set()
    for at, word in enumerate(words):
        kind = "and" if word in _AND else "or" if word in _OR else ""
        if kind:
            left = next((root(one) for one in reversed(words[:at]) if content_words(one)), "")
            right = next((root(one) for one in words[at + 1 :] if content_words(one)), "")
            found.add((left, kind, right))
    return found


def _same_joints(told: str, page: str) -> bool:
    mine, theirs = _joints(told), _joints(page)
    kinds = {kind for _, kind, _ in theirs}
    for left, kind, right in mine:
        other = "or" if kind == "and" else "and"
        if kind not in kinds and other in kinds:
            return False
        if {(left, other, right), (right, other, left)} & theirs:
            return False
        beside = {joint for _, joint, near in theirs if near == right} | {
            joint for near, joint, _ in theirs if near == left
        }
        if beside and kind not in beside:
            return False
    zh = (bool(_ZH_OR.search(told)), bool(_ZH_AND.search(told)))
    zh_page = (bool(_ZH_OR.search(page)), bool(_ZH_AND.search(page)))
    return not (zh[0] and not zh_page[0]) and not (zh[1] and not zh_page[1] and zh_page[0])


def _quantifiers(plain: str) -> frozenset[str]:
    english = {_QUANTIFIERS[word] for word in _words(plain) if word in _QUANTIFIERS}
    chinese = {
        str(found.lastgroup)
        for found in _ZH_QUANTIFIERS.finditer(plain)
        if found.lastgroup not in ("must", "may")
    }
    return frozenset(english | chinese)


def _kept(page_has: frozenset[str], told: str, page: str) -> frozenset[str]:
    """Those of a page's words of number that the sentence must have: all but those of what it left out."""
    words, there = _words(page), {root(word) for word in _words(told) if content_words(word)}
    left_out = set()
    for at, word in enumerate(words):
        kind = _QUANTIFIERS.get(word)
        if kind is None:
            continue
        after = next((root(one) for one in words[at + 1 :] if content_words(one)), "")
        if after not in there:
            left_out.add(kind)
        else:
            left_out.discard(kind)
    return (
        page_has - frozenset(left_out)
        if not re.search(f"[{CJK}]", page)
        else page_has & _zh_needed(told, page)
    )


def _zh_needed(told: str, page: str) -> frozenset[str]:
    """Of a Chinese page's words of number those whose clause the sentence repeats."""
    needed = set()
    for clause in re.split(r"[，。；：！？、]", page):
        pairs = {clause[at : at + 2] for at in range(len(clause) - 1)}
        if pairs and sum(pair in told for pair in pairs) >= 0.5 * len(pairs):
            needed |= {str(found.lastgroup) for found in _ZH_QUANTIFIERS.finditer(clause)}
    return frozenset(needed - {"must", "may"}) | (_quantifiers(told) & _quantifiers(page))


def _same_duties(told: str, page: str) -> bool:
    """Nothing that may be is told as what must be, and the other way round."""
    mine, theirs = set(_words(told)), set(_words(page))
    if mine & _MUST and not theirs & _MUST:
        return False
    if mine & _MAY and not theirs & _MAY:
        return False
    zh, zh_page = ({str(one.lastgroup) for one in _ZH_QUANTIFIERS.finditer(text)} for text in (told, page))
    return (zh & {"must", "may"}) <= zh_page
