"""What of a record a template can tell: a short name, attributes with labels, parts of the title, whole sentences of its description.

Everything comes from what the record may be believed in (``record.RecordFacts.places``) and is held against the rules one by
one; what does not pass is not told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from server.copy_domain import ClaimKind, CopyRequest, Language, count_words
from server.pipelines.product_copy import template_phrases as phrases
from server.pipelines.product_copy.checker import RecordChecker
from server.pipelines.product_copy.folding import CJK, HAS_CJK, fold
from server.pipelines.product_copy.lexicon import lexicons
from server.pipelines.product_copy.naming import (
    category_end,
    only_coded,
    only_packed,
    same_head,
    short_name,
)
from server.pipelines.product_copy.noun_phrases import SLASHED, joined_lists
from server.pipelines.product_copy.record import WORD
from server.pipelines.product_copy.sentences import capital, has_verb, sentences

_CUT = re.compile(
    r",\s+(?=\S)|\s[-–—|·•/]+\s|\s?[|｜]\s?|[，；]|;\s+|:\s+(?=\D)|：|\s[(\[{]|[（【]|[)\]}）】]\s?|\s(?=\d+\s?(?:pack|count|pk|ct)\b)",
    re.I,
)
_UNIT_LABEL = re.compile(r"(\S.*) (months|years|days|hours|minutes)|(\S+)月数")
_LATIN = re.compile(r"[A-Za-z0-9%]")
_ASIDE = re.compile(r"\s\(([^()]{1,60})\)(?=\s+[A-Za-z]{2})")
_MARKS = re.compile(r"\((?:R|TM|C)\)|[®™©]")
_FIRM = re.compile(r",\s(?:inc|llc|ltd|co|corp)\b\.?(?=\s\w)", re.I)
_PACKED = re.compile(r"(\d{1,4})[- ]?(?:pack|count|ct|pcs|pieces|pk|per pack)", re.I)
_LIST_EDGE = re.compile(r"^\W*['\"]+|['\"]+\W*$")
_NOISE = re.compile(r"[\[\]{}<>|\\^~_=*#@]|\.{3}|\?\?|!!|\uFFFD|\bundefined\b|\bnull\b|\bnan\b", re.I)
_SPEAKS = re.compile(
    r"\b(?:we|our|ours|us|my|i|i'm|me|please|click|visit|contact|customer|customers|seller|store|shipping|refund|return|returns|note|notice|"
    r"warning|attention|disclaimer|amazon|ebay|listing|see (?:image|photo|picture)|item may|may vary|colors may|copyright|trademark\w*|"
    r"manufacturer's|sold by|search|email|phone|tm|buy|today|http|this item|package includes?|what's in the box|youre|dont|wont|cant|doesnt|isnt|thats)\b|^\w+(?:\s\w+)?:\s|[?]|微信|客服|退换|亲们|联系",
    re.I,
)
VERB_FIRST = re.compile(
    r"(?:is|has|can|keeps|holds|fits|folds|stays|comes|works|stands|runs|shuts|stops|turns|opens|closes|locks|glides|peels|prints|dries|"
    r"attaches|rotates|reclines|washes|packs|sets|suits|leaves|absorbs|shrugs|survives|pairs|goes|stacks|ages|heats|makes|does|rolls|wipes|"
    r"lies|arrives)\s"
)
_MOST_SENTENCES, _MOST_ATTRIBUTES, _MOST_PARTS = 60, 12, 8


@dataclass(frozen=True, slots=True)
class Fact:
    """One attribute: its label as copy shows it, its value, and what it is ("colour", "material", "feature" or "")."""

    label: str
    value: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What can be told.

    Attributes:
        title: the believed title, tidied; empty if there is none.
        name: its first part.
        brand: or empty; ``named`` says whether the name has it.
        kind: last part of the category, or empty.
        parts: further parts of the title.
        facts: attributes.
        told: sentences of the description.
        price, audience: or empty.
    """

    title: str
    name: str
    brand: str
    kind: str
    named: bool
    parts: tuple[str, ...]
    facts: tuple[Fact, ...]
    told: tuple[str, ...]
    price: str
    audience: str


