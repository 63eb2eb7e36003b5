"""Listed words of a copy (colours, materials, certificates, sizes, features, superlatives), and features by the form of the words.

No list is whole, so forms stand in: -proof, -resistant, -free; the fastest, more than; includes, compatible with, 防…, 支持….
What such a form names has to stand in the record in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import CJK, stem
from server.pipelines.product_copy.lexicon import common_words, lexicons, read_words
from server.pipelines.product_copy.quantities import units
from server.pipelines.product_copy.record import WORD, Evidence, RecordFacts, polarity

_EST = re.compile(r"(?<![a-z])[a-z]{2,}est(?![a-z])")
_NO_EST = read_words("no_superlatives")
_MORE_THAN = re.compile(
    r"(?<![a-z])(?:(?:more|less|fewer)(?: [a-z]+)? than|(?!other|rather)[a-z]{3,}er than|better|outperform\w*|beats|compared (?:to|with) other)(?![a-z])"
    r"|比(?:普通|其他|同类|一般|传统)[一-鿿]{0,6}更?|更(?:胜一筹|优于)"
)
_MOST = re.compile(
    r"(?<![a-z])(?:the )?(?:most|least) (?!of\b|people\b|users\b|days\b|homes\b|rooms\b|likely\b)[a-z]{3,}(?![a-z])"
)
_FORM = re.compile(
    r"(?<![a-z])(?:[a-z]{2,}[- ])?[a-z]*(?:proof|resistant|repellent|safe|free|grade|certified|approved|compatible|powered|coated|plated|"
    r"infused|friendly|washable|activated|lined|tested|accredited|licensed|endorsed)(?![a-z])"
)
_FORM_END = re.compile(
    r"(?:proof|resistant|repellent|safe|free|grade|certified|approved|compatible|powered|coated|plated|infused|friendly|washable|"
    r"activated|lined|tested|accredited|licensed|endorsed)$"
)
_NO_FORM = read_words("no_features")
_HAS = re.compile(
    r"(?<![a-z])(?:includes|including|included are|comes with|come with|supplied with|delivered with|equipped with|fitted with|featuring|"
    r"boasts|built[- ]in|integrated|compatible with|works with|work with|suitable for use with|designed for use with|fits|supports|powered by|"
    r"made (?:with|from|of|in|by|for)|crafted (?:from|of|with|in)|with an?|contains|enriched with|infused with|tested (?:by|to)|approved by|"
    r"endorsed by|recommended by|winner of|certified by|certified to|complies with|meets)\s+(?P<what>[a-z0-9][^,.;:!?()\n]{0,60})"
)
_WHAT_ENDS = re.compile(
    r"\s(?:and|or|for|that|which|to|in|so|on|at|by|from|when|while|as|is|are|of your|of the)\s.*$"
)
_FREE_HEADS = read_words("no_parts")
_LIGHT = read_words("light_words")
_NOT_COUNTED = read_words("not_counted")
_CN_HAS = re.compile(
    rf"(?:支持|兼容|适配|适用于|内置|自带|配有|配备|附带|附赠|搭载|含有|富含|添加|具备|具有|通过|符合|获得|荣获|采用|选用|适合)(?P<what>[{CJK}a-z0-9 +.-]{{2,16}})"
)
_CN_FORM = re.compile(
    rf"(?<![预消国海边冬])(?:防|抗|耐|免)(?!止|晒霜|护|守|御|线|备|疫|范|费|得|税|身|心)[{CJK}]{{1,2}}"
)
_CN_FREE = re.compile(
    r"设计|风格|日常|家庭|各种|多种|多数|你|您|需要|生活|使用|这款|场景|送礼|人群|不同|一切|打造|大家|办公|家居|想要"
)
# Amounts in words that ``quantities`` does not read.
_UNCOUNTED = re.compile(
    r"(?<![a-z])(?:an?|one|two|half an?) (?:decade|century|dozen|litre|liter|pint|metre|meter|foot(?= (?:long|wide|tall|high|deep|of))|"
    r"kilo|kilogram|pound|gallon)s?(?![a-z])|(?<![a-z])(?:decades|centuries|overnight)(?![a-z])"
    r"|(?:[一二两三四五六七八九几]折|百年|千年|过万|上万|数万|上千|百余|两(?:年|月|周|天|米|升|斤|公斤|只|个|支|件|片|包|盒|瓶|套|倍)|双(?:倍|份)|一(?:年|升|斤|打))"
)


def term_findings(text: str, facts: RecordFacts) -> Iterator[Finding]:
    """Every listed word of a folded text."""
    for lexicon in lexicons():
        for term in lexicon.find(text):
            if not term.certain and not _names_product(text, term.end, facts):
                continue
            sign = polarity(text, term.start, term.end, term.kind)
            evidence = facts.terms.get((term.kind, term.canonical, sign))
            reason = {
                "": "it is not in the record",
                "not": "the record does not deny it",
                "look": "the record does not say so",
            }
            if evidence is None and not sign and (term.kind, term.canonical, "not") in facts.terms:
                reason[""] = "the record denies it"
            yield Finding(term.kind, term.start, term.end, evidence, reason[sign])


def _names_product(text: str, end: int, facts: RecordFacts) -> bool:
    """Whether a word that may be ordinary stands before a word of the product's name: a rose mug, a felt bag."""
    after = re.match(r"[\s-](?:[a-z]+[\s-])?([a-z]{3,})", text[end : end + 40])
    if after is None:
        return False
    known = facts.words.get(stem(after.group(1)))
    return known is not None and known.source in ("title", "category")


