"""Names in a copy: brands, makers, models and places, known by list or by their capital letter.

English: a capitalised word inside a sentence is a name, and so is one at its beginning that is no common word; in a headline,
where every word may be capitalised, only what is no common word. Chinese: every word in Latin letters, and listed names.
Acronyms (HDMI, LED) are features. A name stands if it is one of the record's words; "by X" only if X is the record's brand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import CJK, HAS_CJK, Folded, fold, stem
from server.pipelines.product_copy.lexicon import brand_names, is_common, listed_names, read_words
from server.pipelines.product_copy.record import Evidence, RecordFacts

_TOKEN = re.compile(r"[a-z0-9]+(?:['.&/+-][a-z0-9]+)*")
_MAKER = re.compile(
    r"(?<![a-z])(?:by|from|made by|manufactured by|brand:|designed by)\s(?P<name>[a-z0-9][\w'&.-]*)|(?:来自|品牌[:：为]?)\s?(?P<cn>[a-z0-9][\w'&.-]*)"
    r"|(?P<before>[a-z0-9][\w'&.-]*)\s?(?:出品|推出|品牌|制造)"
)
# "由…制造": whoever makes it, listed or not, is somebody the record names. Short, and no particle in it: else it is a phrase.
_CN_MAKER = re.compile(
    rf"由(?P<name>(?:(?![的我您你人手以用精])[{CJK}]){{2,6}}?)(?:公司|品牌|集团)?(?:制造|出品|生产|研发|监制|授权)"
)
_ALWAYS = read_words("unclaimed_capitals")
_LIGHT = read_words("light_words") | read_words("not_counted") | read_words("openers")
_ENDS = re.compile(r"(?:^|[.!?:;\n•|\"(—–-]|\.\.\.|。|！|？|：|；|，|、)[\s\"'(]*$")


def name_findings(
    original: str,
    text: Folded,
    facts: RecordFacts,
    taken: list[tuple[int, int]],
    *,
    titled: bool,
    chinese: bool,
) -> Iterator[Finding]:
    """Every name of a text.

    Args:
        original: as it is written, for its capital letters.
        text: the same, folded.
        facts: of the record.
        taken: spans that were judged already.
        titled: every word may be capitalised here (headline, bullet).
        chinese: the copy is Chinese.
    """
    judged: list[tuple[int, int]] = []
    for found in brand_names().finditer(text.text):
        shown = original[slice(*text.span(*found.span()))]
        if not _written_as_name(shown, found.group()) or _inside(found.span(), taken):
            continue
        evidence = (
            facts.literal(found.group())
            if HAS_CJK.search(found.group())
            else _in_record(found.group(), facts)
        )
        judged.append(found.span())
        yield Finding(ClaimKind.BRAND, *found.span(), evidence, "it is not in the record")
    for span in _in_place_of_brand(original, text, facts):
        if not _inside(span, [*taken, *judged]):
            judged.append(span)
            yield Finding(ClaimKind.BRAND, *span, None, "it stands where the record has its brand, or none")
    for found in _CN_MAKER.finditer(text.text):
        if facts.literal(found.group("name")) is None and not _inside(found.span("name"), [*taken, *judged]):
            judged.append(found.span("name"))
            yield Finding(ClaimKind.BRAND, *found.span("name"), None, "it is not in the record")
    for found in _MAKER.finditer(text.text):
        group = found.lastgroup or "name"
        span = found.span(group)
        name = found.group(group).rstrip(".'-")
        span = span[0], span[0] + len(name)
        capital = original[text.span(*span)[0]]
        if not (capital.isupper() or group != "name") or not facts.brand_words or _inside(span, taken):
            continue
        if (
            name.isdigit()
            or set(_parts(name)) & facts.brand_words
            or facts.literal(found.group())
            or _is_told(_in_record(name, facts))
        ):
            continue  # unknown names are judged below
        if (
            group == "before"
            and HAS_CJK.search(text.text[: span[0]][-1:]) is None
            and span[0] > 0
            and text.text[span[0] - 1] == " "
        ):
            continue  # the last word of a longer name
        judged.append(span)
        yield Finding(ClaimKind.BRAND, *span, None, f"the record's brand is {facts.product.brand[:80]}")
    for found in _TOKEN.finditer(text.text):
        span = found.span()
        if _inside(span, taken) or _inside(span, judged) or found.group().isdigit():
            continue
        shown = original[slice(*text.span(*span))]
        kind = _kind(shown, found.group(), original[: text.span(*span)[0]], titled=titled, chinese=chinese)
        if kind is not None:
            yield Finding(kind, *span, _in_record(found.group(), facts), "it is not in the record")


def _in_place_of_brand(original: str, text: Folded, facts: RecordFacts) -> Iterator[tuple[int, int]]:
    """A word before the product's line that is not in the record ("Hornet Zenith" for "Xanthrope Zenith"); "A & B" likewise."""
    line = next((place.folded.text for place in facts.places if place.name == "title"), "")
    rest = [word for word in _TOKEN.findall(line) if not set(_parts(word)) & facts.brand_words][:1]
    for word in rest:
        for found in re.finditer(
            rf"(?<![a-z0-9])(?P<name>[a-z][a-z'-]+)\s{re.escape(word)}(?![a-z0-9])", text.text
        ):
            span = found.span("name")
            name = found.group("name")
            shown = original[slice(*text.span(*span))]
            if (
                shown[:1].isupper()
                and name not in _LIGHT
                and _in_record(name, facts) is None
                and name not in _ALWAYS
            ):
                yield span
    for found in re.finditer(r"(?<![a-z0-9])([a-z]{2,})\s&\s([a-z]{2,})(?![a-z0-9])", text.text):
        shown = original[slice(*text.span(*found.span()))]
        named = shown[:1].isupper() and shown.rsplit(" ", 1)[1][:1].isupper()
        if named and all(_in_record(part, facts) is None for part in found.groups()):
            yield found.span()


