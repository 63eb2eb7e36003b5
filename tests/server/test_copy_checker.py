"""What is claimed, where the record says it, and what is left when it does not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.copy_domain import Claim, ClaimKind, CopyRequest, CopyText, Language, ProductRecord, count_words
from server.pipelines.product_copy.checker import RecordChecker, ShopRules, check
from server.pipelines.product_copy.rules import open_rules
from server.pipelines.product_copy.style_rules import BadStyleFile, StyleRules, read_style
from tests.server.copy_cases import Case, cases

KETTLE = ProductRecord(
    title="Brimora Aria Kettle 1.7 l",
    brand="Brimora",
    category="Kitchen / Kettles",
    attributes={
        "capacity": "1.7 l", "colour": "navy", "material": "stainless steel", "power": "2200 W", "warranty_months": 24,
        "bpa_free": True, "waterproof": False, "pieces": 2,
    },
    price=39.9,
    currency="EUR",
)  # fmt: skip
FALSE = tuple(case for case in cases() if case.planted)
TRUE = tuple(case for case in cases() if not case.planted)


def claims(text: str, product: ProductRecord = KETTLE, language: Language | None = None) -> tuple[Claim, ...]:
    return check(CopyText(headline="", description=text), product, language=language).claims


def refused(text: str, product: ProductRecord = KETTLE, language: Language | None = None) -> list[str]:
    return [claim.text for claim in claims(text, product, language) if claim.source is None]


def opened(
    product: ProductRecord = KETTLE, style: StyleRules | None = None, language: Language = Language.EN
) -> RecordChecker:
    return ShopRules(style).open(CopyRequest(product=product, language=language))


def left_of(
    text: str, part: str = "description", language: Language = Language.EN, style: StyleRules | None = None
) -> str:
    check = opened(style=style, language=language)
    return check.without(part, text, check.claims(part, text))


def test_the_labelled_set_is_large_enough() -> None:
    """At least two hundred planted contradictions, in both languages, beside true sentences."""
    assert len(FALSE) >= 200 and len(TRUE) >= 100
    assert {case.language for case in FALSE} == set(Language)


@pytest.mark.parametrize("case", FALSE, ids=lambda case: case.sentence[:40])
def test_no_planted_contradiction_is_released(case: Case) -> None:
    """Each is refused, at the words that are false, wherever in the copy it stands; and cutting leaves nothing of it."""
    at = case.sentence.find(case.planted)
    found = [claim for claim in claims(case.sentence, case.product, case.language) if claim.source is None]

    assert any(claim.start < at + len(case.planted) and at < claim.end for claim in found), found
    for text in (
        CopyText(headline=case.sentence, description=""),
        CopyText(headline="", description="", bullets=(case.sentence,)),
    ):
        assert not check(text, case.product, language=case.language).good
    checker = opened(case.product, language=case.language)
    assert case.planted not in checker.without("description", case.sentence, found)


def test_few_true_sentences_are_refused() -> None:
    """What the record bears out is released: at most one sentence of fifty is not."""
    lost = [case.sentence for case in TRUE if refused(case.sentence, case.product, case.language)]
    assert len(lost) * 50 <= len(TRUE), lost


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("It holds 1700 ml.", "attributes.capacity"), ("It holds 1.7 litres.", "attributes.capacity"), ("A blue kettle.", "attributes.colour"),
        ("Two years of warranty.", "attributes.warranty_months"), ("A pack of 2.", "attributes.pieces"), ("A metal kettle.", "attributes.material"),
        ("At €39.90.", "price"), ("BPA-free.", "attributes.bpa_free"), ("By Brimora.", "title"), ("不锈钢水壶。", "attributes.material"),
        ("It is not waterproof.", "attributes.waterproof"), ("2.2 kW of power.", "attributes.power"), ("容量一点七升。", "attributes.capacity"),
    ],
)  # fmt: skip
def test_a_claim_names_the_place_that_bears_it_out(text: str, source: str) -> None:
    """Units are converted, words are numbers, and the broader thing may be said."""
    found = claims(text)
    assert source in {claim.source for claim in found} and all(claim.source for claim in found), found


@pytest.mark.parametrize(
    "text",
    [
        "ＢＥＳＴ kettle", "B\u200bE\u200bS\u200bT kettle", "Bеst kettle with Cyrillic", "𝗯𝗲𝘀𝘁 kettle", "b̶e̶s̶t̶ kettle", "b e s t in the w o r l d",
        "gUaRaNtEeD", "ɢᴜᴀʀᴀɴᴛᴇᴇᴅ", "１．８ l", "A Ѕоnу kettle", "最\u200b好的水壶", "最 好的水壶", "絕對不漏", "頂級水壺", "国 家 级", "water\u00adproof", "第壹品牌",
        "sOnY kettle", "two point one litres: 2,1 l", "€3９.99", "World's  best", "#１ in the world",
    ],
)  # fmt: skip
def test_tricks_of_writing_hide_nothing(text: str) -> None:
    """Width, case, look-alike letters, invisible characters, letters set apart, traditional characters."""
    assert refused(text), text


def test_places_of_claims_are_those_of_the_text_as_it_was_written() -> None:
    """Invisible and wide characters do not move them."""
    text = "A \u200b\u200bＷＡＴＥＲＰＲＯＯＦ kettle, ５ l."
    assert refused(text) == ["ＷＡＴＥＲＰＲＯＯＦ", "５ l"]


@pytest.mark.parametrize(
    "text",
    [
        "It heals.",
        "Guaranteed.",
        "The best in the world.",
        "保证有效。",
        "国家级品质。",
        "治疗失眠。",
        "最佳选择。",
    ],
)
def test_what_the_law_forbids_is_refused_even_if_the_record_says_it(text: str) -> None:
    """By list, with the reason, whatever the record says."""
    product = ProductRecord(title="Brimora", description=text, attributes={"note": text})
    found = [claim for claim in claims(text, product) if claim.kind is ClaimKind.FORBIDDEN]
    assert found and all(claim.source is None and claim.quote for claim in found)


@pytest.mark.parametrize("text", ["最大承重 5 公斤", "第一次使用前请清洗", "health", "100%棉"])
def test_ordinary_words_that_look_forbidden_are_not(text: str) -> None:
    """Names of measures and everyday words."""
    product = ProductRecord(title=text)
    assert not [claim for claim in claims(text, product) if claim.kind is ClaimKind.FORBIDDEN]


def test_a_measure_of_one_thing_is_no_measure_of_another() -> None:
    """A width is no height, and a runtime no warranty."""
    desk = ProductRecord(
        title="Desk", attributes={"width": "120 cm", "height": "75 cm", "runtime": "8 hours"}
    )
    assert not refused("It is 120 cm wide and 75 cm high.", desk)
    assert refused("It is 75 cm wide.", desk) == ["75 cm"]
    assert refused("It stands 120 cm high.", desk) == ["120 cm"]
    assert refused("Over 120 cm wide.", desk) == ["120 cm"]


@pytest.mark.parametrize(
    ("said", "good"),
    [("16.9 oz", True), ("500 ml", True), ("510 ml", False), ("17 oz", True), ("18 oz", False)],
)
def test_units_of_two_systems_are_compared_as_exactly_as_the_copy_tells_them(said: str, good: bool) -> None:
    """500 ml are 16.9 oz, and no more."""
    assert (
        not refused(f"It holds {said}.", ProductRecord(title="Bottle", attributes={"volume": "500 ml"}))
    ) is good


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A kettle from Brimora. It is waterproof. It holds 1.7 l.", "A kettle from Brimora. It holds 1.7 l."),
        ("It holds 1.7 l and is waterproof.", "It holds 1.7 l."),
        ("It holds 1.7 l, with a red lid.", "It holds 1.7 l."),
        ("It is waterproof. It also holds 1.7 l.", "It holds 1.7 l."),
        ("It is waterproof. And it holds 1.7 l.", "It holds 1.7 l."),
        ("The best kettle in the world.", ""),
        ("容量1.7升，防水，选用不锈钢。", "容量1.7升，选用不锈钢。"),
        ("防水。而且容量1.7升。", "容量1.7升。"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_description_is_whole_sentences(text: str, left: str) -> None:
    """The clause goes where it can go without a trace, else the sentence."""
    assert left_of(text, language=Language.ZH if "升" in text else Language.EN) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Brimora Kettle 1.7 l in red", "Brimora Kettle 1.7 l"), ("Brimora Kettle, waterproof, 1.7 l", "Brimora Kettle, 1.7 l"),
        ("Waterproof", ""), ("In red", ""), ("Brimora Kettle | red | 1.7 l", "Brimora Kettle | 1.7 l"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_headline_is_a_phrase(text: str, left: str) -> None:
    """Nothing dangles."""
    assert left_of(text, part="headline") == left


SENTENCES = st.sampled_from([case.sentence for case in cases() if case.language is Language.EN])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(SENTENCES, min_size=1, max_size=5).map(" ".join),
    st.sampled_from(["description", "headline", "bullets[0]"]),
)
def test_repair_leaves_nothing_that_is_refused_and_adds_nothing(text: str, part: str) -> None:
    """Whatever is thrown together, the rest is clean, and its words are the text's."""
    checker = opened()

    left = checker.without(part, text, checker.claims(part, text))

    assert checker.good(part, left)
    words = set(re.findall(r"\w+", text.lower()))
    assert set(re.findall(r"\w+", left.lower())) <= words


