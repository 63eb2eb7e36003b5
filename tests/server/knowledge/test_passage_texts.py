"""Sentences of a passage, and the vectors that are made of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.knowledge.passage_texts import (
    MOST_SENTENCES,
    close_spans,
    passage_texts,
    passage_vectors,
    sentence_spans,
)
from server.knowledge.vectors import unit
from tests.server.knowledge.sqlite_pages import passage

TEXTS = st.text(alphabet=st.sampled_from('ab 。！？.!?\n"”1,é退货 '), max_size=120)


@given(TEXTS)
def test_sentences_hold_every_character_once(text: str) -> None:
    """Sentences stand in order, overlap nowhere, and leave out nothing but white space: a quote is a part of its source."""
    spans = sentence_spans(text)

    kept = "".join(text[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(text.split())
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert all(text[start:end] == text[start:end].strip() and start < end for start, end in spans)


@given(TEXTS.map(lambda text: text * 20))
def test_what_gets_a_vector_is_bounded_and_in_order(text: str) -> None:
    """However many sentences a passage has, 32 at most are encoded, and none twice."""
    spans = close_spans(text)

    assert len(spans) <= MOST_SENTENCES
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert bool(spans) == bool(text.strip())


def test_points_inside_numbers_and_addresses_end_no_sentence() -> None:
    """€4.95 and service@example.com stay whole; Chinese sentences end without a space."""
    english = 'It costs €4.95. Write to a@b.example! "Really?" Yes.'
    chinese = "运费4.95欧元。满50欧元免运费！"

    assert [english[a:b] for a, b in sentence_spans(english)] == [
        "It costs €4.95.",
        "Write to a@b.example!",
        '"Really?"',
        "Yes.",
    ]
    assert [chinese[a:b] for a, b in sentence_spans(chinese)] == ["运费4.95欧元。", "满50欧元免运费！"]


def test_a_short_sentence_goes_with_the_next() -> None:
    """ "Yes." says nothing alone."""
    text = "Yes. You can return any item within 30 days of receiving it. Free of charge."

    assert close_spans(text) == [(0, len(text))]


def test_an_entry_ranks_by_its_question_and_half_its_answer() -> None:
    """The product with the scan vector orders entries as cosine(question) + cosine(answer) / 2 does."""
    rng = np.random.default_rng(0)
    texts = passage_texts(
        passage("You have 30 days to send it back to us, unused.", question="May I return it?")
    )
    encoded = unit(rng.standard_normal((len(texts.all()), 64)).astype(np.float32))

    scan, close = passage_vectors(texts, encoded)

    asked = unit(rng.standard_normal((20, 64)).astype(np.float32))
    wanted = asked @ encoded[0] + 0.5 * (asked @ encoded[1])
    assert np.array_equal(np.argsort(asked @ scan[0]), np.argsort(wanted))
    assert len(close) == len(texts.all()) == 3


def test_an_id_is_no_title() -> None:
    """A document without a title is encoded by its text, and not by its number."""
    numbered = passage_texts(passage("Some text.", document_id="faq-12", title="faq-12"))
    titled = passage_texts(passage("Some text.", title="Returns", headings=("Returns", "Costs")))

    assert numbered.scan == ("Some text.",)
    assert titled.scan == ("Returns.\nCosts.\nSome text.",)


def test_vectors_must_be_of_these_texts() -> None:
    """A row too few is an error, and never a vector under the wrong sentence."""
    with pytest.raises(ValueError, match="2 texts of a passage but 1 vectors"):
        passage_vectors(passage_texts(passage("Some text.")), np.ones((1, 8), np.float32))