def form_findings(text: str, facts: RecordFacts, taken: list[tuple[int, int]]) -> Iterator[Finding]:
    """Superlatives, comparisons and features by the form of the words; ``taken`` spans were judged already."""
    for found in _EST.finditer(text):
        word = found.group()
        base = word.removesuffix("est")
        if word in _NO_EST or not _is_adjective(base):
            continue
        yield _spoken(ClaimKind.SUPERLATIVE, found, facts)
    for pattern in (_MOST, _MORE_THAN):
        for found in pattern.finditer(text):
            yield _spoken(ClaimKind.SUPERLATIVE, found, facts)
    for found in _FORM.finditer(text):
        if found.group() in _NO_FORM or (found.group().split()[-1] in _NO_FORM and " " in found.group()):
            continue
        if _free(found.span(), taken) and _FORM_END.search(found.group()):
            yield _form(found, facts)
    for found in _HAS.finditer(text):
        yield from _had(found, facts, taken)
    for found in _CN_FORM.finditer(text):
        if _free(found.span(), taken):
            evidence = facts.literal(found.group()[:2]) or facts.literal(found.group())
            yield Finding(ClaimKind.FEATURE, *found.span(), evidence, "it is not in the record")
    for found in _UNCOUNTED.finditer(text):
        if _free(found.span(), taken):
            yield Finding(
                ClaimKind.NUMBER, *found.span(), facts.literal(found.group()), "it is not in the record"
            )
    for found in _CN_HAS.finditer(text):
        yield from _chinese_had(found, facts, taken)


def _is_adjective(base: str) -> bool:
    words = common_words()
    return bool(
        base in words or base + "e" in words or (base.endswith("i") and base[:-1] + "y" in words)
        or (len(base) > 2 and base[-1] == base[-2] and base[:-1] in words)
    )  # fmt: skip


def _spoken(kind: ClaimKind, found: re.Match[str], facts: RecordFacts) -> Finding:
    evidence = facts.literal(found.group().removeprefix("the "))
    return Finding(kind, *found.span(), evidence, "the record does not say so in these words")


def _form(found: re.Match[str], facts: RecordFacts) -> Finding:
    said = found.group()
    evidence = (
        facts.literal(said)
        or facts.literal(said.replace("-", " "))
        or facts.literal(said.replace(" ", "-"))
        or facts.words.get(re.sub(r"[- ]", "", said))
    )
    if evidence is None and " " in said:  # "a water resistant", "is waterproof"
        evidence = facts.says(said.split(" ")[-1]) if said.split(" ")[-1] not in _NO_FORM else None
    if evidence is not None and _denied(evidence, said):
        evidence = None
    return Finding(ClaimKind.FEATURE, *found.span(), evidence, "it is not in the record")


def _denied(evidence: Evidence, said: str) -> bool:
    low = evidence.quote.lower()
    return low.startswith(("not ", "non", "no ")) and not said.startswith(("not ", "non", "no "))


def _had(found: re.Match[str], facts: RecordFacts, taken: list[tuple[int, int]]) -> Iterator[Finding]:
    what = _WHAT_ENDS.sub("", found.group("what") + " ").rstrip()
    words = [word for word in WORD.findall(what) if word not in _LIGHT | _NOT_COUNTED]
    words = [word for word in words if not word.isdigit() and word not in units()[1]][:5]
    if not words or any(char.isdigit() for char in words[-1]) or words[0] in ("mind",):
        return
    start = found.start("what")
    end = start + len(what)
    known = [facts.says(word) for word in words]
    head = known[-1]
    if words[-1] in _FREE_HEADS and head is None:
        return
    if head is None or sum(one is None for one in known) > len(known) / 2:
        yield Finding(ClaimKind.FEATURE, found.start(), end, None, "the record does not say so")
    elif _free((start, end), taken):
        yield Finding(ClaimKind.FEATURE, start, end, head)


def _chinese_had(found: re.Match[str], facts: RecordFacts, taken: list[tuple[int, int]]) -> Iterator[Finding]:
    what = found.group("what").strip()
    start = found.start("what")
    if _CN_FREE.search(what) or not _free((start, start + 2), taken):
        return
    run = re.match(f"[{CJK}]+", what)
    if run is None:
        return
    grams = [run.group()[at : at + 2] for at in range(len(run.group()) - 1)] or [run.group()]
    known = [gram for gram in grams if gram in facts.grams]
    evidence = facts.literal(known[0]) if known else facts.literal(run.group())
    if evidence is None or (len(grams) > 2 and len(known) < len(grams) / 3):
        yield Finding(ClaimKind.FEATURE, found.start(), start + len(what), None, "the record does not say so")
    else:
        yield Finding(ClaimKind.FEATURE, start, start + len(what), evidence)


def _free(span: tuple[int, int], taken: list[tuple[int, int]]) -> bool:
    return not any(start < span[1] and span[0] < end for start, end in taken)
