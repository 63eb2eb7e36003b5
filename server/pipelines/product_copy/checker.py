"""Product copy against its record: every claim of a text with the place that bears it out, or the reason why it may not stand.

``ShopRules`` is what the pipeline holds (``ports.CopyRules``); it opens a ``RecordChecker`` a request. ``check`` is the same in
one call. What is looked for, in this order: what the law forbids, what does not belong into copy (addresses, markup, what an
instruction inside the record says), the shop's own rules, numbers and prices, listed words, features by form, names.

What is not looked for: whether a sentence without any of these is true ("folds in a second" is caught, "folds with ease" is
not), and whether "up to" was left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from server.copy_domain import Claim, ClaimKind, CopyRequest, CopyText, Language, ProductRecord
from server.pipelines.product_copy import template_phrases
from server.pipelines.product_copy.claims_names import name_findings
from server.pipelines.product_copy.claims_numbers import number_findings
from server.pipelines.product_copy.claims_terms import form_findings, term_findings
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import CJK, HAS_CJK, Folded, fold, folded, stem
from server.pipelines.product_copy.forbidden import forbidden_findings
from server.pipelines.product_copy.instructions import CONTACT, LIKE_CONTACT, MARKUP, instruction_at
from server.pipelines.product_copy.labels import label_findings
from server.pipelines.product_copy.product_nouns import product_findings
from server.pipelines.product_copy.quantities import quantities, units
from server.pipelines.product_copy.record import WORD, RecordFacts, read_record
from server.pipelines.product_copy.repair import without_refused
from server.pipelines.product_copy.style_check import mended, style_findings
from server.pipelines.product_copy.style_rules import StyleRules
from server.pipelines.product_copy.trim import shortened

CHECKER_VERSION = 2  # raise it with whatever changes a verdict
_MOST_CACHED = 64
_CJK_RUN = re.compile(f"[{CJK}]+")


@dataclass(frozen=True, slots=True)
class Checked:
    """A piece of copy and its claims.

    Attributes:
        claims: all, in reading order.
    """

    claims: tuple[Claim, ...]

    @property
    def refused(self) -> tuple[Claim, ...]:
        """What may not be released."""
        return tuple(claim for claim in self.claims if claim.source is None)

    @property
    def good(self) -> bool:
        """Whether it may be released as it is."""
        return not self.refused


def check(
    text: CopyText,
    product: ProductRecord,
    rules: StyleRules | None = None,
    *,
    language: Language | None = None,
) -> Checked:
    """Hold a piece of copy against its record.

    Args:
        text: the copy; lengths are not looked at.
        product: the only source of facts.
        rules: the shop's own.
        language: of the copy; None: as it looks.
    """
    joined = " ".join(part for _, part in text.parts())
    if language is None:
        letters = len(re.findall(r"[a-z]+", joined, re.I))
        language = Language.ZH if len(re.findall(f"[{CJK}]", joined)) > letters else Language.EN
    opened = RecordChecker(CopyRequest(product=product, language=language), rules or StyleRules())
    return Checked(tuple(claim for part, said in text.parts() for claim in opened.claims(part, said)))


class ShopRules:
    """All rules of a shop.

    Attributes:
        style: its own.
        version: changes with whatever changes a verdict.
    """

    def __init__(self, style: StyleRules | None = None) -> None:
        self.style = style or StyleRules()
        self._last: tuple[CopyRequest, RecordChecker] | None = None
        self.version = f"{CHECKER_VERSION}.{_lists_version()}.{self.style.version}"

    def open(self, request: CopyRequest) -> RecordChecker:
        """Read the record once, for all texts about it; the templates ask again for the request just opened."""
        last = self._last
        if last is None or last[0] is not request:
            last = self._last = request, RecordChecker(request, self.style)
        return last[1]


class RecordChecker:
    """Texts about one product.

    Attributes:
        facts: what its record says.
        kept: what others have read of it, by name, for as long as it lives.
    """

    def __init__(self, request: CopyRequest, style: StyleRules) -> None:
        self.facts: RecordFacts = read_record(request.product)
        self.kept: dict[str, object] = {}
        self._chinese = request.language is Language.ZH
        self._style = style
        self._audience = fold(request.audience).strip()
        self._seen: dict[tuple[str, str], tuple[Claim, ...]] = {}

    def claims(self, part: str, text: str) -> Sequence[Claim]:
        """Every claim of a part; one without a source may not be released."""
        known = self._seen.get((part, text))
        if known is None:
            if len(self._seen) >= _MOST_CACHED:
                self._seen.clear()
            known = self._seen[part, text] = tuple(self._claims(part, text))
        return known

    def good(self, part: str, text: str) -> bool:
        """Whether nothing in a part is refused."""
        return all(claim.source is not None for claim in self.claims(part, text))

    def without(self, part: str, text: str, refused: Sequence[Claim]) -> str:
        """The text without what makes these claims; empty when nothing of use is left."""
        if all(claim.source is not None for claim in refused):
            return text
        text = mended(text, folded(text), self.facts, self._style)
        return without_refused(part, text, lambda shown: self._spans(part, shown))

    def shortened(self, part: str, text: str, *, chars: int, words: int) -> str:
        """The text within both limits, cut where a sentence or a clause ends; empty when nothing of use fits."""
        before = {
            (claim.kind, claim.text)
            for claim in self.claims(part, text[: 4 * chars + 400])
            if claim.source is None
        }

        def good(shown: str) -> bool:
            return all(
                claim.source is not None or (claim.kind, claim.text) in before
                for claim in self.claims(part, shown)
            )

        return shortened(part, text, chars=chars, words=words, good=good)

    def _spans(self, part: str, text: str) -> list[tuple[int, int]]:
        return [(claim.start, claim.end) for claim in self.claims(part, text) if claim.source is None]

    def _claims(self, part: str, text: str) -> Iterator[Claim]:
        whole = folded(text)
        seen: set[tuple[ClaimKind, int, int]] = set()
        for finding in sorted(self._findings(part, text, whole), key=lambda one: (one.start, one.end)):
            start, end = whole.span(finding.start, finding.end)
            if (finding.kind, start, end) in seen:
                continue
            seen.add((finding.kind, start, end))
            evidence = finding.evidence
            yield Claim(
                kind=finding.kind,
                text=text[start:end],
                part=part,
                start=start,
                end=end,
                source=None if evidence is None else evidence.source,
                quote=finding.reason if evidence is None else evidence.quote,
            )

    def _findings(self, part: str, text: str, whole: Folded) -> Iterator[Finding]:
        said = whole.text
        yield from forbidden_findings(said)
        yield from self._out_of_place(said)
        yield from self._like_addresses(text, whole)
        yield from style_findings(text, whole, self.facts, self._style)
        numbers = list(number_findings(said, quantities(said), self.facts))
        terms = list(term_findings(said, self.facts))
        yield from numbers
        if not self._style.prices:
            yield from (
                Finding(ClaimKind.BANNED, one.start, one.end, None, "the shop's rules allow no prices")
                for one in numbers
                if one.kind is ClaimKind.PRICE
            )
        exempt = self._exempt(said)
        yield from (
            one for one in terms
            if one.kind is not ClaimKind.SIZE or not any(a <= one.start and one.end <= b for a, b in exempt)
        )  # fmt: skip
        taken = [(one.start, one.end) for one in (*numbers, *terms)]
        yield from form_findings(said, self.facts, taken)
        yield from product_findings(said, self.facts)
        yield from label_findings(said, self.facts)
        chinese = self._chinese and HAS_CJK.search(said) is not None
        yield from name_findings(
            text, whole, self.facts, taken, titled=part != "description", chinese=chinese
        )

    def _exempt(self, said: str) -> list[tuple[int, int]]:
        if not self._audience:
            return []
        return [found.span() for found in re.finditer(re.escape(self._audience), said)]

    def _like_addresses(self, text: str, whole: Folded) -> Iterator[Finding]:
        own = [place.folded.text for place in self.facts.places if place.name in ("title", "brand")]
        for found in LIKE_CONTACT.finditer(whole.text):
            start, end = whole.span(*found.span())
            before, dot, after = text[start:end].partition(".")
            joined = bool(dot) and (
                after[:1].isupper() or after.casefold() in units()[1]
            )  # "ink.Refillable", "fl.oz"
            numbered = bool(dot) and before.isdigit()
            if not (joined or numbered or any(found.group() in said for said in own)):
                yield Finding(ClaimKind.BANNED, *found.span(), None, "an address has no place in copy")

    def _out_of_place(self, said: str) -> Iterator[Finding]:
        for pattern, reason in (
            (CONTACT, "an address has no place in copy"),
            (MARKUP, "markup has no place in copy"),
        ):
            for found in pattern.finditer(said):
                yield Finding(ClaimKind.BANNED, *found.span(), None, reason)
        ordered = instruction_at(said)
        if ordered is not None:
            yield Finding(ClaimKind.BANNED, *ordered.span(), None, "it reads as an instruction, not as copy")
        foul = self.facts.foul
        for found in WORD.finditer(said) if foul else ():
            if stem(found.group()) in foul and stem(found.group()) not in _plain_words():
                yield Finding(
                    ClaimKind.BANNED, *found.span(), None, "it comes from an instruction inside the record"
                )
        for run in _CJK_RUN.finditer(said):
            shown = run.group()
            if not self._chinese and not any(shown in place.folded.text for place in self.facts.places):
                yield Finding(
                    ClaimKind.BANNED, *run.span(), None, "it is in another language than was asked for"
                )
            for at in range(len(shown) - 1 if foul else 0):
                gram = shown[at : at + 2]
                if gram in foul and gram not in _plain_words():
                    start = run.start() + at
                    yield Finding(
                        ClaimKind.BANNED,
                        start,
                        start + 2,
                        None,
                        "it comes from an instruction inside the record",
                    )


@cache
def _plain_words() -> frozenset[str]:
    """What copy says of anything: words of the templates and pairs of their characters."""
    said = fold(" ".join(template_phrases.every_phrase()))
    words = {stem(found.group()) for found in WORD.finditer(said)}
    return frozenset(
        words | {run[at : at + 2] for run in _CJK_RUN.findall(said) for at in range(len(run) - 1)}
    )


@cache
def _lists_version() -> str:
    told = sha256()
    folder = files("server.pipelines.product_copy").joinpath("data")
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.name.endswith(".txt"):
            told.update(entry.read_bytes())
    return told.hexdigest()[:12]
