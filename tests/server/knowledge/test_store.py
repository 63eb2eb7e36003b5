"""Documents in and out: durable, whole, versioned, and found at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.errors import InvalidRequest
from server.knowledge.reader import SqliteReader
from tests.server.knowledge.store_cases import WordEncoder, asked, open_store, page, searching

RETURNS = "# Returns\n\nYou may return an item within 30 days.\n\n## Costs\n\nA return label costs nothing.\n"


async def test_a_document_comes_back_as_it_was_put_in_and_is_found_at_once(tmp_path: Path) -> None:
    """What was acknowledged is found by the next search, by words and by vectors, and quoted as it stands."""
    async with open_store(tmp_path / "k.db", WordEncoder()) as store, searching(store) as search:
        document = page("en/returns.md", RETURNS, url="/help/returns", metadata={"team": "care"})
        written = await store.put(document)
        found = await search.search(asked("what does a return label cost"))
        kept = await store.get("en/returns.md")

    assert (written.version, written.passages, written.created, written.changed) == (1, 2, True, True)
    assert found.epoch == written.epoch
    best = found.hits[0]
    assert best.passage.text == "A return label costs nothing."
    assert (best.passage.url, best.passage.headings) == ("/help/returns#costs", ("Returns", "Costs"))
    assert best.cosine > 0.3
    assert best.bm25_rank is not None
    assert kept is not None
    assert kept[1] == document


async def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    """Putting in what is there is no new version and no new epoch."""
    async with open_store(tmp_path / "k.db") as store:
        first = await store.put(page("a", RETURNS))
        again = await store.put(page("a", RETURNS))
        other = await store.put(page("a", RETURNS + "\nMore.\n"))

    assert (again.epoch, again.version, again.changed) == (first.epoch, 1, False)
    assert (other.epoch, other.version, other.created) == (first.epoch + 1, 2, False)


async def test_a_change_leaves_nothing_of_what_was_there_before(tmp_path: Path) -> None:
    """After a change and after a deletion no word of the old text is found."""
    async with open_store(tmp_path / "k.db", WordEncoder()) as store, searching(store) as search:
        await store.put(page("a", "The giraffe is free."))
        await store.put(page("a", "The zebra is free."))
        giraffe = await search.search(asked("giraffe", by_vector=False))
        gone = await store.delete("a")
        zebra = await search.search(asked("zebra"))
        again = await store.delete("a")
        damage = await store.check()

    assert damage == []
    assert [hit.passage.text for hit in giraffe.hits] == []
    assert zebra.hits == ()
    assert zebra.epoch == gone.epoch
    assert (gone.changed, again.changed) == (True, False)


async def test_a_version_that_is_not_there_any_more_is_not_overwritten(tmp_path: Path) -> None:
    """Who has read version 1 does not overwrite version 2, and a new document does not take another's place."""
    async with open_store(tmp_path / "k.db") as store:
        await store.put(page("a", "One."))
        await store.put(page("a", "Two."))
        for expected in (1, 0):
            with pytest.raises(InvalidRequest, match="version 2"):
                await store.put(page("a", "Three."), expected_version=expected)
        with pytest.raises(InvalidRequest, match="not there"):
            await store.delete("b", expected_version=-1)
        kept = await store.get("a")
        third = await store.put(page("a", "Three."), expected_version=2)

    assert kept is not None
    assert kept[1].text == "Two."
    assert third.version == 3


async def test_without_the_encoder_words_find_a_document_at_once_and_vectors_follow(tmp_path: Path) -> None:
    """An encoder that is away delays nobody; when it is back, vectors come by themselves, under new ids."""
    encoder = WordEncoder()
    encoder.away = True
    async with open_store(tmp_path / "k.db", encoder, follow=True) as store, searching(store) as search:
        await store.put(page("a", RETURNS))
        by_words = await search.search(asked("return label"))
        encoder.away = False
        async with asyncio.timeout(10):
            while search.vectors < 2:
                await search.search(asked("return label"))
        after = await search.search(asked("return label"))
        standing = await store.standing()

    assert by_words.hits[0].passage.text == "A return label costs nothing."
    assert by_words.hits[0].cosine != by_words.hits[0].cosine, "there was no vector"
    assert after.hits[0].cosine > 0.5
    assert standing[1:] == (1, 2, 0)


async def test_vectors_of_another_encoder_version_are_made_anew_and_never_mixed(tmp_path: Path) -> None:
    """A new encoder version makes all vectors anew, with progress, and goes on after a restart where it stood."""
    path, encoder = tmp_path / "k.db", WordEncoder()
    async with open_store(path, encoder) as store:
        for at in range(40):
            await store.put(page(f"p{at}", f"Page {at} says number {at}."))
    encoder.version = "2"
    async with open_store(path, encoder) as store:
        async for done, waiting in store.encode_waiting():
            first = (done, waiting)
            break
    with SqliteReader(path).view() as view:
        half = (view.encoder, len(view.changes(None).added), view.waiting())
    async with open_store(path, encoder) as store:
        progress = [step async for step in store.encode_waiting()]
    with SqliteReader(path).view() as view:
        whole = view.changes(None)

    assert first == (16, 24)
    assert half == (("words/2", 64), 16, 24)
    assert progress == [(16, 8), (24, 0)]
    assert len(whole.added) == 40
    assert list(whole.added) == sorted(whole.added)


