"""A product record read for facts: where each number, listed word and name of it stands.

Read once for all texts about the product. Only what may be believed is read (see ``instructions``); what may not is kept as
words that must not come through. Long fields are read up to a limit: what lies behind proves nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from server.copy_domain import ClaimKind, ProductRecord
from server.pipelines.product_copy.folding import CJK, Folded, folded, stem, visible
from server.pipelines.product_copy.instructions import CONTACT, believable
from server.pipelines.product_copy.lexicon import lexicons, product_lexicon
from server.pipelines.product_copy.prompt import value_text
from server.pipelines.product_copy.quantities import (
    BARE,
    Quantity,
    Reading,
    aspect_of_name,
    quantities,
    units,
)

_MOST_CHARS = {"title": 2_000, "description": 12_000}
_MOST_FIELD_CHARS, _MOST_ATTRIBUTES = 2_000, 100
_MARKUP = re.compile(
    r"<!--.{0,2000}?-->|<(?:style|script)\b.{0,4000}?</(?:style|script)>|</?[a-zA-Z][^<>]{0,300}>", re.S
)
_ROLES = re.compile(
    r"</?\s?(?:system|assistant|developer|user|record|instructions?|prompt|data|context)\b[^<>]{0,100}>", re.I
)
WORD = re.compile(r"[a-z0-9]+(?:['.&/-][a-z0-9]+)*")
_CJK_RUN = re.compile(f"[{CJK}]{{2,}}")
_YES, _NO = (
    frozenset(["yes", "true", "y", "是", "有", "支持"]),
    frozenset(("no", "false", "n", "none", "n/a", "not", "否", "无", "不支持", "没有")),
)
_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|no|non|without|never|neither|nor|isn't|aren't|doesn't|don't|lacks?|excludes?|excluding|except|minus|zero)\b|\bfree (?:of|from)\b)"
    r"[\s-]?(?:(?:a|an|any|fully|entirely|the|100%|completely|really|actually|contain|contains|containing|added|made of|made from|made with|include|includes|suitable for|for)\s){0,2}$"
    r"|(?:不是|不含|并非|没有|不会|不能|不可|不|非|无|未|勿|免|忌)$"
)
_NOT_AFTER = re.compile(
    r"[\s-]?(?:free|less)\b|\s(?:not included|sold separately|not supplied)\b|(?:另购|需另购|不含|除外)"
)
_LOOK_AFTER = re.compile(
    r"[\s-](?:look|looking|effect|like|style|grain|grained|finish|print|printed|tone|toned|scented|scent|flavou?r|flavou?red|texture|"
    r"colou?r|colou?red|inspired|pattern|imitation)\b|(?:纹|色|味|风格|质感|效果|香)"
)
_LOOK_BEFORE = re.compile(
    r"\b(?:faux|fake|imitation|artificial|simulated|synthetic|mock)[\s-]$|(?:仿|假|人造)$"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A place in the record, and what stands there."""

    source: str
    quote: str


