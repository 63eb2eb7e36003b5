"""What a copy tells as "label: value": the value is what the record's field of that label says, or of that label's kind.

Where the record has no such field, its title and description may still bear the value out, but only one that the label can
have: a material is named by a material, a weight is a mass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.claims_numbers import agree
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import CJK, HAS_CJK, stem
from server.pipelines.product_copy.lexicon import lexicon_of
from server.pipelines.product_copy.quantities import BARE, aspect_dimensions, quantities
from server.pipelines.product_copy.record import WORD, Place, RecordFacts

_TOLD = re.compile(
    rf"(?:^|(?<=[.!?;,。！？；，\n])\s?)(?P<label>[a-z][a-z_-]{{1,24}}(?: [a-z_-]{{2,24}}){{0,2}}|[{CJK}]{{2,6}})\s?[:：]\s?"
    r"(?P<value>[^,;!?。，；！？\n]{1,80}?)(?=[.](?:\s|$)|[,;!?。，；！？\n]|$)"
)
_KINDS = {
    ClaimKind.MATERIAL: re.compile(r"(?:.* )?materials?|made of|.*材质|.*材料|面料"),
    ClaimKind.COLOUR: re.compile(r"(?:.* )?colou?rs?|.*颜色"),
}
_SAID_SO = frozenset(
    ["yes", "no", "true", "false", "none", "included", "是", "否", "有", "无", "支持", "不支持"]
)


def label_findings(text: str, facts: RecordFacts) -> Iterator[Finding]:
    """Every "label: value" of a folded text whose value is not that label's."""
    for found in _TOLD.finditer(text):
        label, value = found.group("label").replace("_", " "), found.group("value").strip()
        fields = _fields(label, facts)
        if fields and value not in _SAID_SO:
            if not any(_in_field(value, field, facts) for field in fields):
                reason = f"the record's {label} is {fields[0].text[:60]}"
                yield Finding(ClaimKind.FEATURE, *found.span(), None, reason)
        elif not fields and not _of_its_kind(label, value):
            yield Finding(ClaimKind.FEATURE, *found.span(), None, f"this is no {label}")


def _fields(label: str, facts: RecordFacts) -> list[Place]:
    words = {stem(word) for word in WORD.findall(label)}
    found = []
    for place in facts.places:
        if place.name.startswith("attributes."):
            name = place.name.removeprefix("attributes.").replace("_", " ").casefold()
            if name == label or (words and words <= {stem(word) for word in WORD.findall(name)}):
                found.append(place)
    return found


def _in_field(value: str, place: Place, facts: RecordFacts) -> bool:
    told = [number.quantity for number in facts.numbers if number.evidence.source == place.name]
    numbers = [one for one in quantities(value) if not one.spelled]
    if numbers:
        return all(any(agree(one, other) for other in told) for one in numbers)
    said = place.folded.text
    if value in said or said in value:
        return True
    for kind in _KINDS:
        lexicon = lexicon_of(kind)
        here = {term.canonical for term in lexicon.find(value)}
        there = {name for term in lexicon.find(said) for name in lexicon.broader_than(term.canonical)}
        if here:
            return here <= there
    if (HAS_CJK.search(value) is None) is not (HAS_CJK.search(said) is None) or HAS_CJK.search(value):
        return True  # in another language; or words that nothing sets apart
    words = [stem(word) for word in WORD.findall(value) if len(word) > 2]
    known = {stem(word) for word in WORD.findall(said)}
    return not words or 2 * sum(word in known for word in words) >= len(words)


def _of_its_kind(label: str, value: str) -> bool:
    for kind, named in _KINDS.items():
        if named.fullmatch(label):
            return any(True for _ in lexicon_of(kind).find(value)) or not re.search(r"\d", value)
    dimensions = aspect_dimensions(label)
    numbers = quantities(value)
    return (
        not dimensions
        or not numbers
        or any(
            reading.dimension in dimensions or reading.dimension == BARE
            for one in numbers
            for reading in one.readings
        )
    )