async def test_a_failing_encoder_is_asked_again(tmp_path: Path) -> None:
    """An engine that fails on a batch loses no vector."""
    encoder = WordEncoder()
    encoder.failing = 3
    async with open_store(tmp_path / "k.db", encoder, follow=True) as store:
        await store.put(page("a", RETURNS))
        async with asyncio.timeout(10):
            while (await store.standing())[3] or encoder.failing:
                await asyncio.sleep(0)
        with SqliteReader(store.path).view() as view:
            assert len(view.changes(None).added) == 2


async def test_a_passage_that_nobody_can_encode_is_not_asked_for_again(tmp_path: Path) -> None:
    """A passage without a readable sentence has no vector, and the others have theirs."""
    encoder = WordEncoder()
    async with open_store(tmp_path / "k.db", encoder) as store:
        await store.put(
            page("a", "# One\n\nReadable words are here, enough of them for a sentence.\n\n!!! ... !!!\n")
        )
        standing = await store.standing()

    assert standing[3] == 0


async def test_changes_of_one_document_are_made_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """Of many puts at once the last one stands, and each is a version."""
    encoder = WordEncoder()
    encoder.first_waits = True
    async with open_store(tmp_path / "k.db", encoder) as store:
        written = await asyncio.gather(*(store.put(page("a", f"Text number {at}.")) for at in range(30)))
        kept = await store.get("a")

    assert [one.version for one in written] == list(range(1, 31))
    assert kept is not None
    assert kept[1].text == "Text number 29."


async def test_no_search_ever_sees_a_half_written_state(tmp_path: Path) -> None:
    """While documents of two passages change hundreds of times, every answer shows both passages of one version."""
    async with open_store(tmp_path / "k.db", WordEncoder()) as store, searching(store) as search:

        async def change(name: str) -> None:
            for at in range(60):
                text = f"# {name}\n\n## Left\n\nThe {name}left is of state{at}.\n\n## Right\n\nThe {name}right is of state{at}.\n"
                await store.put(page(name, text))

        async def look(name: str) -> int:
            seen = 0
            while not writers.done():
                found = await search.search(asked(f"{name}left {name}right"))
                mine = [hit.passage for hit in found.hits if hit.passage.document_id == name]
                states = {passage.text.rsplit(" ", 1)[1] for passage in mine}
                assert len(mine) in (0, 2), found
                assert len(states) <= 1, found
                seen += bool(mine)
            return seen

        writers = asyncio.gather(*(change(name) for name in ("alpha", "beta", "gamma")))
        seen = await asyncio.gather(look("alpha"), look("beta"), writers)
        standing = await store.standing()

    assert min(seen[:2]) > 3
    assert standing == (1 + 1 + 180, 3, 6, 0)


async def test_documents_are_listed_page_by_page(tmp_path: Path) -> None:
    """All documents come, in the order of their ids, each once."""
    async with open_store(tmp_path / "k.db") as store:
        for at in (3, 1, 2, 5, 4):
            await store.put(page(f"d{at}", f"Number {at}."))
        after, ids = "", []
        while True:
            _, some = await store.listed(after, 2)
            if not some:
                break
            ids += [one.id for one in some]
            after = some[-1].id

    assert ids == ["d1", "d2", "d3", "d4", "d5"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (page("a b", "Text."), "letters, digits"),
        (page("a", ""), "empty"),
        (page("a", " \n\ufeff"), "empty"),
        (page("a", "Te\x00xt."), "control character U\\+0000 at character 2"),
        (page("a", "Te\ud800xt."), "half of a surrogate pair"),
        (page("a", "x" * (4 << 20) + "x"), "4194305 bytes; 4194304 at most"),
        (page("a", "---"), "nothing that could be quoted"),
        (page("a", "Text.", url="javascript:alert(1)"), "url is"),
        (page("a", "Text.", language="??"), "language is"),
        (page("a", "Text.", title="x" * 501), "title has 501"),
        (page("a", "Text.", metadata={"": "x"}), "metadata has a name"),
    ],
)
async def test_a_wrong_document_is_refused_with_a_sentence(
    tmp_path: Path, document: object, words: str
) -> None:
    """What cannot be kept is said, with the field and the limit, and nothing has changed."""
    async with open_store(tmp_path / "k.db") as store:
        with pytest.raises(InvalidRequest, match=words) as refused:
            await store.put(document)  # type: ignore[arg-type]
        assert refused.value.field
        assert (await store.standing())[1] == 0
