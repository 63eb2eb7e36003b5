"""What the sample shop knows of a product, in one language, and the records it may be told in.

Copy is written from ``Facts`` that a record shows and from nothing else: that is what makes every sentence of the corpus
true of its record. ``told_plainly`` gives the catalogue's own row. ``told_otherwise`` changes names, numbers and
prices and leaves facts out, so that a model which learns from it has to read the record instead of knowing the shop.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from build_engines.data import copy_words
from build_engines.data import sample_text_en as en
from build_engines.data import sample_text_zh as zh
from server.copy_domain import Language, ProductRecord, Value
from server.pipelines.product_copy.prompt import record_from_mapping

CURRENCIES = ("USD", "EUR", "GBP", "CNY")
WARRANTIES = (3, 6, 12, 18, 24, 36, 48, 60)
_KIND = {Language.EN: "subcategory", Language.ZH: "品类"}
_MATERIAL = {Language.EN: "material", Language.ZH: "材质"}
_COLOUR = {Language.EN: "colour", Language.ZH: "颜色"}
_FEATURES = {Language.EN: "features", Language.ZH: "特点"}
_WARRANTY = {Language.EN: "warranty_months", Language.ZH: "质保月数"}
_NAMED = tuple({language: names[language] for language in Language} for names in (_KIND, _MATERIAL, _COLOUR))
_STARTS = (
    "B",
    "Br",
    "C",
    "D",
    "Dr",
    "F",
    "G",
    "H",
    "J",
    "K",
    "L",
    "M",
    "N",
    "P",
    "Qu",
    "R",
    "S",
    "St",
    "T",
    "V",
    "W",
    "Z",
)
_MIDDLES = ("a", "e", "i", "o", "u", "ar", "el", "in", "on", "or", "al", "en", "ay", "ee", "ou")
_ENDS = (
    "vane",
    "lo",
    "rix",
    "dale",
    "mer",
    "ton",
    "sa",
    "ko",
    "net",
    "by",
    "gart",
    "lund",
    "tec",
    "via",
    "nor",
    "ster",
    "mo",
    "x",
)
# Further facts that a shop may keep: a name in each language, and what its values look like.
EXTRAS = (
    ("model", "型号", "code"), ("pack_size", "件数", "count"), ("width", "宽度", "cm"), ("depth", "深度", "mm"),
    ("net_weight", "净重", "g"), ("cable_length", "线长", "m"), ("series", "系列", "name"), ("set_of", "套装数量", "count"),
    ("voltage", "电压", "V"), ("item_number", "货号", "code"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One product in one language; a fact that its record does not show is empty.

    Attributes:
        language: of every text here.
        brand, line: of its name ("Brimora", "Aria 2").
        kind: what it is ("Camera Lens").
        colour, material, category: as words.
        label, size: what its size is called, and the size ("Capacity", "64 GB").
        features: what it does, after "It" in English.
        warranty: months, as digits.
        price: amount and currency, as the prompt writes them.
        extras: further names and values.
        item_id: of the catalogue.
    """

    language: Language
    brand: str
    line: str
    kind: str
    colour: str = ""
    material: str = ""
    category: str = ""
    label: str = ""
    size: str = ""
    features: tuple[str, ...] = ()
    warranty: str = ""
    price: str = ""
    extras: tuple[tuple[str, str], ...] = ()
    item_id: str = ""

    @property
    def name(self) -> str:
        """Brand and line."""
        return f"{self.brand} {self.line}".strip()


