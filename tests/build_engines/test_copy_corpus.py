"""What the demonstration model learns from is true of its records, fits its channels, and is more than one shop."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engines.data.copy_corpus import CopyExample, make_examples
from build_engines.data.copy_facts import KNOWN_WORDS
from build_engines.data.sample_catalogue import make_products
from server.copy_domain import Channel, Language, Tone, count_words
from server.pipelines.product_copy.prompt import MAX_PROMPT_CHARS, copy_prompt, copy_target, record_lines

ROWS: list[dict[str, Any]] = make_products(np.random.default_rng([7, 1]), 120).records
NAME = re.compile(r"[A-Z][A-Za-z]+")
# Words that begin a sentence of the phrase banks, and say nothing of a product.
FRAME = set(
    [
        "The",
        "This",
        "It",
        "In",
        "With",
        "By",
        "Made",
        "Say",
        "Meet",
        "Looking",
        "Here",
        "Come",
        "We",
        "Knock",
        "Psst",
        "Plot",
        "Roll",
        "Hello",
        "Look",
        "For",
        "Written",
        "One",
        "Its",
        "Colour",
        "Comes",
        "Material",
        "Warranty",
        "Price",
        "Yours",
        "At",
        "See",
        "Available",
        "Take",
        "Have",
        "Details",
        "Order",
        "Contact",
        "Go",
        "Your",
        "Tap",
        "Capacity",
    ]
)


def examples(seed: int, count: int = 60, renamed_share: float = 0.75) -> Iterator[CopyExample]:
    return itertools.islice(make_examples(ROWS, seed=seed, rounds=1, renamed_share=renamed_share), count)


def said(example: CopyExample) -> str:
    return "\n".join(text for _, text in example.text.parts())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_number_in_the_copy_stands_in_the_record(seed: int) -> None:
    """Whatever the seed: no digit is said that the record does not have."""
    for example in examples(seed):
        told = re.findall(r"\d+(?:\.\d+)?", "\n".join(record_lines(example.request.product)))

        assert not set(re.findall(r"\d+(?:\.\d+)?", said(example))) - set(told), example


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_colour_material_and_feature_in_the_copy_stands_in_the_record(seed: int) -> None:
    """Of all words that a shop could say about a product, the copy uses those of its record alone."""
    for example in examples(seed):
        record = "\n".join(record_lines(example.request.product)).lower()
        copy = said(example).lower()
        known = {word.lower() for words in KNOWN_WORDS[example.request.language].values() for word in words}
        for word in sorted(known, key=len, reverse=True):
            if (
                word in record
            ):  # its end and the next word's beginning may read as a third: 森林绿 + 茶壶 is no 绿茶
                copy = copy.replace(word, "|")
        for words in KNOWN_WORDS[example.request.language].values():
            for word in words:
                edge = r"\b" if example.request.language is Language.EN else ""
                if re.search(f"{edge}{re.escape(word.lower())}{edge}", copy):
                    assert word.lower() in record, (word, example)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_name_in_english_copy_stands_in_the_record(seed: int) -> None:
    """A brand, a line or a model is the record's, letter by letter."""
    for example in examples(seed):
        if example.request.language is Language.ZH:
            continue
        record = "\n".join(record_lines(example.request.product)).lower()
        for part in re.split(r"(?<=[.!?:|,-]) |\n", said(example)):
            for word in NAME.findall(part)[1:]:  # the first may only begin a sentence
                assert word in FRAME or word.lower() in record, (word, example)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_copy_fits_its_channel_and_its_request(seed: int) -> None:
    """Lengths of the channel and words of the request hold, and nothing is empty."""
    for example in examples(seed):
        limits, text = example.request.limits, example.text
        assert text.headline and text.description
        assert len(text.headline) <= limits.headline_chars
        assert count_words(text.headline) <= limits.headline_words
        assert len(text.description) <= limits.description_chars
        assert count_words(text.description) <= limits.description_words
        assert len(text.bullets) <= limits.bullets
        assert all(len(one) <= limits.bullet_chars for one in text.bullets)
        assert all(count_words(one) <= limits.bullet_words for one in text.bullets)
        words = sum(count_words(part) for _, part in text.parts())
        assert words <= (example.request.max_words or words)
        assert len(copy_prompt(example.request)) <= MAX_PROMPT_CHARS


def test_both_languages_all_channels_and_all_tones_are_learnt() -> None:
    """Nothing that a request may ask for is missing from the corpus."""
    found = list(make_examples(ROWS, seed=1, rounds=1, renamed_share=0.5))

    assert {(one.request.channel, one.request.language) for one in found} == set(
        itertools.product(Channel, Language)
    )
    assert {one.request.tone for one in found} == set(Tone)
    assert any(one.request.audience for one in found)
    assert any(one.request.keywords for one in found)
    assert any(one.request.max_words for one in found)


def test_the_same_seed_gives_the_same_copy_and_another_seed_other_copy() -> None:
    """The corpus is its seed and nothing else."""
    once, again, other = ([copy_target(one.text) for one in examples(seed)] for seed in (3, 3, 4))

    assert once == again
    assert once != other


def test_copy_of_one_product_varies() -> None:
    """A hundred tries at one shop's products give nearly a hundred texts: there is more to learn than a form."""
    texts = [copy_target(one.text) for one in examples(5, 100)]

    assert len(set(texts)) >= 98


def test_keywords_that_are_asked_for_are_in_the_copy() -> None:
    """The model learns to use a keyword, because it always sees it used."""
    for example in examples(6, 200):
        assert all(word in said(example) for word in example.request.keywords)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_records_are_the_shops_own_or_told_otherwise(share: float) -> None:
    """A share of 0 tells the catalogue as it is; of 1, most titles are none of the catalogue's."""
    titles = {row["title"] for row in ROWS} | {row["title_zh"] for row in ROWS}
    known = [one.request.product.title in titles for one in examples(8, 120, share)]

    assert all(known) if share == 0.0 else sum(known) < 12
