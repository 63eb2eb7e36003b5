"""The second stage in a whole server: both wires, new versions, damage, and load."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from server.app import Application
from server.artifacts.errors import ArtifactError
from server.artifacts.releases import Releases
from server.artifacts.repository import open_version
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from server.pipelines.rerank_loading import load_reranker
from server.settings import Settings
from tests.server.tiny_rerank import CANDIDATES, expected_order, publish_tiny_reranker
from tests.tiny import Tiny, publish_tiny

MODEL = "tiny-rerank"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return publish_tiny(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def repository(shop: Tiny, tmp_path: Path) -> Path:
    """The tiny shop's recommender, and room for re-rankers."""
    (tmp_path / "tiny").symlink_to(shop.repository / "tiny")
    return tmp_path


@asynccontextmanager
async def running(repository: Path, **overrides: Any) -> AsyncIterator[Application]:
    settings = {
        "repository": repository, "model": "tiny", "reranker": MODEL, "reload_interval_s": 0.0, "http_port": 0, "grpc_port": 0,
        "metrics_port": 0, "text_engine": "off", "encoder": False, "copy": False, "support": False, "default_deadline_ms": 5000.0,
    }  # fmt: skip
    app = Application(Settings.from_env({}, **{**settings, **overrides}))
    await app.start()
    try:
        async with asyncio.timeout(30):
            yield app
    finally:
        await app.stop()