@dataclass(frozen=True, slots=True)
class RecordNumber:
    """A quantity of the record, with what its surroundings say it counts."""

    evidence: Evidence
    quantity: Quantity
    context: frozenset[str]
    counted: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A field: its name, its text, and the text folded."""

    name: str
    text: str
    folded: Folded

    def evidence(self, start: int, end: int) -> Evidence:
        """What stands at a span of the folded text."""
        first, last = self.folded.span(start, end)
        return Evidence(self.name, self.text[first:last])


@dataclass(slots=True)
class RecordFacts:
    """What a record says.

    Attributes:
        product: the record.
        places: its fields, most telling first, as far as they are believed.
        numbers: all of its numbers.
        products: what it calls the thing, and what is broader, by canonical name.
        terms: listed words by kind, canonical name and polarity.
        words: stems of its words; ``grams`` are the pairs of its Chinese characters.
        brand_words: stems of the brand's words.
        foul: words and pairs of characters that stand only in what is not believed.
    """

    product: ProductRecord
    places: tuple[Place, ...] = ()
    numbers: list[RecordNumber] = field(default_factory=list)
    terms: dict[tuple[ClaimKind, str, str], Evidence] = field(default_factory=dict)
    words: dict[str, Evidence] = field(default_factory=dict)
    grams: set[str] = field(default_factory=set)
    products: dict[str, Evidence] = field(default_factory=dict)
    brand_words: frozenset[str] = frozenset()
    foul: frozenset[str] = frozenset()

    def literal(self, phrase: str) -> Evidence | None:
        """Where a folded phrase stands word for word."""
        for place in self.places:
            at = place.folded.text.find(phrase)
            if at >= 0:
                return place.evidence(at, at + len(phrase))
        return None

    def says(self, word: str) -> Evidence | None:
        """Where a word stands, in whatever number, whole or as a part of a compound."""
        return self.words.get(stem(word)) or self.words.get(word.replace("-", "").replace("'", ""))


def polarity(text: str, start: int, end: int, kind: ClaimKind) -> str:
    """How a listed word is meant: "" as it says, "not" denied, "look" only looking like it."""
    before = text[max(0, start - 28) : start]
    if _NOT_BEFORE.search(before) or _NOT_AFTER.match(text, end):
        return "not"
    if kind is ClaimKind.MATERIAL and (_LOOK_BEFORE.search(before) or _LOOK_AFTER.match(text, end)):
        return "look"
    return ""


def clean(text: str, most_chars: int) -> str:
    """A field without markup and invisible characters, up to a length."""
    text = text[: 4 * most_chars]
    if "<" in text or "&" in text:
        text = _ROLES.sub(" system: ", html.unescape(text))  # no markup of a page: it is meant for a model
        text = html.unescape(_MARKUP.sub(" ", text))
    text = text.encode("utf-8", "replace").decode("utf-8")
    lines = (visible(line) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)[:most_chars]


def read_record(product: ProductRecord) -> RecordFacts:
    """Read a record."""
    facts = RecordFacts(product)
    places, doubted = [], []
    for name, text in _fields(product):
        text = clean(text, _MOST_CHARS.get(name, _MOST_FIELD_CHARS))
        whole = folded(text)
        most = believable(whole.text)
        if most < len(whole.text):
            doubted.append(whole.text[most:])
            text = text[: whole.span(0, most)[1] if most else 0]
            whole = folded(text)
        if text.strip():
            places.append(Place(name, text, whole))
    facts.places = tuple(places)
    for place in places:
        _read_place(facts, place)
    facts.brand_words = frozenset(
        stem(word) for place in places if place.name == "brand" for word in _tokens(place.folded.text)
    )
    facts.foul = frozenset(_foul(facts, doubted))
    return facts


def _fields(product: ProductRecord) -> Iterator[tuple[str, str]]:
    for name, value in list(product.attributes.items())[:_MOST_ATTRIBUTES]:
        said = value_text(value)
        label = name.replace("_", " ")
        if isinstance(value, bool) or said.strip().casefold() in _YES | _NO:
            denied = value is False or said.strip().casefold() in _NO
            yield f"attributes.{name}", f"not {label}" if denied else label
        else:
            yield f"attributes.{name}", said
    yield "title", product.title
    yield "brand", product.brand
    yield "category", product.category
    yield "description", product.description


def _read_place(facts: RecordFacts, place: Place) -> None:
    text = place.folded.text
    name = (
        folded(place.name.removeprefix("attributes.").replace("_", " ")).text
        if place.name.startswith("attributes.")
        else ""
    )
    for quantity in quantities(text):
        facts.numbers.append(_number(place, quantity, name))
    for lexicon in lexicons():
        for term in lexicon.find(text):
            sign = polarity(text, term.start, term.end, term.kind)
            evidence = place.evidence(term.start, term.end)
            chain = (term.canonical,) if sign else lexicon.broader_than(term.canonical)
            for canonical in chain:
                facts.terms.setdefault((term.kind, canonical, sign), evidence)
    for product in product_lexicon().find(text):
        for canonical in product_lexicon().broader_than(product.canonical):
            facts.products.setdefault(canonical, place.evidence(product.start, product.end))
    for found in WORD.finditer(text):
        evidence = place.evidence(*found.span())
        for word in _forms(found.group()):
            facts.words.setdefault(word, evidence)
    for run in _CJK_RUN.finditer(text):
        facts.grams.update(_grams(run.group()))
    denied = (
        text.strip() in _NO or text.startswith("not ") or re.fullmatch(r"[0.,]+", text.strip()) is not None
    )
    for lexicon in lexicons():
        if not name or denied:
            continue
        for term in lexicon.find(
            name
        ):  # "warranty_months: 24" says that there is a warranty, "paper: 80 gsm" paper
            whole = (term.start, term.end) == (0, len(name)) and lexicon.kind is ClaimKind.MATERIAL
            if whole or lexicon.kind is ClaimKind.FEATURE:
                facts.terms.setdefault((term.kind, term.canonical, ""), Evidence(place.name, place.text[:80]))
    for found in WORD.finditer(name):
        facts.words.setdefault(stem(found.group()), Evidence(place.name, place.text[:80]))
    for run in _CJK_RUN.finditer(name):
        facts.grams.update(_grams(run.group()))


def _number(place: Place, quantity: Quantity, name: str) -> RecordNumber:
    text = place.folded.text
    near = text[max(0, quantity.start - 30) : quantity.end + 40]
    context = (
        {stem(word) for word in WORD.findall(near)}
        | {stem(word) for word in WORD.findall(name)}
        | set(quantity.nouns)
    )
    counted = bool(
        re.search(
            r"pack|count|qty|quantity|pieces?|number of|set of|件数|数量|片数|支数|个数|装量|规格", name
        )
        or (not name and re.search(r"\b(?:packs?|count|ct|pcs|pieces|pk|set|box|dozen|per)\b", near))
    )
    if name:
        quantity = _named(quantity, name)
    return RecordNumber(place.evidence(quantity.start, quantity.end), quantity, frozenset(context), counted)


def _named(quantity: Quantity, name: str) -> Quantity:
    """A number whose unit, or whose aspect, is its attribute's name: ``warranty_months: 24``."""
    readings = quantity.readings
    if not quantity.measured:
        bare = quantity.bare()
        for dimension, factor in _units_of_name(name):
            readings = (*readings, Reading(dimension, bare * factor, factor, factor))
    aspect = quantity.aspect or aspect_of_name(
        name, {reading.dimension for reading in readings} - {BARE} or {BARE}
    )
    return replace(quantity, readings=readings, aspect=aspect)


