"""Words of questions and pages: every script, and nothing a shopper types is query syntax."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.knowledge.words import (
    MOST_QUERY_WORDS,
    MOST_WORD_CHARS,
    TOKENIZER,
    indexed_text,
    match_expression,
    query_words,
    words,
)


def _index(*pages: str) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.execute(f"CREATE VIRTUAL TABLE pages USING fts5(text, tokenize='{TOKENIZER}')")
    db.executemany("INSERT INTO pages (text) VALUES (?)", [(indexed_text(page),) for page in pages])
    return db


def _found(db: sqlite3.Connection, asked: str) -> list[int]:
    found = query_words(asked)
    if not found:
        return []
    sql = "SELECT rowid FROM pages WHERE pages MATCH ? ORDER BY rank"
    return [row for (row,) in db.execute(sql, (match_expression(found),))]


HOSTILE = st.lists(
    st.sampled_from(
        (
            *"\"'*()^:-+{}\\; \0\ud800🙂\u200b\u202eéﬁİ",
            "NEAR",
            "AND",
            "OR",
            "NOT",
            "text:",
            "NEAR(",
            "--",
            "x" * 300,
        )
    ),
    max_size=30,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(HOSTILE, st.text(max_size=200)))
def test_no_question_breaks_the_query(asked: str) -> None:
    """Quotes, operators, column names, NUL, emoji, lone surrogates: every question is a search, and finds its own words."""
    db = _index(asked, "another page")

    found = _found(db, asked)

    readable = [word for word in query_words(asked) if word.isascii() and word.isalnum()]
    assert not readable or 1 in found


def test_a_question_of_any_length_is_a_bounded_query() -> None:
    """A shopper who pastes a book asks for its first 64 words, and a word has 64 characters at most."""
    found = query_words(" ".join(f"word{at}" for at in range(10_000)) + "x" * 10_000)

    assert len(found) == MOST_QUERY_WORDS
    assert max(map(len, words("x" * 10_000))) == MOST_WORD_CHARS


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("退货要多久", "退货期限：自收到商品之日起30天内可以退货。"),
        ("返品できますか", "商品の返品は30日以内です。"),
        ("반품하고 싶어요", "반품은 30일 이내에 가능합니다."),
        ("RÜCKGABE", "Die Rückgabe ist kostenlos."),
        ("returning", "How to return an item"),
        ("Ｖｉｓａ", "We accept Visa."),
        ("возврат", "Возврат товара"),
    ],
)
def test_a_word_is_found_in_every_script(asked: str, page: str) -> None:
    """Chinese, Japanese and Korean without spaces, accents, endings, full width: the page is found, and no other."""
    db = _index("nothing of this kind", page)

    assert _found(db, asked) == [2]


def test_characters_and_pairs_stand_for_words_where_there_are_no_spaces() -> None:
    """A pair of Chinese characters counts beside the single ones, so that 退货 is more than 退 and 货 apart."""
    assert list(words("退货费 €4.95 ok")) == ["退", "货", "费", "退货", "货费", "4", "95", "ok"]
