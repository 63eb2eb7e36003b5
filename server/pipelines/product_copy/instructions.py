"""Text in a record that speaks to a writer instead of about a product, and what has no place in copy: addresses and markup.

A record is data. What an instruction stands in, and all that follows it in the same field, is believed nothing: it proves no
claim, and its own words may not appear in copy. A shop whose honest text looks like an instruction loses that text as a source,
which costs a fact; to believe an instruction would cost a lie.
"""

from __future__ import annotations

import re
from functools import cache

from server.pipelines.product_copy.folding import CJK
from server.pipelines.product_copy.lexicon import read_list

_SENTENCE_END = re.compile(r"[.!?。！？\n;；]\s|[。！？\n；|]|\s[-–|]\s|[\[(<{【「（]|\s\"")
_SPACED = re.compile(r"(?<![a-z0-9])(?:[a-z0-9][\s._*-]{1,2}){3,}[a-z0-9](?![a-z0-9])")
_LEET = str.maketrans("013457@$", "oieastas")
_LEET_WORD = re.compile(
    r"(?<![a-z0-9])(?=[a-z0-9@$]*[a-z])(?=[a-z0-9@$]*[0134579@$])[a-z0-9@$]{4,}(?![a-z0-9])"
)
# Addresses: of pages, mailboxes, accounts and telephones; and what only machines write.
CONTACT = re.compile(
    r"https?\s?:|www\s?\.|(?<![a-z0-9-])[a-z0-9-]{2,60}\s?\.\s?(?:com|net|org|info|shop|store|io|cn|biz|xyz|top|ru|link|click|site|online|app|me|ly)\b(?!\w)"
    r"|(?<![\w.+-])[\w.+-]{1,64}\s?@\s?[\w-]{1,60}\.\w+|(?<![\w@])@[a-z]\w{2,}"
    r"|(?<![\d.])\+?\d{1,3}[ .-]\(?\d{2,4}\)?[ .-]\d{3,4}[ .-]\d{3,4}(?!\d)|(?<!\d)1[3-9]\d{9}(?!\d)|\(\d{3}\)\s?\d{3}[ .-]\d{4}"
    r"|微信号?\s?[:：]?\s?[a-z]\w{4,}|加(?:微信|vx|qq)|qq\s?[:：]?\s?\d{5,}|扫码|二维码加"
    r"|\bwhatsapp\b|\btelegram\b|\b(?:dm|call|text|e-?mail|contact) (?:us|me) (?:at|on|now)\b|\b(?:promo|coupon|discount|use) code\b|优惠码|\bpasscode\b"
)
# What may be an address: it stands only if the record's own title or brand has it.
LIKE_CONTACT = re.compile(
    r"(?<![\w.@/-])[a-z0-9-]{3,60}\.(?!jpe?g\b)[a-z]{2,24}(?!\w|\.\w)(?:/\S*)?|(?<![\d.,])(?:\+\d|0\d|[48]00[ -]\d)[\d ()-]{5,16}\d(?!\d|\.\d)"
)
MARKUP = re.compile(
    r"</?[a-z!][^<>\n]{0,200}>|<\||\|>|\[/?inst\]|\]\(|`{3}|\{\{|\}\}|\$\{|<!--|-->|&(?:lt|gt|amp|quot|nbsp|#\d+);|\\u[0-9a-f]{4}|\\n"
)


@cache
def _instruction() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{line})" for line in read_list("instructions.txt")))


def instruction_at(folded: str) -> re.Match[str] | None:
    """The first place of a folded text that speaks to a writer."""
    return _instruction().search(folded)


def believable(folded: str) -> int:
    """How much of a field may be believed: up to the sentence that an instruction begins in, or all of it.

    Args:
        folded: a field, folded. Letters set apart ("i g n o r e") and digits for letters ("1gn0re") are seen through.
    """
    first = instruction_at(folded)
    at = len(folded) if first is None else first.start()
    if first is None or at:
        for seen in (_tight(folded), unleet(folded)):
            if seen != folded:
                hidden = instruction_at(seen)
                if hidden is not None:
                    at = min(at, _same_place(folded, seen, hidden.start()))
    if at == len(folded):
        return at
    ends = [found.end() for found in _SENTENCE_END.finditer(folded, 0, at)]
    return ends[-1] if ends else 0


def squeezed(folded: str) -> tuple[str, list[int]]:
    """A text without what is put between single letters and between Chinese characters to hide a word, and its places."""
    keep = [True] * len(folded)
    for run in _SPACED.finditer(folded):
        for at in range(*run.span()):
            keep[at] = folded[at].isalnum()
    for gap in re.finditer(rf"(?<=[{CJK}])[\s._*~/\\|+^-]{{1,3}}(?=[{CJK}])", folded):
        for at in range(*gap.span()):
            keep[at] = False
    places = [at for at in range(len(folded)) if keep[at]]
    return "".join(folded[at] for at in places), places


def unleet(folded: str) -> str:
    """A folded text of the same length with letters for the digits that stand for them ("1gn0re")."""
    return _LEET_WORD.sub(lambda word: word.group().translate(_LEET), folded)


def _tight(folded: str) -> str:
    text = squeezed(folded)[0]
    return text


def _same_place(folded: str, seen: str, at: int) -> int:
    return at if len(seen) == len(folded) else squeezed(folded)[1][at]