def read_facts(request: CopyRequest, check: RecordChecker) -> TemplateFacts:
    """Read what can be told of a product in the language that is asked for."""
    believed = {place.name: place.text for place in check.facts.places}
    title = tidy(believed.get("title", ""))
    brand = tidy(believed.get("brand", ""))[:60]
    if not (
        brand
        and speakable(brand)
        and check.good("headline", brand)
        and check.good(
            "description", filled(phrases.MADE_BY[request.language][0], request.language, brand=brand)
        )
    ):
        brand = ""
    title = _MARKS.sub("", title)
    plain = _ASIDE.sub(
        "", SLASHED.sub("/", _FIRM.sub("", title))
    )  # "HP 83A (CF283A) Toner": the name goes on behind it
    asides = [found.group(1) for found in _ASIDE.finditer(title)]
    chunks = joined_lists([chunk for chunk in map(tidy, (*_CUT.split(plain), *asides)) if chunk])
    kind = category_end(tidy(believed.get("category", "")))
    name = _name(chunks, brand, kind, check)
    parts = tuple(_parts(request, chunks, name, believed, check))
    return TemplateFacts(
        title=title if speakable(title) else name,
        name=name,
        brand=brand,
        kind=kind,
        named=bool(brand) and fold(brand) in fold(name),
        parts=parts,
        facts=tuple(_attributes(request.language, believed, check)),
        told=tuple(_told(request, believed.get("description", ""), title, check)),
        price=_price(request, check),
        audience=_audience(request, check),
    )


def tidy(text: str) -> str:
    """Text on one line, without marks at its ends and marks that repeat."""
    text = re.sub(r"([!?.,;:*~=#_-])\1+", r"\1", " ".join(text.split()))
    text = re.sub(r"\s+([,;:.!?])", r"\1", text)
    if text.count("(") != text.count(")"):
        text = " ".join(text.replace("(", " ").replace(")", " ").split())
    return text.strip(" ,;:|/-–—*~_=#!?。，；：、'`^+<>\\").removesuffix(".").strip()


def speakable(text: str) -> bool:
    """Whether a text has words."""
    return len(re.findall(rf"[A-Za-z{CJK}]", text)) >= 2 and len(text) <= 400


def filled(phrase: str, language: Language, **values: str) -> str:
    """A phrase with its places filled; in Chinese with a space where a character and a Latin word or number meet, and only there."""
    if language is Language.EN:
        return phrase.format(**values)
    shown = ""
    for piece in re.split(r"(\{\w+\})", phrase):
        place = piece.startswith("{") and piece.endswith("}")
        text = values[piece[1:-1]] if place else piece.strip()
        meet = bool(shown and text) and (_LATIN.match(shown[-1]), _LATIN.match(text[0]))
        if meet and any(meet) and (all(meet) or HAS_CJK.search(shown[-1] + text[0])):
            shown += " "
        shown += text
    return shown


def _name(chunks: list[str], brand: str, kind: str, check: RecordChecker) -> str:
    def good(shown: str) -> bool:
        return speakable(shown) and check.good("headline", shown) and check.good("description", f"{shown}.")

    for at, chunk in enumerate(chunks[:4]):
        words = count_words(chunk)
        joined = chunk
        if at == 0 and len(chunks) > 1 and (words < 2 or fold(chunk) == fold(brand)):
            joined = f"{chunk}{'' if HAS_CJK.search(chunk) else ' '}{chunks[1]}"
        elif at == 0 and len(chunks) > 1 and only_coded(chunk, brand, chunks[1]):
            joined = f"{chunk} {chunks[1]}"
        if _NOISE.search(joined):  # "Envelopes #10": the code goes, the thing stays
            joined = tidy(" ".join(word for word in joined.split() if not _NOISE.search(word)))
        if not speakable(joined) or (at + 1 < len(chunks) and only_packed(joined)):
            continue
        joined = calm(joined)
        if len(joined) <= 90 and count_words(joined) <= 40 and good(joined):
            return joined
        most = 40 if HAS_CJK.search(joined) else 12
        short = short_name(joined, brand, "", chars=80, words=most, good=good)
        if short and short != brand:
            return short
        left = (
            check.without("headline", joined, check.claims("headline", joined)) if len(joined) <= 90 else ""
        )
        if left and good(left) and same_head(left, joined):
            return left
    return next(
        (
            shown
            for shown in (f"{brand} {kind}" if brand and kind else "", brand, kind)
            if shown and good(shown)
        ),
        "",
    )