@settings(max_examples=80, deadline=None)
@given(
    st.lists(SENTENCES, min_size=1, max_size=6).map(" ".join),
    st.integers(1, 120),
    st.integers(1, 25),
    st.sampled_from(["description", "headline"]),
)
def test_what_is_shortened_fits_and_is_a_beginning(text: str, chars: int, words: int, part: str) -> None:
    """Within both limits, cut between words, no claim that was not there."""
    checker = opened()
    before = {(claim.kind, claim.text) for claim in checker.claims(part, text) if claim.source is None}

    left = checker.shortened(part, text, chars=chars, words=words)

    assert len(left) <= chars and count_words(left) <= words
    assert text.startswith(left.rstrip(".")) and not re.search(
        r"(?:\s(?:and|with|of|the|a|in)|[,;:(])$", left
    )
    assert {
        (claim.kind, claim.text) for claim in checker.claims(part, left) if claim.source is None
    } <= before


def test_a_number_is_not_cut_from_its_unit() -> None:
    """1.7 of 1.7 l would be another claim."""
    assert (
        opened().shortened("headline", "Brimora Aria Kettle 1.7 l", chars=23, words=10)
        == "Brimora Aria Kettle"
    )


STYLE = StyleRules(
    banned_terms=("cheap*", "廉价"), spelling={"colour": "color", "e-mail": "email"}, exclamation_marks=False, emoji=False,
    all_caps=False, prices=False, max_sentence_words=12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A kettle! It holds 1.7 l!", "A kettle. It holds 1.7 l."), ("The colour is navy.", "The color is navy."), ("A kettle 🎉 by Brimora.", "A kettle by Brimora."),
        ("A LOVELY kettle.", "A lovely kettle."), ("A kettle. Cheaply made.", "A kettle."), ("A kettle. Yours for €39.90.", "A kettle."),
        ("A kettle. This is a sentence that goes on and on and on for longer than the shop likes.", "A kettle."),
    ],
)  # fmt: skip
def test_the_shops_own_rules_hold_and_what_can_be_mended_is(text: str, left: str) -> None:
    """Spelling, marks, capitals and emoji are mended; banned terms and prices are cut."""
    checker = opened(style=STYLE)
    found = checker.claims("description", text)
    assert any(claim.kind is ClaimKind.BANNED and claim.source is None for claim in found)
    assert checker.without("description", text, found) == left


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.toml", "banned_words = []", "'banned_words' is no rule"), ("a.toml", "banned_terms = 'x'", "banned_terms must be a list"),
        ("a.toml", "emoji = 'no'", "emoji is 'no'"), ("a.toml", "= 1", "is not TOML"), ("a.json", "{", "is not JSON"), ("a.json", "[]", "must be a table"),
        ("a.toml", "max_sentence_words = 1", "from 3 to 1000"), ("a.toml", 'banned_terms = [" "]', "banned_terms[0]"),
        ("a.toml", '[spelling]\na = ""', "spelling['a']"), ("a.toml", 'banned_terms = ["details", "more"]', "nothing to say in en"),
        ("a.toml", '[spelling]\ngrey = "gray"\ngray = "grey"', "calls wrong"),
    ],
)  # fmt: skip
def test_a_bad_style_file_says_which_key_and_what_it_should_be(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    """A rule that is misspelt protects nobody."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadStyleFile, match=re.escape(told)):
        read_style(path)


def test_a_style_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(BadStyleFile, match="cannot be read"):
        read_style(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadStyleFile, match="UTF-8"):
        read_style(tmp_path / "b.toml")


def test_toml_and_json_say_the_same_and_change_the_version(tmp_path: Path) -> None:
    """What a cached answer is found by changes with the rules."""
    (tmp_path / "a.toml").write_text('banned_terms = ["cheap"]\nemoji = false', encoding="utf-8")
    (tmp_path / "a.json").write_text(
        json.dumps({"banned_terms": ["cheap"], "emoji": False}), encoding="utf-8"
    )
    first, second = (open_rules(tmp_path / name)[0] for name in ("a.toml", "a.json"))
    assert first.style == second.style and first.version == second.version != ShopRules().version
