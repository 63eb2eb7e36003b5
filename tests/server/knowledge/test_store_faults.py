"""What can befall a knowledge file: nothing acknowledged is lost, nothing half is seen, and each fault is a sentence."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from server.errors import NotReady
from server.knowledge.file_faults import KnowledgeFault
from server.knowledge.file_writer import FileWriter
from server.knowledge.reader import SqliteReader
from server.knowledge.schema import VERSION, open_to_read, open_to_write
from tests.server.knowledge.store_cases import asked, open_store, page, searching

WRITER = """
import asyncio, sys
from pathlib import Path
from server.knowledge.store import KnowledgeStore
from server.knowledge_domain import Document

async def main():
    store = KnowledgeStore(Path(sys.argv[1]), None)
    await store.start()
    for at in range(100_000):
        text = f"# State {at}\\n\\n## Left\\n\\nLeft {at}.\\n\\n## Right\\n\\nRight {at}.\\n"
        await store.put(Document(id=f"page{at % 7}", text=text))
        print(at, flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """A process that is killed while it writes leaves every acknowledged document, whole."""
    path = tmp_path / "k.db"
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert process.stdout is not None
        acknowledged = -1
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged == 60:
                os.kill(process.pid, signal.SIGKILL)
                break
        for line in process.stdout:  # what it had acknowledged by then
            if line.endswith("\n"):
                acknowledged = int(line)
        process.wait(30)
        process.stdout.close()

        reader = SqliteReader(path)
        with reader.view() as view:
            for state in range(acknowledged - 6, acknowledged + 1):
                found = view.document(f"page{state % 7}")
                assert found is not None
                there = int(found[1].text.split()[2])
                assert there in (state, state + 7), "the one that was acknowledged, or the one under way"
                texts = [passage.text for passage in view.passages_of(f"page{state % 7}")]
                assert texts == [f"Left {there}.", f"Right {there}."]
        reader.close()
        writer = FileWriter(path, lambda: 0.0)
        assert writer.check() == []
        writer.close()


async def test_a_file_that_another_process_holds_is_said_to_be_locked(tmp_path: Path) -> None:
    """While another process writes, a change is refused with a sentence, searches go on, and later all is well."""
    path = tmp_path / "k.db"
    async with open_store(path) as store, searching(store) as search:
        await store.put(page("a", "The kettle is blue."))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store._writer is not None
        store._writer._db.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(KnowledgeFault, match="locked by another process"):
            await store.put(page("b", "The mug is red."))
        assert not store.ready()[0]
        found = await search.search(asked("kettle"))
        other.execute("ROLLBACK")
        other.close()
        await store.put(page("b", "The mug is red."))
        assert store.ready()[0]

    assert found.hits[0].passage.text == "The kettle is blue."


async def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    """A document for which there is no room is refused whole; what was there is found on."""
    path = tmp_path / "k.db"
    async with open_store(path) as store, searching(store) as search:
        before = await store.put(page("a", "The kettle is blue."))
        assert store._writer is not None
        pages = store._writer._db.execute("PRAGMA page_count").fetchone()[0]
        store._writer._db.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(KnowledgeFault, match=r"disk .* is full"):
            await store.put(page("a", "The kettle is green now. " * 20_000))
        found = await search.search(asked("kettle"))
        after = await store.put(page("a", "The kettle is red."))

    assert found.hits[0].passage.text == "The kettle is blue."
    assert found.epoch == before.epoch
    assert after.version == 2


async def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    """A file of something else, and one with a hole in it, are named with what to do."""
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"this is no database at all, but a text that is long enough to be looked at" * 40)
    with pytest.raises(KnowledgeFault, match="damaged"):
        open_to_write(broken)

    path = tmp_path / "k.db"
    async with open_store(path) as store:
        for at in range(50):
            await store.put(page(f"p{at}", f"Page {at} has words. " * 50))
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 20))
    async with open_store(path) as store:
        try:
            found = await store.check()
        except NotReady as error:
            found = [error.message]
    assert found


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    """A newer version, and another program's database, are refused with both numbers, and not changed."""
    path = tmp_path / "k.db"
    db = open_to_write(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    other = tmp_path / "other.db"
    foreign = sqlite3.connect(other)
    foreign.execute("CREATE TABLE customers (name TEXT)")
    foreign.commit()
    foreign.close()
    for opened in (open_to_write, open_to_read):
        with pytest.raises(KnowledgeFault, match=f"version {VERSION + 1}, this program knows {VERSION}"):
            opened(path)
        with pytest.raises(KnowledgeFault, match="not of this program"):
            opened(other)
    with pytest.raises(KnowledgeFault, match="there is no knowledge file"):
        open_to_read(tmp_path / "none.db")


async def test_a_file_that_may_only_be_read_is_searched_and_not_written(tmp_path: Path) -> None:
    """Without the right to write, a change is refused with a sentence, and searches go on."""
    path = tmp_path / "k.db"
    async with open_store(path) as store:
        await store.put(page("a", "The kettle is blue."))
    async with open_store(path) as store, searching(store) as search:
        assert store._writer is not None
        store._writer._db.execute(
            "PRAGMA query_only = ON"
        )  # root may write anything, so the file's mode says nothing
        with pytest.raises(KnowledgeFault, match="can only be read"):
            await store.put(page("b", "The mug is red."))
        found = await search.search(asked("kettle"))

    assert found.hits[0].passage.text == "The kettle is blue."