def _is_told(evidence: Evidence | None) -> bool:
    """Whether a name that is no brand needs no look here: unknown ones are judged as words, an attribute's is a fact."""
    return evidence is None or evidence.source.startswith("attributes.")


def _kind(shown: str, word: str, before: str, *, titled: bool, chinese: bool) -> ClaimKind | None:
    capital = any(char.isupper() for char in shown)
    if word in _ALWAYS or (len(word) == 1 and not capital):
        return None
    if word in listed_names():
        return ClaimKind.BRAND
    if chinese:
        return ClaimKind.BRAND
    if not capital or any(char.isdigit() for char in word):
        return None
    common = all(is_common(part) or len(part) < 2 for part in re.split(r"['.&/+-]", word))
    if len(shown) > 1 and shown.isupper() and 2 <= len(shown) <= 5 and not common:
        return ClaimKind.FEATURE
    inner = any(char.isupper() for char in shown[1:]) and not shown.isupper() and "-" not in shown
    if common and (titled or inner or shown.isupper() or _ENDS.search(before[-6:] or "")):
        return None
    return ClaimKind.BRAND


def _written_as_name(shown: str, name: str) -> bool:
    return shown[:1].isupper() or HAS_CJK.search(name) is not None or name in listed_names()


def _parts(name: str) -> list[str]:
    return [stem(part) for part in re.split(r"['.&/+ -]", fold(name)) if part]


def _in_record(name: str, facts: RecordFacts) -> Evidence | None:
    evidence = facts.says(name) or facts.says(name.removesuffix("'s"))
    if evidence is not None:
        return evidence
    parts = [part for part in re.split(r"['.&/+ -]", name) if part not in ("", "s")]
    found = [facts.says(part) for part in parts]
    unknown = [part for part, one in zip(parts, found, strict=True) if one is None and not is_common(part)]
    if len(parts) > 1 and not unknown:
        return next((one for one in found if one is not None), None)
    return None


def _inside(span: tuple[int, int], taken: list[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in taken)
