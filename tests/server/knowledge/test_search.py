"""Questions to a knowledge file that changes while it is asked."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from server.errors import NotReady
from server.knowledge.search import KnowledgeSearch
from server.knowledge.vectors import Floats, pack_rows, unit
from server.knowledge_domain import SearchAsked
from tests.server.knowledge.sqlite_pages import Pages, PagesReader, passage

DIM = 64


def _vector(seed: int) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)[None])[0]


def _row(text: str, seed: int, **fields: object) -> tuple[object, Floats, Floats]:
    return passage(text, **fields), _vector(seed), _vector(seed)[None]


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return Pages(str(tmp_path / "pages.db"), DIM)


@pytest_asyncio.fixture
async def search(pages: Pages) -> AsyncIterator[KnowledgeSearch]:
    found = KnowledgeSearch(pages.reader)
    yield found
    await found.close()


async def _texts(search: KnowledgeSearch, text: str, seed: int | None = None, **fields: object) -> list[str]:
    vector_D = None if seed is None else _vector(seed)
    found = await search.search(SearchAsked(text=text, vector_D=vector_D, **fields))  # type: ignore[arg-type]
    return [hit.passage.text for hit in found.hits]


async def test_a_passage_is_found_by_its_words_and_by_its_vector(
    pages: Pages, search: KnowledgeSearch
) -> None:
    """Either way leads to it, and the hit says which way it was."""
    pages.change(
        [_row("Returns are free.", 1), _row("Delivery takes two days.", 2), _row("Gift cards expire.", 3)]
    )

    by_words = await search.search(SearchAsked(text="how long is delivery", vector_D=None))
    by_vector = await search.search(SearchAsked(text="xyzzy", vector_D=_vector(3)))

    assert [hit.passage.text for hit in by_words.hits] == ["Delivery takes two days."]
    assert by_words.hits[0].bm25_rank == 1
    assert math.isnan(by_words.hits[0].cosine)
    assert by_vector.hits[0].passage.text == "Gift cards expire."
    assert by_vector.hits[0].cosine == pytest.approx(1, abs=0.01)
    assert by_vector.hits[0].bm25_rank is None


async def test_a_change_is_seen_by_the_next_search_and_by_no_half(
    pages: Pages, search: KnowledgeSearch
) -> None:
    """After a change is acknowledged, new words and new vectors are there together, and the old ones are gone together."""
    (old,) = pages.change([_row("Returns within 14 days.", 1)])
    before = await search.search(SearchAsked(text="returns", vector_D=_vector(1)))

    pages.change([_row("Returns within 30 days.", 2)], removed=[old])
    after = await search.search(SearchAsked(text="returns", vector_D=_vector(1)))

    assert [hit.passage.text for hit in before.hits] == ["Returns within 14 days."]
    assert [hit.passage.text for hit in after.hits] == ["Returns within 30 days."]
    assert after.epoch == before.epoch + 1 == search.epoch()
    assert search.vectors == 1


async def test_searches_during_changes_each_see_one_epoch(pages: Pages, search: KnowledgeSearch) -> None:
    """A thousand searches beside a writer: each finds exactly the one version that its epoch has."""
    (at,) = pages.change([_row("version 2", 1)])
    done = asyncio.Event()

    def write() -> None:
        last = at
        for version in range(3, 203):  # an epoch a version
            (last,) = pages.change([_row(f"version {version}", 1)], removed=[last])

    async def read() -> int:
        seen = 0
        while not done.is_set():
            found = await search.search(SearchAsked(text="version", vector_D=_vector(1)))
            assert [hit.passage.text for hit in found.hits] == [f"version {found.epoch}"]
            seen += 1
        return seen

    async with asyncio.timeout(60):
        readers = [asyncio.create_task(read()) for _ in range(3)]
        try:
            await asyncio.to_thread(write)
        finally:
            done.set()
        assert sum(await asyncio.gather(*readers)) > 0
    assert await _texts(search, "version") == ["version 202"]


async def test_another_encoder_makes_every_older_vector_worthless(
    pages: Pages, search: KnowledgeSearch
) -> None:
    """When pages are encoded anew, all vectors are read anew, and none of before is found."""
    (old,) = pages.change([_row("Returns.", 1)])
    await search.start()

    pages.change([_row("Returns.", 2)], removed=[old], encoder="test/2")

    found = await search.search(SearchAsked(text="", vector_D=_vector(2)))
    assert [round(hit.cosine, 1) for hit in found.hits] == [1.0]
    assert search.passages == 1


async def test_passages_without_vectors_are_found_by_words(pages: Pages, search: KnowledgeSearch) -> None:
    """A page that the encoder cannot read is still found, and its cosine says nothing."""
    pages.change([(passage("退货免费。", language="zh"), None, None), _row("Delivery.", 1)])

    hits = (await search.search(SearchAsked(text="退货要钱吗", vector_D=_vector(7), language="zh"))).hits

    assert hits[0].passage.text == "退货免费。"
    assert math.isnan(hits[0].cosine)


async def test_a_vector_of_another_length_is_left_aside(pages: Pages, search: KnowledgeSearch) -> None:
    """Between two encoders words still answer."""
    pages.change([_row("Returns are free.", 1)])

    found = await search.search(SearchAsked(text="returns", vector_D=np.ones(DIM + 1, np.float32)))

    assert [hit.passage.text for hit in found.hits] == ["Returns are free."]


@pytest.mark.parametrize(
    "asked", ["", "   ", "🙂🙂", "\0\x01", '"', "NEAR(", "*", "the " * 5000, "\u202eabc"]
)
async def test_every_question_gets_an_answer(pages: Pages, search: KnowledgeSearch, asked: str) -> None:
    """Empty, emoji only, control characters, syntax, very long: never an error."""
    pages.change([_row("Returns are free.", 1)])

    await _texts(search, asked)
    assert await _texts(search, asked, seed=1) == ["Returns are free."]


async def test_an_empty_knowledge_base_finds_nothing(search: KnowledgeSearch) -> None:
    """No pages yet: no hits, and no error."""
    assert await _texts(search, "returns", seed=1) == []


async def test_no_more_hits_than_were_asked_for(pages: Pages, search: KnowledgeSearch) -> None:
    """k is kept, also where it is more than are usually read."""
    pages.change([_row(f"Page {chr(97 + at % 26)}{at} says something.", at) for at in range(200)])

    assert len(await _texts(search, "page says something", seed=3, k=3)) == 3
    assert len(await _texts(search, "page says something", seed=3, k=50)) == 50


async def test_a_file_that_cannot_be_read_is_told_and_tried_again(tmp_path: Path) -> None:
    """NotReady says why; when the file is there the next search succeeds."""
    pages: Pages | None = None

    def open_reader() -> PagesReader:
        if pages is None:
            raise NotReady("the knowledge file is locked; stop the other process")
        return pages.reader()

    search = KnowledgeSearch(open_reader)
    assert search.ready()[0] is False
    with pytest.raises(NotReady, match="locked"):
        await search.search(SearchAsked(text="returns", vector_D=None))
    assert search.ready() == (False, "the knowledge file is locked; stop the other process")
    pages = Pages(str(tmp_path / "pages.db"), DIM)
    pages.change([_row("Returns are free.", 1)])

    assert await _texts(search, "returns") == ["Returns are free."]
    assert search.ready() == (True, "")
    await search.close()
    with pytest.raises(NotReady, match="closed"):
        await search.search(SearchAsked(text="returns", vector_D=None))


async def test_vectors_that_are_none_are_told(pages: Pages, search: KnowledgeSearch) -> None:
    """A damaged row is an error that says what to do, and no answer from garbage."""
    pages.change([_row("Returns are free.", 1)])
    with sqlite3.connect(pages.path) as db:
        db.execute("UPDATE passages SET scan = x'0011'")

    with pytest.raises(NotReady, match="sync the pages again"):
        await search.start()
    with sqlite3.connect(pages.path) as db:
        db.execute("UPDATE passages SET scan = ?", (pack_rows(_vector(1)[None]),))
    assert await _texts(search, "returns", seed=1) == ["Returns are free."]