def facts_of(row: Mapping[str, Any], language: Language) -> Facts:
    """The facts of a row of the sample shop's catalogue."""
    suffix = "_zh" if language is Language.ZH else ""
    attributes = row[f"attributes{suffix}"]
    kind = str(attributes[_KIND[language]])
    known = {names[language] for names in (_KIND, _MATERIAL, _COLOUR, _FEATURES, _WARRANTY)}
    key, size = next((name, value) for name, value in attributes.items() if name not in known)
    head = str(row[f"title{suffix}"]).split(f" {kind}")[0]
    return Facts(
        language=language,
        brand=row["brand"],
        line=head.removeprefix(row["brand"]).strip(),
        kind=kind,
        colour=attributes[_COLOUR[language]],
        material=attributes[_MATERIAL[language]],
        category=row[f"category{suffix}"],
        label=str(key).replace("_", " ").capitalize(),
        size=str(size),
        features=tuple(attributes[_FEATURES[language]]),
        warranty=str(attributes[_WARRANTY[language]]),
        price=f"{row['price']:.2f}",
        item_id=row["item_id"],
    )


def told_plainly(row: Mapping[str, Any], language: Language) -> tuple[ProductRecord, Facts]:
    """The catalogue's own record, and its facts."""
    return record_from_mapping(row, suffix="_zh" if language is Language.ZH else ""), facts_of(row, language)


def told_otherwise(facts: Facts, chance: random.Random) -> tuple[ProductRecord, Facts]:
    """A record of a product like this one under other names and numbers, with gaps, and the facts that it shows."""
    other = _renamed(facts, chance)
    hidden = {
        name: type(getattr(other, name))()
        for name, share in (("brand", 0.08), ("colour", 0.15), ("material", 0.15), ("category", 0.15), ("size", 0.12), ("features", 0.15),
                            ("warranty", 0.3), ("price", 0.25))
        if chance.random() < share
    }  # fmt: skip
    shown = replace(other, **hidden)
    if chance.random() < 0.3:
        shown = replace(shown, features=shown.features[:1])
    return _record(shown, chance), shown


def invented_name(chance: random.Random) -> str:
    """A name that no list has."""
    name = chance.choice(_STARTS) + chance.choice(_MIDDLES) + chance.choice(_ENDS)
    style = chance.random()
    if style < 0.08:
        return name.upper()
    if style < 0.2:
        return name + chance.choice(_MIDDLES) + chance.choice(_ENDS)
    if style < 0.26:
        return name + chance.choice(_STARTS) + chance.choice(_MIDDLES) + chance.choice(_ENDS)
    if style < 0.32:
        return f"{name} {chance.choice(('&', 'and'))} {chance.choice(_STARTS)}{chance.choice(_MIDDLES)}{chance.choice(_ENDS)}"
    return name


def _renamed(facts: Facts, chance: random.Random) -> Facts:
    changes: dict[str, Any] = {}
    if chance.random() < 0.75:
        changes["brand"] = invented_name(chance)
    if chance.random() < 0.6:
        line = chance.choice((invented_name(chance), facts.line, _code(chance), _long_line(chance)))
        changes["line"] = f"{line} {chance.randint(2, 900)}" if chance.random() < 0.2 else line
    if chance.random() < 0.5:
        changes["size"] = _other_number(facts.size, chance)
    words = {"kind": copy_words.KINDS, "colour": copy_words.COLOURS, "material": copy_words.MATERIALS}
    for name, known in words.items():
        if chance.random() < 0.4:
            changes[name] = chance.choice(known[facts.language])
    if chance.random() < 0.4:
        changes["features"] = tuple(
            chance.sample(copy_words.FEATURES[facts.language], chance.choice((1, 2, 2, 3)))
        )
    changes["warranty"] = str(chance.choice(WARRANTIES))
    amount = round(chance.uniform(1, 30) ** 2.2, 2)
    changes["price"] = f"{amount:.2f} {chance.choice(CURRENCIES) if chance.random() < 0.5 else ''}".strip()
    count = chance.choice((0, 0, 1, 1, 2, 3))
    place = 1 if facts.language is Language.ZH else 0
    changes["extras"] = tuple((one[place], _value(one[2], chance)) for one in chance.sample(EXTRAS, count))
    return replace(facts, **changes)


