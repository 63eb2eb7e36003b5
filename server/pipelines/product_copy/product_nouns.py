"""What a copy calls the thing, against what its record is about: a kettle is no knife, whatever the model was trained on.

Only listed nouns are seen (``products.txt``). A noun that tells where or with what the thing is used ("for your backpack",
"放在背包里") names something else on purpose, and is no claim; neither is one before a noun of the record ("mug rack").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import CJK, HAS_CJK, stem
from server.pipelines.product_copy.lexicon import product_lexicon
from server.pipelines.product_copy.record import RecordFacts

_USED_WITH = re.compile(
    r"\b(?:for|on|onto|in|into|at|near|beside|from|under|over|above|behind|around|inside|across|off|between|per|by|fits?|"
    r"any|every|each|most|other|like|no|(?<!meet )(?<!is )(?<!new )your)(?:[ ,]+[a-z'-]+){0,3}?[ ,]+$"
    r"|(?:放在|放进|装进|置于|用于|适合|适用于|适配|兼容|搭配|配合|给|为|在|与|和|像|每|任何)[^，。；！？]{0,4}$"
)
_BEHIND = re.compile(r"(?:上|里|中|内|旁|边|时|用|党|爱好者)")
_NEXT = re.compile(r"(?:'s)?[\s-]([a-z]{3,})")
_NEXT_CHINESE = re.compile(f"[{CJK}]{{2}}")


def product_findings(text: str, facts: RecordFacts) -> Iterator[Finding]:
    """Every product that a folded text names, with the place where the record does."""
    for term in product_lexicon().find(text):
        if not term.certain:
            continue
        said = text[term.start : term.end]
        evidence = facts.products.get(term.canonical) or facts.literal(said) or facts.says(said)
        if evidence is None and (
            _USED_WITH.search(text[max(0, term.start - 48) : term.start])
            or _before_its_noun(text, term.end, facts)
            or not _comparable(said, facts)
        ):
            continue
        yield Finding(
            ClaimKind.PRODUCT, term.start, term.end, evidence, "the record is about another product"
        )


def _before_its_noun(text: str, end: int, facts: RecordFacts) -> bool:
    after = _NEXT.match(text, end)
    if after is not None:
        known = facts.words.get(stem(after.group(1)))
        return known is not None and known.source in ("title", "category")
    chinese = _NEXT_CHINESE.match(text, end)
    return bool(_BEHIND.match(text, end)) or (chinese is not None and chinese.group() in facts.grams)


def _comparable(said: str, facts: RecordFacts) -> bool:
    """Whether the record would say it in these letters, or names a product that is listed in both languages."""
    if facts.products:
        return True
    chinese = HAS_CJK.search(said) is not None
    return any(
        (HAS_CJK.search(place.folded.text) is not None) is chinese
        for place in facts.places
        if place.name == "title"
    )
