"""What single words give, added up, is what the word index says of all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.knowledge.postings import Postings
from server.knowledge.words import match_expression
from tests.server.knowledge.sqlite_pages import Pages, passage

WORDS = ("kettle", "parcel", "refund", "oak", "delivery", "size", "运费", "退")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), min_size=1, max_size=30),
    asked=st.lists(st.sampled_from(WORDS), min_size=1, max_size=5, unique=True),
    limit=st.integers(1, 20),
)
def test_sums_of_single_words_are_the_word_indexs_own(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], asked: list[str], limit: int
) -> None:
    """The same passages, in the same order, with the same BM25 to the last bit; asked twice, from memory too."""
    pages = Pages(str(tmp_path_factory.mktemp("pages") / "pages.db"), 4)
    pages.change([(passage(" ".join(words), ordinal=at), None, None) for at, words in enumerate(texts)])
    postings = Postings()
    reader = pages.reader()
    with reader.view() as view:
        frequencies = {word: view.frequency(word) for word in asked}
        known = [word for word in asked if frequencies[word]]
        if not known:
            return
        whole = [(at, score) for at, score in view.match(match_expression(known), -1)]
        expected = sorted(whole, key=lambda pair: (-pair[1], pair[0]))[:limit]
        for _ in range(2):
            found = postings.best(view, known, [frequencies[word] for word in known], limit)
            assert found == expected
    reader.close()


def test_no_more_rows_are_remembered_than_may_be(tmp_path: Path) -> None:
    """The word not asked for longest goes first, and is found again all the same."""
    pages = Pages(str(tmp_path / "pages.db"), 4)
    pages.change([(passage("kettle parcel oak", ordinal=at), None, None) for at in range(10)])
    postings = Postings(most_rows=15)
    reader = pages.reader()
    with reader.view() as view:
        for word in ("kettle", "parcel", "oak", "kettle"):
            assert len(postings.best(view, [word], [10], 60)) == 10
    assert list(postings._kept) == ["kettle"] and postings._rows == 10
    reader.close()
