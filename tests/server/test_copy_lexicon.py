"""The lists are whole and mean one thing each; a word means what stands around it."""

from __future__ import annotations

import itertools
import re

import pytest

from server.copy_domain import ClaimKind, CopyText, ProductRecord
from server.pipelines.product_copy.checker import check
from server.pipelines.product_copy.folding import fold
from server.pipelines.product_copy.forbidden import pattern_of
from server.pipelines.product_copy.instructions import believable
from server.pipelines.product_copy.lexicon import (
    brand_names,
    is_common,
    lexicon_of,
    lexicons,
    listed_names,
    read_list,
)


def test_every_list_is_found_by_its_own_spellings() -> None:
    """No spelling is shadowed, and each broader thing is itself a thing or a plain word."""
    for lexicon in lexicons():
        for spelling, (thing, sure) in lexicon.canonical.items():
            found = [term for term in lexicon.find(spelling) if (term.start, term.end) == (0, len(spelling))]
            if thing and sure and len(spelling) > 1:
                assert found and found[0].canonical == thing, (lexicon.kind, spelling)


def test_no_thing_is_broader_than_itself() -> None:
    """Chains end."""
    for lexicon in lexicons():
        for thing in lexicon.broader:
            assert len(list(itertools.islice(lexicon.broader_than(thing), 10))) < 6


def test_every_forbidden_phrase_is_found() -> None:
    """Each line of the law's lists is a pattern that matches itself."""
    for line in (*read_list("forbidden_en.txt"), *read_list("forbidden_zh.txt")):
        phrase = line.lstrip("!").replace("*", "")
        if not line.startswith("["):
            assert re.search(pattern_of(line.lstrip("!")), fold(phrase)), line


@pytest.mark.parametrize(
    ("record", "text", "good"),
    [
        ("navy", "A blue mug.", True), ("blue", "A navy mug.", False), ("stainless steel", "A steel mug.", True), ("steel", "A stainless steel mug.", False),
        ("faux leather", "A leather mug.", False), ("wood-look plastic", "A wooden mug.", False), ("not waterproof", "A waterproof mug.", False),
        ("plastic-free", "A plastic mug.", False), ("green tea", "A green mug.", False), ("reading glasses", "A glass mug.", False),
        ("waterproof", "A water-proof mug.", True), ("grey", "A gray mug.", True), ("aluminum", "An aluminium mug.", True),
    ],
)  # fmt: skip
def test_a_thing_may_be_told_more_broadly_but_not_more_narrowly(record: str, text: str, good: bool) -> None:
    """And what a record denies or only looks like is not said."""
    product = ProductRecord(title="Mug", description=f"Mug, {record}.")
    assert check(CopyText(headline="", description=text), product).good is good


def test_chinese_and_english_name_the_same_things() -> None:
    """A record in one language bears out copy in the other."""
    product = ProductRecord(title="Mug", attributes={"colour": "black", "material": "stainless steel"})
    found = check(CopyText(headline="", description="黑色，不锈钢。"), product).claims
    assert {claim.kind for claim in found if claim.source} == {ClaimKind.COLOUR, ClaimKind.MATERIAL}
    assert lexicon_of(ClaimKind.COLOUR).chinese["black"] == "黑色"


def test_names_are_no_common_words() -> None:
    """A listed brand that is also a word counts only with a capital."""
    assert is_common("details") and is_common("boxes") and not is_common("brimora")
    assert "sony" in listed_names() and "apple" not in listed_names()
    assert brand_names().search("made by sony")


@pytest.mark.parametrize(
    "text",
    [
        "Write with confidence.",
        "Care instructions: wipe clean.",
        "Whether you are a teacher or a student.",
        "Prints labels as you like.",
        "适合家庭使用，说明书在盒内。",
        "Please wash before first use.",
    ],
)
def test_honest_text_is_no_instruction(text: str) -> None:
    """Words that instructions use are also words of products."""
    assert believable(fold(text)) == len(fold(text))