async def asked(app: Application, **body: Any) -> tuple[dict[str, Any], str]:
    """An answer over HTTP, and its ``Server-Timing``."""

    def send() -> tuple[dict[str, Any], str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{app.http_port}/v1/recommendations",
            json.dumps({"history": ["sku-5", "sku-9"], "k": 4, **body}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer), answer.headers["server-timing"]

    return await asyncio.to_thread(send)


def items(answer: dict[str, Any]) -> list[str]:
    return [one["item_id"] for one in answer["items"]]


async def test_both_wires_give_the_re_rankers_best_of_the_first_stages_best(
    repository: Path, shop: Tiny
) -> None:
    """Ten candidates of the recommender in another order; the same on HTTP and gRPC, with its time and its mark."""
    publish_tiny_reranker(repository, shop.item_ids)
    async with running(repository) as app:
        plain, _ = await asked(app, rerank=False, k=CANDIDATES)
        ranked, timing = await asked(app)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
            stub = RecommendationsStub(channel)
            message = pb.RecommendRequest(history=["sku-5", "sku-9"], k=4)
            call = stub.Recommend(message, timeout=5)
            over_grpc = await call
            trailing = dict(await call.trailing_metadata() or ())
            message.rerank = False
            own_order = await stub.Recommend(message, timeout=5)
        models = await asyncio.to_thread(
            lambda: json.load(urllib.request.urlopen(f"http://127.0.0.1:{app.http_port}/v1/models"))
        )
        outcomes = dict(app.model.outcomes)  # type: ignore[attr-defined]
        listed = [model.name for model in app.service.models()]

    assert items(ranked) == expected_order(items(plain))[:4]
    assert (
        ranked["ranked_by"] == "reranker" and ranked["timings_ms"]["rerank"] > 0 and "rerank;dur=" in timing
    )
    assert plain["ranked_by"] == "recommender" and ranked["served_by"] == "model"
    assert [one.item_id for one in over_grpc.items] == items(ranked)
    assert over_grpc.ranked_by == "reranker" and over_grpc.timings_ms.rerank_ms > 0
    assert "rerank;dur=" in str(trailing["server-timing"])
    assert [one.item_id for one in own_order.items] == items(plain)[
        :4
    ] and own_order.ranked_by == "recommender"
    assert outcomes["reranked"] == 2 and outcomes["off"] == 2
    assert listed == ["tiny", MODEL]
    assert models["data"][1]["limits"] == {"max_batch": 80, "max_candidates": CANDIDATES, "max_history": 5}


async def test_without_a_re_ranker_an_answer_says_nothing_of_one(repository: Path) -> None:
    """Whoever configures none gets the very answers that they got."""
    async with running(repository, reranker="") as app:
        answer, timing = await asked(app)

    assert "ranked_by" not in answer and "rerank" not in answer["timings_ms"] and "rerank" not in timing


async def test_a_new_version_takes_over_under_load_and_a_rollback_gives_it_back(
    repository: Path, shop: Tiny
) -> None:
    """No request fails or waits, and each answer is wholly of one version."""
    publish_tiny_reranker(repository, shop.item_ids)
    async with running(repository) as app:
        plain, _ = await asked(app, rerank=False, k=CANDIDATES)
        up, down = expected_order(items(plain))[:4], expected_order(items(plain), -1.0)[:4]
        found: list[list[str]] = []

        async def load(count: int) -> None:
            for _ in range(count):
                answer, _ = await asked(app)
                assert answer["ranked_by"] == "reranker"
                found.append(items(answer))

        at_work = [asyncio.create_task(load(12)) for _ in range(3)]
        await asyncio.to_thread(publish_tiny_reranker, repository, shop.item_ids, weight=-1.0)
        assert app.reranker is not None and await app.reranker.check_for_new_version()
        await asyncio.gather(*at_work)
        assert items((await asked(app))[0]) == down

        await asyncio.to_thread(Releases(repository=repository).rollback, MODEL)
        assert await app.reranker.check_for_new_version()
        assert items((await asked(app))[0]) == up
    assert all(one in (up, down) for one in found)


async def test_a_damaged_version_is_refused_and_the_one_before_goes_on(repository: Path, shop: Tiny) -> None:
    """Features that changed after they were judged are found by their golden lists, or by their bytes."""
    publish_tiny_reranker(repository, shop.item_ids)
    async with running(repository) as app:
        opened = publish_tiny_reranker(repository, shop.item_ids, weight=-1.0)
        (opened.folder / "features.json").write_bytes(b"{}")
        assert app.reranker is not None and not await app.reranker.check_for_new_version()
        answer, _ = await asked(app)

    assert answer["ranked_by"] == "reranker"
    assert app.reranker.reload_failures["refused"] == 1


async def test_a_server_starts_without_a_re_ranker_that_cannot_be_loaded(
    repository: Path, shop: Tiny
) -> None:
    """It serves the first stage's order, says why, and takes up the version that mends it."""
    opened = publish_tiny_reranker(repository, shop.item_ids)
    (opened.folder / "model.onnx").write_bytes(b"cut short")
    async with running(repository) as app:
        answer, _ = await asked(app)
        degraded = app.service.degraded()
        ready, _ = app.service.ready()
        publish_tiny_reranker(repository, shop.item_ids)
        assert app.reranker is not None and await app.reranker.check_for_new_version()
        mended, _ = await asked(app)

    assert answer["ranked_by"] == "recommender" and len(answer["items"]) == 4
    assert ready and any(MODEL in reason for reason in degraded)
    assert mended["ranked_by"] == "reranker"


async def test_a_name_that_is_no_re_ranker_stops_the_start(repository: Path) -> None:
    """A typing error must not silently switch a stage off."""
    for name in ("tiny", "not-there"):
        with pytest.raises(ArtifactError, match=r"no re-ranker .*VITRINE_RERANKER"):
            async with running(repository, reranker=name):
                pass


async def test_candidates_may_be_fewer_than_the_version_takes(repository: Path, shop: Tiny) -> None:
    """Fewer are faster; the others follow in the first stage's order."""
    publish_tiny_reranker(repository, shop.item_ids)
    async with running(repository, rerank_candidates=3) as app:
        plain, _ = await asked(app, rerank=False)
        ranked, _ = await asked(app)

    assert items(ranked) == [*expected_order(items(plain)[:3]), items(plain)[3]]


async def test_a_batch_of_shoppers_is_ranked_together(repository: Path, shop: Tiny) -> None:
    """Rows of different requests share engine runs, and each gets its own order."""
    publish_tiny_reranker(repository, shop.item_ids)
    async with running(repository) as app:
        assert app.reranker is not None
        histories = [[f"sku-{row}"] for row in range(1, 17)]

        def send(rerank: bool) -> list[dict[str, Any]]:
            entries = [{"history": one, "k": CANDIDATES, "rerank": rerank} for one in histories]
            request = urllib.request.Request(
                f"http://127.0.0.1:{app.http_port}/v1/recommendations/batch",
                json.dumps({"requests": entries}).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                return list(json.load(answer)["results"])

        plain, ranked = await asyncio.to_thread(send, False), await asyncio.to_thread(send, True)

    assert [items(one) for one in ranked] == [expected_order(items(one)) for one in plain]
    assert all(one["ranked_by"] == "reranker" for one in ranked)


def test_golden_lists_find_features_that_are_made_otherwise(repository: Path, shop: Tiny) -> None:
    """A table that is another one than in the gate, with bytes that the manifest knows, still ranks by other logits."""
    opened = publish_tiny_reranker(repository, shop.item_ids)
    tables = opened.constants(mmap=False)
    tables["log_popularity_N"] = tables["log_popularity_N"][::-1].copy()
    broken = open_version(opened.folder)

    class Swapped(type(broken)):  # type: ignore[misc]
        def constants(self, *, mmap: bool = True) -> Any:
            return tables

    with pytest.raises(ArtifactError, match="golden list 0 is ranked by other logits"):
        load_reranker(Swapped(manifest=broken.manifest, folder=broken.folder))