def calm(text: str) -> str:
    """A text that shouts, in ordinary capitals; codes and short names stay."""
    words = text.split(" ")
    loud = [word for word in words if len(word) > 3 and word.isalpha() and word.isupper()]
    if len(loud) < 3 or len(loud) < len(words) / 2:
        return text
    return " ".join(
        word.capitalize() if word.isalpha() and word.isupper() and len(word) > 3 else word for word in words
    )


def _parts(
    request: CopyRequest, chunks: list[str], name: str, believed: dict[str, str], check: RecordChecker
) -> Iterator[str]:
    seen = [fold(name)]
    wanted = [keyword.strip() for keyword in request.keywords if _borne_out(keyword, check)]
    for chunk in [*wanted, *chunks][: _MOST_PARTS + 6]:
        low = fold(chunk)
        if any(low in one or one in low for one in seen if one) or not 1 <= count_words(chunk) <= 6:
            continue
        if (
            not speakable(chunk)
            or _NOISE.search(chunk)
            or re.fullmatch(r"[A-Z0-9#/.-]*\d[A-Z0-9#/. -]*", chunk)
        ):
            continue
        if check.good("headline", chunk) and check.good("description", f"Details: {chunk}."):
            seen.append(low)
            yield _in_language(chunk, request.language, check)


def _in_language(part: str, language: Language, check: RecordChecker) -> str:
    """A part of a title, or what is the same in Chinese: a colour, a material, how many there are."""
    if language is not Language.ZH:
        return part
    packed = _PACKED.fullmatch(part)
    shown = f"{packed.group(1)} 件装" if packed else _translated(part, language)
    return shown if check.good("description", f"规格：{shown}。") else part


def _borne_out(keyword: str, check: RecordChecker) -> bool:
    words = WORD.findall(fold(keyword))
    said = bool(words) and all(check.facts.says(word) for word in words)
    return said or (
        HAS_CJK.search(keyword) is not None and check.facts.literal(fold(keyword.strip())) is not None
    )


def _attributes(language: Language, believed: dict[str, str], check: RecordChecker) -> Iterator[Fact]:
    count = 0
    for place, text in believed.items():
        if not place.startswith("attributes.") or count >= _MOST_ATTRIBUTES:
            continue
        name = tidy(place.removeprefix("attributes.").replace("_", " "))
        low = name.lower()
        label = name[:1].upper() + name[1:]
        if language is Language.ZH and not HAS_CJK.search(label):
            label = phrases.LABELS_ZH.get(low, "")
        if language is Language.EN and HAS_CJK.search(label):
            label = ""
        kind = (
            "colour" if low in phrases.COLOUR_NAMES else "material" if low in phrases.MATERIAL_NAMES else ""
        )
        kind = "feature" if low in phrases.FEATURE_NAMES else kind
        values = [tidy(value) for value in text.split(";")] if kind == "feature" else [tidy(text)]
        for value in values:
            value = _translated(value, language)
            if (
                not value
                or len(value) > 80
                or _NOISE.search(value)
                or not re.search(rf"[A-Za-z0-9{CJK}]", value)
            ):
                continue
            if not kind and (not label or len(label) > 40 or low.startswith("not ")):
                continue
            unit = _UNIT_LABEL.fullmatch(label)
            if unit and value.isdigit():  # "warranty_months: 24"
                label, value = unit.group(1) or unit.group(3), f"{value} {unit.group(2) or '个月'}"
            if low == fold(value):  # "waterproof: yes"
                value = label
            shown = value if kind == "feature" or label == value else f"{label}: {value}"
            if language is Language.EN and HAS_CJK.search(value):
                continue
            if check.good("bullets[0]", capital(shown)) and check.good("description", f"{shown}."):
                count += 1
                yield Fact(label, value, "feature" if label == value else kind)