@lru_cache(maxsize=2048)
def _units_of_name(name: str) -> tuple[tuple[str, Fraction], ...]:
    _, table = units()
    last = re.split(r"[\s(_/]+", name.rstrip(") "))[-1]
    if last in table and (len(last) > 1 or last in "gw"):
        return tuple(table[last])
    for chinese, unit in (
        ("月数", "个月"),
        ("天数", "天"),
        ("年数", "年"),
        ("小时数", "小时"),
        ("克重", "克"),
        ("分钟数", "分钟"),
    ):
        if name.endswith(chinese):
            return tuple(table[unit])
    return ()


def _tokens(text: str) -> Iterator[str]:
    for found in WORD.finditer(text):
        yield from _forms(found.group())


def _forms(word: str) -> Iterator[str]:
    yield stem(word)
    parts = re.split(r"['.&/-]", word)
    if len(parts) > 1:
        yield "".join(parts)
        for part in parts:
            yield stem(part)


def _grams(run: str) -> Iterator[str]:
    for at in range(len(run) - 1):
        yield run[at : at + 2]


def _foul(facts: RecordFacts, doubted: list[str]) -> Iterator[str]:
    for text in doubted:
        for found in WORD.finditer(text):
            word = stem(found.group())
            if len(word) > 3 and word not in facts.words:
                yield word
        for run in _CJK_RUN.finditer(text):
            for gram in _grams(run.group()):
                if gram not in facts.grams:
                    yield gram
        yield from (found.group() for found in CONTACT.finditer(text))
