"""A folder's files into a knowledge base, here and over HTTP, and out of one and into another."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from server.errors import InvalidRequest
from server.http_api.knowledge.endpoint import KnowledgeEndpoint
from server.keys import Keys
from server.knowledge.__main__ import KEY, main
from server.knowledge.document_limits import DocumentLimits, check_id
from server.knowledge.reader import SqliteReader
from server.knowledge.store import KnowledgeStore
from server.knowledge.sync import files_of
from server.knowledge_domain import Document
from server.logs import AccessLog


def documents(path: Path) -> dict[str, tuple[int, str]]:
    """Version and text by id."""
    reader = SqliteReader(path)
    with reader.view() as view:
        kept = {one.id: view.document(one.id) for one in view.listed("", 100)}
    reader.close()
    return {at: (found[0].version, found[1].text) for at, found in kept.items() if found is not None}


@contextmanager
def served(path: Path) -> Iterator[str]:
    """A knowledge file behind a real server with a key."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    store = KnowledgeStore(path, None)
    endpoint = KnowledgeEndpoint(store, AccessLog(0.0), Keys(("secret",)))
    app = Starlette(routes=[Route(at, endpoint, methods=list(methods)) for at, methods in endpoint.paths])
    server = Server(uvicorn.Config(app, log_level="error", lifespan="off"))

    async def serve() -> None:
        await store.start()
        await server.serve(sockets=[bound])
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pages = tmp_path / "pages"
    (pages / "zh").mkdir(parents=True)
    (pages / "returns.md").write_text("# Returns\n\nWithin 30 days.\n")
    (pages / "zh" / "returns.md").write_text("# 退货\n\n三十天内。\n")
    (pages / "faq.csv").write_text("question,answer\nHow long?,Three days.\n")
    (pages / "logo.png").write_bytes(b"\x89PNG")
    (pages / ".draft.md").write_text("No.")
    return pages