def _translated(value: str, language: Language) -> str:
    """A colour or a material in the copy's language, where a list knows the word."""
    if language is not Language.ZH or HAS_CJK.search(value) or not value:
        return value
    low = fold(value)
    for lexicon in lexicons()[:2]:
        for term in lexicon.find(low):
            if term.start == 0 and term.end == len(low):
                return lexicon.chinese.get(term.canonical, value)
    return value


def _told(request: CopyRequest, text: str, title: str, check: RecordChecker) -> Iterator[str]:
    chinese = request.language is Language.ZH
    words_of_title = set(WORD.findall(fold(title)))
    seen: set[str] = set()
    found = []
    for start, end in sentences(text[:6000])[:_MOST_SENTENCES]:
        sentence = _LIST_EDGE.sub("", text[start:end]).strip()
        if not 25 <= len(sentence) * (3 if chinese else 1) <= 260 or sentence[-1] not in ".!。！":
            continue
        if bool(HAS_CJK.search(sentence)) != chinese or _NOISE.search(sentence) or _SPEAKS.search(sentence):
            continue
        if not chinese and not (re.match(r"[A-Z]", sentence) and has_verb(sentence) and sentence.isascii()):
            continue
        words = set(WORD.findall(fold(sentence)))
        new = len(words - words_of_title)
        if not chinese and (len(words) < 4 or new < 3 or new < 0.4 * len(words)):
            continue
        if (
            re.match(r"(?:but|and|however|also|so|or|then|because|which|that|they|he|she)\b", sentence, re.I)
            or fold(sentence) in seen
        ):
            continue
        if sentence.count("(") != sentence.count(")") or re.search(
            r'--|\s\d\.$|(?<!\d)"(?:s\b|\w)', sentence
        ):
            continue
        if sum(char.isupper() for char in sentence) > 0.3 * len(sentence):
            continue
        seen.add(fold(sentence))
        found.append(sentence)
    wanted = [fold(keyword.strip()) for keyword in request.keywords if keyword.strip()]
    found.sort(key=lambda sentence: -sum(word in fold(sentence) for word in wanted))
    good = 0
    for sentence in found[:16]:
        claims = check.claims("description", sentence)
        # a superlative may stand in a record, and a model may repeat it; the floor does not boast
        if all(claim.source is not None and claim.kind is not ClaimKind.SUPERLATIVE for claim in claims):
            good += 1
            yield sentence
        if good >= 6:
            return


def _price(request: CopyRequest, check: RecordChecker) -> str:
    price, currency = request.product.price, request.product.currency.strip()
    if price is None or not math.isfinite(price) or not 0 < price < 1e9:
        return ""
    shown = f"{price:.2f} {currency}".strip() if re.fullmatch(r"[A-Z]{3}|", currency) else f"{price:.2f}"
    if request.language is Language.ZH and currency == "CNY":
        shown = f"{price:.2f}".removesuffix(".00") + " 元"
    label = phrases.PRICE_LABEL[request.language]
    joint = "：" if request.language is Language.ZH else ": "
    return shown if check.good("description", f"{label}{joint}{shown}.") else ""


def _audience(request: CopyRequest, check: RecordChecker) -> str:
    audience = tidy(request.audience)
    if not audience or len(audience) > 60 or not speakable(audience) or _NOISE.search(audience):
        return ""
    if (HAS_CJK.search(audience) is not None) != (request.language is Language.ZH):
        return ""
    return audience if check.good("description", f"For {audience}.") else ""
