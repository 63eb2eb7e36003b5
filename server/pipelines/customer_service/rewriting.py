"""A follow-up question made whole from the turns before it: "and for electronics?", "how long does it take?", "那运费呢？".

Whatever leans on what was said is given the question that it leans on; what stands alone is left as it is. Only the
shopper's own turns are read: an answer that quoted five subjects would bring all five. Bounded in turns and characters, so
that the five hundredth turn costs what the second did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from server.pipelines.customer_service.words import content_words, has_words
from server.pipelines.product_copy.folding import HAS_CJK, fold
from server.pipelines.product_copy.sentences import sentences
from server.support_domain import Role, Turn

MOST_BACK = 3  # questions that lean on each other
MOST_TURNS = 12  # that are looked at for them
MOST_CHARS = 400  # of a question that is looked up
_FEW_WORDS, _FEW_CHARS = 9, 14  # of a follow-up: words of English, characters of Chinese

_OPENS = re.compile(
    r"^\s*(?:ok(?:ay)?[,.!]?\s+)?(?:and|but|or|also|what about|how about|what if|even|same|only|in that case|so|then)\b"
    r"|\b(?:then|instead|as well|too)\s*[?!.]*\s*$"
    r"|^\s*(?:那么?|还有|以及|如果|要是|换成|另外|但是?|或者?|同样|也|而)"
)
_POINTS = re.compile(
    r"\b(?:it|its|they|them|their|this|that|these|those|there|one|ones|do so|the same)\b"
    r"|它们?|这个|那个|这些|那些|这种|那种|这样|那样|其|该"
)
# A pronoun that points at nothing before it: "is it possible to", "does it cost anything to return", "that I ordered", "one that is".
_POINTS_AHEAD = re.compile(
    r"\bis it (?:possible|ok to|okay to|true)\b|\b(?:that|this|it) (?:i|we|you|my|the)\b|\b[a-z]{3,} that (?:is|are|was|were|has|have|came|does|did|do|can)\b|\bis there\b|\bare there\b"
    r"|\b(?:this|that|these|those) (?!long|much|many|cost|costs|take|takes|work|works|mean|apply|include|possible)[a-z]{3,}"
)
_ENDS = re.compile(r"^[^，。？?]{1,10}呢[？?。]?$")
_BARE = re.compile(
    r"^\s*(?:how (?:long|much|many|often|soon|come)|why|when|where|who|which(?: ones?)?|for free|really|how|since when|until when)"
    r"(?: (?:is|does|will|would|do|can) (?:it|that|this|they|i)(?: (?:take|cost|be|work|happen|apply))?)?\s*[?!.]*\s*$"
    r"|^\s*(?:要?多久|多少钱|要钱吗|为什么|什么时候|在哪里?|哪里|免费吗|怎么(?:做|办|弄|操作)?|多长时间|需要多久|要多长时间|收费吗)[呢吗]?[？?。！!]*\s*$"
)
# What follows is all that is new: "and to Norway?", "what about Klarna", 那日本呢.
_SUBJECT = re.compile(
    r"^\W*(?:ok(?:ay)?\W+)?(?:(?:and|but|or|also|then|so)\b\W*)*(?:(?:what|how) about\b\W*|what if it(?:'s| is)\b\W*|even\b\W*)?(?:(?:for|to|with|in|from|on|by|via|at|of|as|if)\b\W*)?"
    r"(?P<what>(?!.*\b(?:is|are|was|were|has|have|had|do|does|did|can|could|will|would|should|must|may|i|we|you|it|they|he|she|comes?|gets?|takes?|costs?|works?|happens?)\b)\w+(?:[ '-]\w+){0,5})\W*$"
)
_SUBJECT_ZH = re.compile(
    r"^(?:那么?|还有|以及|如果是?|要是|换成|另外|但是?|或者?|同样|也|而|用|寄到?|发到?|去|到)*(?P<what>[^，。？?]{1,10}?)(?:呢|可以吗|行吗|行不行|也?可以|也行)[？?。]?$"
)
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'-]+")
_HOW = content_words(
    "late early quick quickly fast soon slow cost costs price pay paid expensive cheap cheaper free work works working happen happens do possible allowed allow kind type sort sorts "
    "same different other others too as well everything something anything ones thing things case example item items product products order orders buy bought use using online one two more less new old"
)
_TRAILING = re.compile(r"[\s?？!！.。]+$")


def whole_question(turns: Sequence[Turn], without: Callable[[str], str] = str) -> str:
    """The newest question, with what it leans on.

    Args:
        turns: oldest first; the last is the shopper's.
        without: takes out of each question what must not be looked up; given ``MOST_CHARS`` characters at most.

    Returns:
        The message as it is where it stands alone, else the questions that it leans on before it; at most
        ``MOST_CHARS`` characters, of which the newest stay.
    """
    whole = turns[-1].content.strip()
    message = without(_asking(whole))
    if len(whole) > MOST_CHARS:
        return message
    parts = [message]
    asked = [turn.content for turn in turns[-1 - MOST_TURNS : -1] if turn.role is Role.USER]
    while asked and len(parts) <= MOST_BACK and leans(parts[0]):
        before = without(_asking(asked.pop().strip()))
        if has_words(before) and content_words(before[:MOST_CHARS]):
            parts.insert(0, before)
    if len(parts) == 1:
        return message
    joint = "，" if HAS_CJK.search(message) else ", "
    room = max(1, (MOST_CHARS - len(message)) // (len(parts) - 1) - len(joint))
    leading = [_TRAILING.sub("", part)[:room] for part in parts[:-1]]
    return joint.join([*leading, message])


def newly_asked(message: str, whole: str) -> frozenset[str]:
    """What a follow-up asks about that the questions before it did not: what an answer to it must be about.

    "and to Norway?" after a question about express delivery is answered by no passage that knows no Norway, however well it
    answers the question before. Numbers, and words that only say how something is asked for, may be missing.

    Args:
        message: the newest question; ``whole`` ends with it.
        whole: of ``whole_question``.

    Returns:
        Words of ``content_words``; empty where the question stands alone.
    """
    before = whole.removesuffix(message)
    if before == whole or not before.strip():
        return frozenset()
    plain = fold(message)
    new = content_words(message) - content_words(before)
    if HAS_CJK.search(plain):
        subject = _SUBJECT_ZH.match(plain.strip())
        named = frozenset() if subject is None else content_words(subject["what"])
    else:
        subject = _SUBJECT.match(plain)
        written = message if subject is None else plain[subject.start("what") :]
        named = content_words(" ".join(_NAME.findall(message)) if subject is None else written)
    return frozenset(word for word in new & named if word not in _HOW and not word[0].isdigit())


def leans(text: str) -> bool:
    """Whether a question cannot be understood without the one before it."""
    if len(text) > MOST_CHARS or not has_words(text):
        return False
    plain = fold(text)
    if _BARE.match(plain) or _ENDS.match(plain.strip()):
        return True
    chinese = HAS_CJK.search(plain) is not None
    short = len(plain.strip()) <= _FEW_CHARS if chinese else len(plain.split()) <= _FEW_WORDS
    if not short:
        return False
    if _OPENS.search(plain):
        return True
    return _POINTS.search(_POINTS_AHEAD.sub(" ", plain)) is not None and len(content_words(text)) <= 3


def _asking(text: str) -> str:
    """A message of at most ``MOST_CHARS`` characters: of a longer one what it asks, or else its beginning."""
    if len(text) <= MOST_CHARS:
        return text
    asks = " ".join(
        text[start:end] for start, end in sentences(text) if text[start:end].endswith(("?", "？"))
    )
    return (asks or text)[:MOST_CHARS]