@pytest.mark.parametrize("over_http", [False, True])
def test_only_what_has_changed_is_sent_and_what_vanished_is_taken_away(
    folder: Path,
    tmp_path: Path,
    over_http: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second run changes nothing; a third puts what changed, deletes what vanished, and leaves others' documents."""
    path = tmp_path / "k.db"
    monkeypatch.setenv(KEY, "secret")
    (tmp_path / "own.jsonl").write_text('{"id": "own", "text": "By hand."}\n')
    with served(path) if over_http else contextmanager(lambda: iter([""]))() as url:
        where = ["--url", url] if over_http else ["--knowledge", str(path)]
        sync = ["sync", str(folder), *where]
        assert main([*sync, "--dry-run"]) == 0
        assert over_http or not path.exists(), "a dry run makes nothing"
        assert main(["import", str(tmp_path / "own.jsonl"), *where]) == 0
        assert main(sync) == 0
        assert main(sync) == 0
        first = documents(path)
        (folder / "returns.md").write_text("# Returns\n\nWithin 60 days.\n")
        (folder / "faq.csv").unlink()
        assert main(sync) == 0
        second = documents(path)

    told = [line for line in capsys.readouterr().out.splitlines() if " put, " in line]
    assert set(first) == {"own", "returns.md", "zh/returns.md", "faq.csv"}
    assert second == {
        "own": first["own"],
        "zh/returns.md": first["zh/returns.md"],
        "returns.md": (2, "# Returns\n\nWithin 60 days.\n"),
    }
    assert told[2:] == [
        "3 put, 0 deleted, 0 unchanged, 0 rejected",
        "0 put, 0 deleted, 3 unchanged, 0 rejected",
        "1 put, 1 deleted, 1 unchanged, 0 rejected",
    ]


def test_what_is_rejected_is_said_with_its_reason_and_the_rest_goes_in(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Empty files, wrong bytes and wrong lines are named; what was there of them stays; the exit status tells."""
    path = tmp_path / "k.db"
    where = ["--knowledge", str(path)]
    assert main(["sync", str(folder), *where]) == 0
    (folder / "empty.md").write_text("")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "faq.csv").write_text("question,answer\nHow long?\n")
    capsys.readouterr()

    assert main(["sync", str(folder), *where]) == 1

    told = capsys.readouterr().err
    assert "empty.md: text of document empty.md is empty" in told
    assert "bytes.txt: is not UTF-8 at byte 0" in told
    assert "faq.csv: text: line 2 has no answer" in told
    assert documents(path)["faq.csv"][1].endswith("Three days.\n")


def test_an_export_is_imported_as_it_was(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every document comes back with all its fields; a wrong line is named."""
    first, second, lines = tmp_path / "1.db", tmp_path / "2.db", tmp_path / "all.jsonl"
    assert main(["sync", str(folder), "--knowledge", str(first)]) == 0
    assert main(["export", str(lines), "--knowledge", str(first)]) == 0
    assert main(["import", str(lines), "--knowledge", str(second)]) == 0
    assert documents(first) == documents(second)
    assert main(["check", "--knowledge", str(second)]) == 0
    assert [msgspec.json.decode(line)["metadata"]["sync_source"] for line in lines.open("rb")] == [
        "pages"
    ] * 3

    lines.write_text('{"id": "x", "text": "Yes."}\n{"id": "y"}\n')
    assert main(["import", str(lines), "--knowledge", str(second)]) == 1
    assert "line 2" in capsys.readouterr().err
    assert "x" in documents(second)


def test_a_server_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to reach, no folder, no file: one sentence and exit status 2."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["sync", str(folder), "--url", f"http://127.0.0.1:{port}"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["sync", str(folder / "none"), "--url", "http://127.0.0.1:1"]) == 2
    assert main(["check", "--url", "http://127.0.0.1:1"]) == 2


def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    """What lies elsewhere is nobody's page, however it is linked; a link inside the folder is one."""
    pages, elsewhere = tmp_path / "pages", tmp_path / "private.txt"
    pages.mkdir()
    elsewhere.write_text("not for shoppers", encoding="utf-8")
    (pages / "page.md").write_text("# Page\n\nText.", encoding="utf-8")
    (pages / "out.txt").symlink_to(elsewhere)
    (pages / "again.md").symlink_to(pages / "page.md")

    assert [path.name for path in files_of(pages)] == ["again.md", "page.md"]


def test_an_emptied_folder_deletes_nothing_unless_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong folder, or a mount that is not there, is not taken for a wish to have no pages."""
    folder, file = tmp_path / "pages", tmp_path / "knowledge.db"
    folder.mkdir()
    page = folder / "a.md"
    page.write_text("# A\n\nA page about kettles.\n", encoding="utf-8")
    command = ["sync", str(folder), "--knowledge", str(file)]
    assert main(command) == 0
    page.unlink()

    assert main(command) == 2
    assert (
        "1 documents of it would be deleted" in (said := capsys.readouterr().err) and "--allow-empty" in said
    )
    assert main([*command, "--dry-run"]) == 2
    assert list(documents(file)) == ["a.md"]
    assert main([*command, "--allow-empty"]) == 0
    assert documents(file) == {}


def test_an_output_that_is_full_is_told_in_a_sentence(tmp_path: Path) -> None:
    """No trace, and an exit status that says so."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    folder, file = tmp_path / "pages", tmp_path / "knowledge.db"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nA page about kettles.\n", encoding="utf-8")
    assert main(["sync", str(folder), "--knowledge", str(file)]) == 0
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "server.knowledge", "export", "-", "--knowledge", str(file)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert done.returncode == 2 and "standard output cannot be used" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("document_id", ["../a", "a/../b", "/a", "a/./b", ".."])
def test_an_id_that_paths_would_resolve_is_refused(document_id: str) -> None:
    """A client would ask for another document than it means."""
    with pytest.raises(InvalidRequest, match=r"\.\."):
        check_id(document_id)


def test_half_a_surrogate_pair_is_called_so() -> None:
    """It is no control character."""
    with pytest.raises(InvalidRequest, match="half of a surrogate pair"):
        DocumentLimits().check(Document(id="a", text="A page \ud800 of text."))
