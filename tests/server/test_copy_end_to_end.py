"""The product as a fresh server has it: its own rules and templates, no model, and a model that lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.copy_lies import StubbornWriter, examples, planted
from bench.copy_quality import within_limits
from server.app import Application
from server.copy_domain import Channel, CopyRequest, CopyText, Language, ProductRecord
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.pipelines.product_copy.rules import open_rules
from server.pipelines.product_copy.style_rules import BadStyleFile
from server.settings import Settings
from tests.server.fake_recommender import FakeRecommender
from tests.server.serving import LIMIT_S, Serving

PATH = "/v1/product-copy"
KETTLE: dict[str, Any] = {
    "title": "Brimora Kettle 1.7 l, black",
    "brand": "Brimora",
    "category": "Kettles",
    "attributes": {"capacity": "1.7 l", "colour": "black", "material": "stainless steel", "power": "2200 W"},
    "price": 39.9,
    "currency": "EUR",
    "description": "Boils a litre in three minutes. Cheap and cheerful.",
}


@asynccontextmanager
async def fresh_server(folder: Path, **overrides: Any) -> AsyncIterator[Serving]:
    fake = FakeRecommender()
    ports = {
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
        "grpc": False,
        "text_engine": "off",
        "encoder": False,
    }
    settings = Settings.from_env({}, **{**ports, "copy_jobs": folder / "jobs", **overrides})
    app = Application(settings, lambda *_: fake)
    await app.start()
    running = Serving(app, fake)
    try:
        async with asyncio.timeout(2 * LIMIT_S):
            yield running
    finally:
        await running.stop()


async def test_a_fresh_server_answers_for_every_channel_and_language(tmp_path: Path) -> None:
    """Without a model, from the templates; lengths hold and every claim has its place in the record."""
    async with fresh_server(tmp_path) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        for channel in Channel:
            for language in Language:
                body = {"product": KETTLE, "channel": channel, "language": language, "max_words": 60}
                told = await http.post(PATH, json=body)
                assert told.status_code == 200, told.text
                answer = told.json()
                assert (answer["served_by"], answer["fallback_reason"]) == ("fallback", "no_model")
                (variant,) = answer["variants"]
                text = CopyText(
                    headline=variant["headline"],
                    description=variant["description"],
                    bullets=tuple(variant["bullets"]),
                )
                request = CopyRequest(
                    product=ProductRecord(title="-"), channel=channel, language=language, max_words=60
                )
                assert within_limits(request, text), text
                assert "Brimora" in variant["headline"]
                assert variant["checks"]["claims"]
                assert all(claim["source"] and claim["quote"] for claim in variant["checks"]["claims"])


async def test_the_shops_own_rules_hold_and_a_mistake_in_them_stops_the_start(tmp_path: Path) -> None:
    """A banned word is in no copy, not even where the record has it."""
    style = tmp_path / "style.toml"
    style.write_text('banned_terms = ["cheap*"]\nprices = false\n')
    async with (
        fresh_server(tmp_path, copy_style=style) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
    ):
        told = (await http.post(PATH, json={"product": KETTLE, "channel": "marketplace"})).text
    assert "cheap" not in told.lower()
    assert "39.9" not in told

    style.write_text('baned_terms = ["cheap"]\n')
    settings = Settings.from_env({}, copy_style=style, encoder=False)
    with pytest.raises(BadStyleFile, match="'baned_terms' is no rule"):
        Application(settings, lambda *_: FakeRecommender(), lambda *_: None)


async def test_a_model_that_lies_and_lies_again_never_gets_a_lie_out() -> None:
    """One falsehood a record, of each kind in both languages, repeated whenever the part is asked for again."""
    writer = StubbornWriter()
    pipeline = CopyPipeline(writer, *open_rules(None))
    try:
        for lie in planted(examples(), 40):
            writer.text = lie.text
            (variant,) = (await pipeline.write(lie.request, emit=lambda _: None)).variants
            said = " ".join(part for _, part in variant.text.parts()).casefold()
            assert lie.words.casefold() not in said, (lie.kind, variant.text)
            assert within_limits(lie.request, variant.text)
    finally:
        pipeline.close()