def _record(facts: Facts, chance: random.Random) -> ProductRecord:
    chinese = facts.language is Language.ZH
    attributes: dict[str, Value] = {}
    pairs: list[tuple[str, Value]] = []
    for names, value in zip(_NAMED, (facts.kind, facts.material, facts.colour), strict=True):
        if value and (names is not _KIND or chance.random() < 0.7):
            pairs.append((names[facts.language], value))
    if facts.size:
        pairs.append((facts.label if chinese else facts.label.lower().replace(" ", "_"), facts.size))
    if facts.features:
        pairs.append((_FEATURES[facts.language], facts.features))
    if facts.warranty:
        pairs.append((_WARRANTY[facts.language], int(facts.warranty)))
    pairs += facts.extras
    if chance.random() < 0.5:
        chance.shuffle(pairs)
    attributes.update(pairs)
    title = [facts.name if chance.random() < 0.9 else facts.line, facts.kind]
    tail = [part for part in (facts.colour, facts.size, facts.material) if part and chance.random() < 0.45]
    joined = " ".join(title) + "".join(f" {part}" if chinese else f", {part}" for part in tail)
    amount, _, currency = facts.price.partition(" ")
    return ProductRecord(
        title=joined,
        brand=facts.brand,
        category=facts.category,
        attributes=attributes,
        price=float(amount) if amount else None,
        currency=currency,
        description=_description(facts, chance) if chance.random() < 0.45 else "",
    )


def _description(facts: Facts, chance: random.Random) -> str:
    if not (facts.colour and facts.material and facts.features and facts.size):
        return ""
    if facts.language is Language.ZH:
        text = (
            f"{facts.name} {facts.kind}，{facts.colour}，选用{facts.material}。{'，'.join(facts.features)}。"
        )
        return text + (f"{facts.label}：{facts.size}。" if chance.random() < 0.5 else "")
    text = f"{facts.name}, {facts.kind.lower()}. Made with {facts.material}, in {facts.colour}. It {' and '.join(facts.features)}."
    return text + (f" {facts.label}: {facts.size}." if chance.random() < 0.5 else "")


def _other_number(size: str, chance: random.Random) -> str:
    number, space, unit = size.partition(" ")
    if number == "EU":
        return f"EU {chance.randint(35, 48)}"
    try:
        value = float(number)
    except ValueError:
        return size
    new = value * chance.choice((0.5, 0.8, 1.1, 1.5, 2, 3, 4)) + chance.randint(0, 9)
    digits = f"{new:.1f}" if "." in number else str(max(1, round(new)))
    return f"{digits}{space}{unit}"


def _long_line(chance: random.Random) -> str:
    return " ".join(chance.choice((invented_name, _code))(chance) for _ in range(chance.randint(2, 3)))


def _code(chance: random.Random) -> str:
    letters = "".join(chance.choice("ABCDEFGHKLMNPRSTVWXZ") for _ in range(chance.randint(1, 3)))
    return f"{letters}{chance.choice(('-', '', ' '))}{chance.randint(2, 9999)}"


def _value(form: str, chance: random.Random) -> str:
    if form == "code":
        return _code(chance)
    if form == "name":
        return invented_name(chance)
    number = str(chance.choice((2, 3, 4, 5, 6, 8, 10, 12, 20, 24, 48, 50, 100, chance.randint(2, 400))))
    return number if form == "count" else f"{number} {form}"


KNOWN_WORDS: Mapping[Language, Mapping[str, frozenset[str]]] = {
    language: {
        "colour": frozenset((*text.COLOUR.values(), *copy_words.COLOURS[language])),
        "material": frozenset((*text.MATERIAL.values(), *copy_words.MATERIALS[language])),
        "kind": frozenset((*text.KIND.values(), *copy_words.KINDS[language])),
        "feature": frozenset(
            (
                *(one for features in text.FEATURES.values() for one in features),
                *copy_words.FEATURES[language],
            )
        ),
    }
    for language, text in ((Language.EN, en), (Language.ZH, zh))
}  # what the shop may say of a product at all: the corpus is held against it
