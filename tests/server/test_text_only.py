"""Servers of texts alone, of recommendations alone, and of neither: each is ready for what it has and says what it has not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from server.__main__ import _welcome
from server.app import Application
from server.artifacts.errors import ArtifactError
from server.pipelines.live_model import _only_model
from server.pipelines.no_recommender import NothingPublished
from server.pipelines.text_names import text_model_name, text_model_names
from server.published import open_published
from server.settings import Settings
from tests.server.artifact_cases import make_manifest, write_manifest
from tests.server.fake_text import FakeText
from tests.server.serving import LIMIT_S, post, serving
from tests.server.text_serving import MESSAGES

SAMPLE = {"history": ["sku-1"], "k": 3}


@contextlib.asynccontextmanager
async def texts_only(repository: Path, **more: Any) -> AsyncIterator[tuple[Application, str]]:
    """A server over an empty repository, with a text model."""
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0, "drain_s": 1.0}
    settings = Settings.from_env({}, repository=repository, **ports, **more)
    app = Application(settings, open_published, lambda *_: FakeText())
    await app.start()
    await app.warm()
    try:
        async with asyncio.timeout(LIMIT_S):
            yield app, f"http://127.0.0.1:{app.http_port}"
    finally:
        await app.stop()


async def test_texts_are_served_without_a_recommender(own_repository: Path) -> None:
    """Ready, listed, documented; recommendations are a 404 that says so."""
    async with texts_only(own_repository) as (app, url), httpx.AsyncClient(base_url=url) as client:
        ready = await client.get("/readyz")
        models = (await client.get("/v1/models")).json()["data"]
        chat = await client.post("/v1/chat/completions", json={"messages": MESSAGES})
        recommend = await client.post("/v1/recommendations", json=SAMPLE)
        paths = (await client.get("/openapi.json")).json()["paths"]
        welcome = _welcome(app)

    assert ready.status_code == 200 and [model["id"] for model in models] == ["writer"]
    assert chat.json()["choices"][0]["message"]["content"] == "echo: a blue mug"
    assert (
        recommend.status_code == 404
        and "no recommender is served here" in recommend.json()["error"]["message"]
    )
    assert "/v1/chat/completions" in paths and "/v1/recommendations" not in paths
    assert "writer version 7: texts of up to 4,096 tokens" in welcome and "/v1/chat/completions" in welcome


async def test_recommendations_are_served_without_texts() -> None:
    """The text paths are a 404 in OpenAI's form that lists what there is."""
    async with serving() as server, httpx.AsyncClient(base_url=server.url) as client:
        chat = await client.post("/v1/chat/completions", json={"messages": MESSAGES})
        recommend = await server.connect()
        recommend.send(post(SAMPLE))
        status, _, _ = await recommend.answer()
        paths = (await client.get("/openapi.json")).json()["paths"]

    error = chat.json()["error"]
    assert chat.status_code == 404 and error["type"] == "not_found_error" and "/v1/models" in error["message"]
    assert status == 200 and "/v1/chat/completions" not in paths


def test_a_server_without_anything_does_not_start(own_repository: Path) -> None:
    """Neither kind of model is there: the sentence says how to build one."""
    settings = Settings.from_env({}, repository=own_repository)
    with pytest.raises(NothingPublished, match="no recommender is published there; build one"):
        Application(settings)


def write_version(repository: Path, name: str, task: str) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "golden.npz").write_bytes(b"answers")
    limits = {
        "max_context": 64,
        "vocab_size": 99,
        "max_chunk": 8,
        "max_batch": 1,
        "max_history": 1,
        "max_k": 1,
        "max_exclude": 0,
    }
    manifest = make_manifest(folder, model=name, version="1")
    write_manifest(folder, msgspec.structs.replace(manifest, task=task, constants=(), limits=limits))
    (repository / name / "CURRENT").write_text("1")


