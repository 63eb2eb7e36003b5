"""``python -m server`` with an encoder that runs, a knowledge file and the sample shop's pages: the product as a shop has it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from build_engines.data.sample_page_examples import PAGES
from server.knowledge.store import KnowledgeStore
from server.knowledge_domain import Document
from tests.server.encoder_published import publish_tiny_encoder

PATH = "/v1/customer-service"
LIMIT_S = 60.0
ORDER = {"order_id": "A-1001", "status": "shipped", "expected_on": "2026-03-05", "carrier": "DHL"}


async def put_pages(file: Path) -> dict[str, str]:
    """The sample shop's pages in a knowledge file without vectors; their texts by id."""
    store = KnowledgeStore(file, None)
    texts = {}
    await store.start(follow=False)
    for path in sorted(PAGES.glob("*/*.md")):
        name = f"{path.parent.name}/{path.name}"
        texts[name] = path.read_text(encoding="utf-8")
        await store.put(Document(id=name, text=texts[name], language=path.parent.name))
    await store.close()
    return texts


@contextlib.asynccontextmanager
async def process(folder: Path, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """A server of its own; a client of it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")},
        "VITRINE_REPOSITORY": str(folder / "repository"),
        "VITRINE_KNOWLEDGE": str(folder / "knowledge.db"),
        "VITRINE_COPY_JOBS": str(folder / "jobs"),
        "VITRINE_TEXT_ENGINE": "off",
        "VITRINE_HTTP_PORT": "0",
        "VITRINE_METRICS_PORT": "0",
        "VITRINE_GRPC": "false",
        "VITRINE_SUPPORT_ANSWER_THRESHOLD": "0.2",
        "VITRINE_SUPPORT_WORDS_THRESHOLD": "0.2",
        **settings,
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            while found := await running.stdout.readline():
                match = re.search(rb"HTTP +(http:[^ ]+)", found)
                if match:
                    async with httpx.AsyncClient(base_url=match.group(1).decode(), timeout=30.0) as http:
                        yield http
                    return
            raise AssertionError("it did not start")
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def ask(http: httpx.AsyncClient, text: str, **more: Any) -> dict[str, Any]:
    response = await http.post(PATH, json={"messages": [{"role": "user", "content": text}], **more})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.timeout(120)
async def test_a_server_answers_from_the_pages_the_order_or_a_person(tmp_path: Path) -> None:
    """Quotes are byte-exact parts of the pages, in both languages; the order and a person answer on the same endpoint."""
    publish_tiny_encoder(tmp_path, tmp_path / "repository")
    texts = await put_pages(tmp_path / "knowledge.db")
    async with process(tmp_path) as http:
        english = await ask(http, "How much does express delivery cost?")
        chinese = await ask(http, "标准配送每单多少欧元")
        order = await ask(http, "Where is my order?", order=ORDER)
        person = await ask(http, "I want to talk to a human being, please")
        outside = await ask(http, "zzz qqq xxyyzz")

    for answer in (english, chinese):
        assert answer["served_by"] == "extractive", answer
        assert answer["knowledge_epoch"] >= 1 and answer["model"]["name"]
        for source in answer["sources"]:
            assert source["quote"] in texts[source["id"].partition("#")[0]]
    assert "€9.95" in english["answer"] and "4.95" in chinese["answer"]
    assert order["served_by"] == "order" and "5 March 2026" in order["answer"]
    assert person["handover"]["reason"] == "asked_for_person"
    assert outside["served_by"] == "handover" and outside["sources"] == []


@pytest.mark.timeout(120)
async def test_a_damaged_knowledge_file_hands_over_and_orders_are_still_answered(tmp_path: Path) -> None:
    """The server starts, says why in its log, and nobody gets a made-up answer."""
    publish_tiny_encoder(tmp_path, tmp_path / "repository")
    (tmp_path / "knowledge.db").write_bytes(b"this is no database" * 1000)
    async with process(tmp_path) as http:
        asked = await ask(http, "How much does express delivery cost?")
        order = await ask(http, "Where is my order?", order=ORDER)

    assert asked["served_by"] == "handover" and "knowledge" in asked["missing"]
    assert order["served_by"] == "order"
