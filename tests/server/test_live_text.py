"""How a text version takes over: loaded beside the old one, swapped without dropping a text, refused once where it is broken."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from server.artifacts.errors import ArtifactError
from server.batching.text_model import TextModel
from server.pipelines import live_text
from server.pipelines.live_text import LiveText
from server.text_domain import TextModelInfo
from tests.server.fake_text import ByteCodec


class Engine:
    """Knows only whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Batcher:
    """As ``ContinuousBatcher``, as far as versions go: ``users`` of a version are let go by the test."""

    def __init__(self, model: TextModel, limits: Any, *, clock: Any, recorder: Any) -> None:
        self.model = model
        self.busy: dict[str, asyncio.Event] = {}
        self.closed: list[float] = []
        self.hung: set[str] = set()

    @property
    def codec(self) -> Any:
        return self.model.codec

    def start(self) -> None:
        pass

    def info(self) -> TextModelInfo:
        return self.model.info

    def swap(self, model: TextModel) -> TextModel:
        old, self.model = self.model, model
        return old

    async def drained(self, model: TextModel) -> None:
        if model.info.version in self.busy:
            await self.busy[model.info.version].wait()

    async def close(self, drain_s: float) -> None:
        self.closed.append(drain_s)
        for version, busy in self.busy.items():
            if version not in self.hung:
                busy.set()


def loaded(version: str) -> TextModel:
    info = TextModelInfo(
        name="writer", version=version, engine="x", precision="fp32", vocab_size=9, max_context=9
    )
    anything: Any = None
    engine: Any = Engine()
    return TextModel(
        engine=engine, sampler=anything, compiler=anything, codec=ByteCodec(), writer=anything, info=info
    )


class World:
    """A repository whose CURRENT the test writes, and a record of what was loaded."""

    def __init__(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_text, "ContinuousBatcher", Batcher)
        self.folder = repository / "writer"
        self.folder.mkdir(parents=True)
        self.models: dict[str, TextModel] = {}
        self.loads: list[str] = []
        self.broken: set[str] = set()
        self.point("1")
        self.live = LiveText(repository, "writer", self.load, reload_interval_s=0)
        self.batcher: Any = self.live._batcher

    def point(self, version: str) -> None:
        (self.folder / "CURRENT").write_text(version)

    def load(self, version: str) -> TextModel:
        self.loads.append(version)
        if version in self.broken:
            raise ArtifactError(f"version {version} is broken")
        self.models[version] = loaded(version)
        return self.models[version]

    def closed(self, version: str) -> int:
        engine: Any = self.models[version].engine
        return int(engine.closed)


@pytest.fixture
def world(own_repository: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(own_repository, monkeypatch)


async def test_a_new_version_takes_over_and_the_old_engine_waits_for_its_texts(world: World) -> None:
    """New texts begin with the new one at once; the old engine is closed when its last text has ended, and not before."""
    world.batcher.busy["1"] = asyncio.Event()
    world.point("2")
    taking = asyncio.create_task(world.live.check_for_new_version())
    while world.live.info().version != "2":
        await asyncio.sleep(0)

    assert world.closed("1") == 0 and not taking.done()
    assert world.live.codec is world.models["2"].codec
    world.batcher.busy["1"].set()
    assert await taking is True
    assert world.closed("1") == 1 and world.closed("2") == 0
    await world.live.close(3.0)
    assert (world.closed("1"), world.closed("2"), world.batcher.closed) == (1, 1, [3.0])


async def test_the_same_version_is_not_loaded_again(world: World) -> None:
    """Polling costs one small read."""
    for _ in range(3):
        assert await world.live.check_for_new_version() is False
    assert world.loads == ["1"]


async def test_a_broken_version_is_refused_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted once; the old one goes on; a later good one is taken up."""
    world.broken.add("2")
    world.point("2")
    with caplog.at_level(logging.ERROR, "vitrine.text"):
        for _ in range(3):
            assert await world.live.check_for_new_version() is False
    world.point("3")

    assert world.live.info().version == "1" and world.loads == ["1", "2"]
    assert world.live.reload_failures == {"unreadable": 0, "refused": 1} and len(caplog.records) == 1
    assert await world.live.check_for_new_version() is True
    assert world.live.info().version == "3"


async def test_a_pointer_that_cannot_be_read_is_counted_once(world: World) -> None:
    """Garbage in CURRENT leaves the old version writing."""
    world.point("not a number")
    for _ in range(3):
        assert await world.live.check_for_new_version() is False

    assert world.live.reload_failures == {"unreadable": 1, "refused": 0} and world.live.info().version == "1"


async def test_closing_while_a_version_drains_closes_both_engines(world: World) -> None:
    """Stopping in the middle of a swap leaves no engine open."""
    world.batcher.busy["1"] = asyncio.Event()
    world.point("2")
    taking = asyncio.create_task(world.live.check_for_new_version())
    while world.live.info().version != "2":
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await world.live.close(0.0)

    assert (world.closed("1"), world.closed("2")) == (1, 1)


async def test_an_engine_that_hangs_is_not_pulled_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for its step for a while, then leaves it to the end of the process: its thread is inside of it."""
    monkeypatch.setattr(live_text, "LAST_STEP_S", 0.01)
    world.batcher.busy["1"] = asyncio.Event()
    world.batcher.hung = {"1"}
    await world.live.close(0.0)

    assert world.closed("1") == 0


def test_nothing_to_serve_is_an_error_at_the_start(own_repository: Path) -> None:
    """A model without a current version does not start; the sentence says what there is."""
    with pytest.raises(ArtifactError, match="no model 'writer'"):
        LiveText(own_repository, "writer", loaded)