def test_the_text_model_is_found_by_its_task(own_repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    """None, the only one, the first of several (and the log says so), the wanted one, or a refusal that lists them."""
    assert text_model_name(own_repository) is None
    write_version(own_repository, "shop", "recommendation")
    assert text_model_name(own_repository) is None
    write_version(own_repository, "writer-b", "text_generation")
    assert text_model_name(own_repository) == "writer-b"
    write_version(own_repository, "writer-a", "text_generation")
    with caplog.at_level(logging.INFO, "vitrine.text"):
        assert text_model_name(own_repository) == "writer-a"
    assert "several text models" in caplog.text
    assert text_model_name(own_repository, "writer-b") == "writer-b"
    for wrong in ("shop", "none"):
        with pytest.raises(ArtifactError, match="there are: writer-a, writer-b"):
            text_model_name(own_repository, wrong)


def test_a_broken_model_is_left_out_unless_it_is_the_wanted_one(own_repository: Path) -> None:
    """A folder that cannot be read hides no other; asked for by name, its own sentence is told."""
    write_version(own_repository, "good", "text_generation")
    write_version(own_repository, "bad", "text_generation")
    (own_repository / "bad" / "1" / "manifest.json").write_bytes(b"{")

    assert text_model_names(own_repository) == ["good"]
    with pytest.raises(ArtifactError, match="not a manifest"):
        text_model_name(own_repository, "bad")


def no_golden(model: Path) -> None:
    (model / "1" / "golden.npz").unlink()


def cut_engine(model: Path) -> None:
    (model / "1" / "model.onnx").write_bytes(b"gr")


def newer_schema(model: Path) -> None:
    manifest = model / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 999'))


def lost_version(model: Path) -> None:
    (model / "CURRENT").write_text("77")


def no_manifest(model: Path) -> None:
    (model / "1" / "manifest.json").unlink()


DAMAGES: dict[Callable[[Path], None], str] = {
    no_golden: r"golden\.npz: is missing",
    cut_engine: r"model\.onnx: has 2 bytes, its manifest says 5",
    newer_schema: r"manifest schema 999 is newer than 1",
    lost_version: r"77: not a published version",
    no_manifest: r"1: not a published version \(manifest\.json is missing\)",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_recommender_is_never_told_as_none(
    own_repository: Path, damage: Callable[[Path], None]
) -> None:
    """Without a name: what is wrong with it, as with its name, also where a text model is there; not "build one"."""
    write_version(own_repository, "shop", "recommendation")
    damage(own_repository / "shop")
    settings = Settings.from_env({}, repository=own_repository)

    for texts in (lambda *_: None, lambda *_: FakeText()):
        with pytest.raises(
            ArtifactError, match=f"no recommender can be opened: shop: .*{DAMAGES[damage]}"
        ) as told:
            Application(settings, open_published, texts)
        assert not isinstance(told.value, NothingPublished)


def test_several_damaged_recommenders_are_told_each_and_a_whole_one_serves(
    own_repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each; one that can be opened is chosen, and the log tells of the others."""
    for name, damage in (("a", cut_engine), ("b", lost_version)):
        write_version(own_repository, name, "recommendation")
        damage(own_repository / name)
    with pytest.raises(
        ArtifactError, match=r"(?s)opened:\n  - a: .*has 2 bytes.*\n  - b: .*77: not a published"
    ):
        _only_model(own_repository)

    write_version(own_repository, "c", "recommendation")

    assert _only_model(own_repository) == "c"
    assert caplog.text.count("not looked at for recommendations") == 2


def test_a_damaged_text_model_is_never_told_as_none(own_repository: Path) -> None:
    """Its pointer is wrong, or its engine is cut short: the server says so instead of serving no texts."""
    for damage in (cut_engine, lost_version, no_golden):
        name = damage.__name__.replace("_", "-")
        write_version(own_repository / name, "writer", "text_generation")
        damage(own_repository / name / "writer")

        with pytest.raises(ArtifactError, match=f"no text model can be opened: writer: .*{DAMAGES[damage]}"):
            text_model_name(own_repository / name)
