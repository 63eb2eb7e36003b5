"""The order of what was found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.knowledge.ranking import (
    Candidate,
    closeness,
    idf,
    ranked,
    rarest_within,
    words_shares,
)
from server.knowledge.vectors import Floats
from server.knowledge.words import words
from server.knowledge_domain import Hit, Passage
from tests.server.knowledge.sqlite_pages import passage


def _found(
    at: int,
    page: Passage,
    cosine: float = math.nan,
    close: tuple[float, ...] = (),
    share: float = 0.0,
    rank: int | None = None,
) -> Candidate:
    return Candidate(
        id=at,
        passage=page,
        scan_cosine=cosine,
        close_cosines_S=np.array(close, np.float32),
        words_share=share,
        bm25_rank=rank,
    )


def _ranked(
    *found: Candidate, asked: str = "?", language: str = "", vectors: dict[int, Floats] | None = None
) -> tuple[Hit, ...]:
    return ranked(found, asked_words=list(words(asked)), language=language, k=8, scan_vectors=vectors or {})


def test_words_and_vectors_each_lift_a_passage() -> None:
    """Of two passages equally close, the one with the question's words comes first, and the other way round."""
    near, wordy, neither = passage("one"), passage("two"), passage("three")

    hits = _ranked(
        _found(1, neither, 0.4, (0.4,)),
        _found(2, wordy, 0.4, (0.4,), share=0.5, rank=1),
        _found(3, near, 0.7, (0.7,)),
    )

    assert [hit.passage.text for hit in hits] == ["one", "two", "three"]
    assert [hit.bm25_rank for hit in hits] == [None, 1, None]


def test_a_passage_is_as_close_as_its_whole_and_its_best_sentence() -> None:
    """One sentence that answers counts half; an entry's question counts twice as much as its answer."""
    page = _found(1, passage("page"), 0.4, (0.1, 0.8))
    entry = _found(2, passage("answer", question="question"), 0.5, (0.9, 0.3, 0.6))

    assert closeness(page) == pytest.approx((0.6, 0.8))
    assert closeness(entry) == pytest.approx(((0.9 + 0.5 * (0.3 + 0.6) / 2) / 1.5, 0.9))


def test_an_entry_that_is_near_everything_is_held_back() -> None:
    """ "How do I change it?" lies near every question; half of that is taken off, and its cosine is shown as it is."""
    common = replace(_found(1, passage("a", question="q"), 0.7, (0.7, 0.4)), commonness=0.2)
    rare = _found(2, passage("b", question="r"), 0.65, (0.65, 0.4))

    hits = _ranked(common, rare)

    assert [hit.passage.text for hit in hits] == ["b", "a"]
    assert hits[1].cosine == pytest.approx(0.7)


def test_without_a_vector_words_decide_alone_and_no_cosine_is_shown() -> None:
    """The encoder is away: the order is that of the words, and the hit says that there is no cosine."""
    hits = _ranked(
        _found(1, passage("few"), share=0.2, rank=2), _found(2, passage("many"), share=0.6, rank=1)
    )

    assert [hit.passage.text for hit in hits] == ["many", "few"]
    assert all(math.isnan(hit.cosine) for hit in hits)


def test_what_a_shop_says_twice_is_quoted_as_the_asker_speaks() -> None:
    """The Chinese page comes first for who asks in Chinese, whatever the region; the other one follows."""
    english = _found(1, passage("Returns are free.", language="en"), 0.6, (0.6,))
    chinese = _found(2, passage("退货免费。", language="zh-CN"), 0.5, (0.5,))

    assert [hit.passage.language for hit in _ranked(english, chinese, language="zh")] == ["zh-CN", "en"]
    assert [hit.passage.language for hit in _ranked(english, chinese, language="en")] == ["en", "zh-CN"]


def test_a_question_that_stands_there_word_for_word_comes_first() -> None:
    """An entry whose question was asked is the answer, even if others lie closer."""
    entry = _found(1, passage("Within 30 days.", question="May I return it?"), 0.5, (0.6, 0.4))
    closer = _found(2, passage("Returns."), 0.95, (0.95,))

    assert _ranked(closer, entry, asked="may i RETURN it")[0].passage.question == "May I return it?"


def test_near_duplicates_are_left_out_but_never_another_number() -> None:
    """A page kept twice is shown once; "free from 50" and "free from 100" are two answers."""
    same = np.array([1.0, 0.0], np.float32)
    texts = (
        "Standard delivery is free from 50 euros for all orders within the whole country.",
        "Standard delivery is free from 50 euros, for all orders within the whole country!",
        "Standard delivery is free from 100 euros for all orders within the whole country.",
    )
    found = [_found(at, passage(text, document_id=str(at)), 0.5, (0.5,)) for at, text in enumerate(texts)]

    hits = _ranked(*found, vectors=dict.fromkeys(range(3), same))

    assert [hit.passage.document_id for hit in hits] == ["0", "2"]


@given(
    st.integers(1, 100_000),
    st.lists(st.integers(0, 100_000), min_size=1, max_size=20),
    st.lists(st.floats(0, 500), max_size=20),
)
def test_the_words_part_lies_between_nothing_and_all(
    passages: int, frequencies: list[int], scores: list[float]
) -> None:
    """Whatever BM25 gives, the share stays within 0 and 1 and keeps BM25's order."""
    shares = words_shares(
        list(enumerate(sorted(scores, reverse=True))), passages, [min(passages, one) for one in frequencies]
    )

    values = list(shares.values())
    assert all(0 <= share <= 1 for share in values)
    assert values == sorted(values, reverse=True)


def test_a_word_of_everywhere_weighs_next_to_nothing() -> None:
    """ "the" is no reason to show a page; a word nobody has weighs most."""
    assert idf(1000, 1001) == idf(1000, 1000) == 1e-6  # a count from before a deletion
    assert idf(1000, 600) < 1e-5 < idf(1000, 300) < idf(1000, 3) < idf(1000, 0)


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 10_000), max_size=20),
    st.integers(0, 5000),
)
def test_the_words_that_are_looked_for_fit_the_budget(frequencies: dict[str, int], budget: int) -> None:
    """The rarest words are chosen, at least one if anybody has one, and no more rows are gone through than allowed."""
    chosen = rarest_within(frequencies, budget)

    rows = [frequencies[word] for word in chosen]
    left_out = [count for word, count in frequencies.items() if count and word not in chosen]
    assert bool(chosen) == any(frequencies.values())
    assert len(chosen) <= 1 or sum(rows) <= budget
    assert not left_out or max(rows) <= min(left_out)
