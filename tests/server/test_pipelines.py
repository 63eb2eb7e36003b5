"""Requests through a real engine: ranks, filters, exclusions, explanations, the fallback tier, and new versions live."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from server.app import Application
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import Golden, read_golden, write_golden
from server.artifacts.releases import Releases
from server.artifacts.repository import open_current
from server.domain import Filters, RecommendRequest, ServedBy
from server.engines.onnxruntime import OnnxRuntimeEngine
from server.errors import InvalidRequest
from server.pipelines.live_model import LiveRecommender
from server.pipelines.loading import LoadedModel, load_model
from server.request_limits import RequestLimits, check_request
from server.settings import Settings
from tests.tiny import ITEMS, MAX_K, Tiny, publish_tiny, rehash, tamper_golden

HISTORY = ("sku-3", "sku-17", "sku-250")


@pytest.fixture(scope="module")
def loaded(tiny: Tiny) -> LoadedModel:
    return load_model(tiny.opened)


def ask(model: LoadedModel, *requests: RecommendRequest) -> list:
    packed = model.runner.pack(requests)
    return model.runner.unpack(packed, model.runner.run(packed), requests)


def test_answers_are_the_reference_ranking(tiny: Tiny, loaded: LoadedModel) -> None:
    """The ids a shop gets are those that numpy ranks from the same weights, history left out."""
    order = np.argsort(-tiny.reference([[3, 17, 250]])[0], kind="stable")[:10]

    answer = ask(loaded, RecommendRequest(history=HISTORY, k=10))[0]

    assert answer.item_ids == tuple(f"sku-{row}" for row in order)
    assert answer.served_by is ServedBy.MODEL
    assert list(answer.scores) == sorted(answer.scores, reverse=True)


def test_a_batch_answers_everyone_as_if_alone(loaded: LoadedModel) -> None:
    """Different histories, k, filters and unknown items side by side: nobody's answer depends on a neighbour."""
    requests = [
        RecommendRequest(history=HISTORY, k=3),
        RecommendRequest(history=("sku-1", "nope", "sku-2"), k=20),
        RecommendRequest(
            history=tuple(f"sku-{n}" for n in range(1, 60)), k=5, filters=Filters(categories=("shoes",))
        ),
        RecommendRequest(history=("sku-9",), k=2, candidates=("sku-5", "sku-6", "gone")),
    ]

    together = ask(loaded, *requests)

    for request, answer in zip(requests, together, strict=True):
        alone = ask(loaded, request)[0]
        assert alone.item_ids == answer.item_ids
        np.testing.assert_allclose(alone.scores, answer.scores, rtol=1e-5, atol=1e-5)
    assert together[1].unknown_items == 1
    assert set(together[3].item_ids) == {"sku-5", "sku-6"}


@pytest.mark.parametrize(
    "filters",
    [
        Filters(categories=("shoes",)),
        Filters(max_price=30.0),
        Filters(in_stock=True),
        Filters(brands=("brand-3",), min_price=100),
    ],
)
def test_k_items_come_back_whenever_that_many_pass_the_filter(loaded: LoadedModel, filters: Filters) -> None:
    """Filters are applied before ranking, so a narrow one never costs results."""
    allowed = {f"sku-{row}" for row in np.flatnonzero(loaded.runner.catalogue.mask(filters))} - set(HISTORY)

    for answer in (
        ask(loaded, RecommendRequest(history=HISTORY, k=MAX_K, filters=filters))[0],
        loaded.fallback.answer(RecommendRequest(history=HISTORY, k=MAX_K, filters=filters), "deadline"),
    ):
        assert len(answer.item_ids) == min(MAX_K, len(allowed))
        assert set(answer.item_ids) <= allowed


def test_excluded_and_seen_items_never_come_back_unless_allowed(loaded: LoadedModel) -> None:
    """The best answers can be excluded one after the other; seen items return only on request."""
    first = ask(loaded, RecommendRequest(history=HISTORY, k=5))[0].item_ids

    without = ask(loaded, RecommendRequest(history=HISTORY, k=5, exclude=first))[0].item_ids
    seen_too = ask(loaded, RecommendRequest(history=HISTORY, k=MAX_K, allow_seen=True, candidates=HISTORY))[
        0
    ].item_ids

    assert not set(first) & set(without)
    assert set(seen_too) == set(HISTORY)


def test_explanations_name_a_history_item_or_what_is_popular(loaded: LoadedModel) -> None:
    """Each item has a sentence; when it names a history item, it is one of the caller's."""
    request = RecommendRequest(history=HISTORY, k=MAX_K, explain=True, fields=("title", "price"))

    answer = ask(loaded, request)[0]

    assert answer.reasons is not None and len(answer.reasons) == MAX_K and all(answer.reasons)
    assert answer.because is not None and set(answer.because) <= {*HISTORY, None}
    assert any(answer.because)
    assert answer.item_fields is not None and answer.item_fields[0]["title"].startswith("Product ")


def test_a_cold_start_is_answered_by_popularity(tiny: Tiny, loaded: LoadedModel) -> None:
    """With nothing known of the caller, the most popular items come first, marked as fallback."""
    answer = loaded.fallback.answer(RecommendRequest(history=("?", "??"), k=5), "cold_start")

    order = np.argsort(-tiny.ingredients.popularity_N, kind="stable")[:5]
    assert answer.item_ids == tuple(f"sku-{row}" for row in order)
    assert (answer.served_by, answer.fallback_reason, answer.unknown_items) == (
        ServedBy.FALLBACK,
        "cold_start",
        2,
    )


def test_the_fallback_ranks_what_follows_the_newest_items_first(tiny: Tiny, loaded: LoadedModel) -> None:
    """Below the model tier the transition counts decide, newest item first."""
    answer = loaded.fallback.answer(RecommendRequest(history=HISTORY, k=5), "deadline")

    neighbours = set(tiny.ingredients.transitions.neighbour_ids_NM[[3, 17, 250]].ravel().tolist())
    assert {int(item.split("-")[1]) for item in answer.item_ids} <= neighbours


def test_wrong_golden_answers_are_refused_with_the_figure(own_repository: Path) -> None:
    """A version whose engine no longer says what it said when it was built is never served."""
    made = publish_tiny(own_repository)
    tamper_golden(made.opened)

    with pytest.raises(ArtifactError, match=r"golden replay differs.*not served"):
        load_model(open_current(own_repository, "tiny"))


def test_a_cut_engine_is_refused_by_name(own_repository: Path) -> None:
    """Half an engine file with a fitting hash is still a sentence with its path."""
    made = publish_tiny(own_repository)
    engine = made.opened.path("onnxruntime/fp32_masked.onnx")
    engine.write_bytes(engine.read_bytes()[:500])
    rehash(made.opened)

    with pytest.raises(ArtifactError, match=r"fp32_masked\.onnx.*refuses the graph"):
        load_model(open_current(own_repository, "tiny"))


def test_an_engine_that_is_not_there_is_said_to_be_missing(tiny: Tiny) -> None:
    """Asking for a target the version was not built for lists those it has."""
    with pytest.raises(ArtifactError, match=r"no target for engine 'tensorrt'.*onnxruntime"):
        load_model(tiny.opened, engine="tensorrt")


def test_wrong_arrays_are_refused_and_the_engine_goes_on(loaded: LoadedModel) -> None:
    """A wrong type or shape names tensor and need, and the next run is as good as before."""
    packed = loaded.runner.pack([RecommendRequest(history=HISTORY)])
    engine = loaded.runner._unmasked
    assert isinstance(engine, OnnxRuntimeEngine)

    with pytest.raises(ValueError, match="item_ids: dtype int64, needs int32"):
        engine.run({**packed.inputs, "item_ids": packed.inputs["item_ids"].astype(np.int64)})
    with pytest.raises(ValueError, match=r"exclude_ids: shape \(2, 3\).*B = 1"):
        engine.run({**packed.inputs, "exclude_ids": np.zeros((2, 3), np.int32)})
    assert engine.run(packed.inputs)["ids"].shape == (1, MAX_K)


async def test_a_new_version_takes_over_and_nobody_is_dropped(own_repository: Path) -> None:
    """Under constant load every request before, during and after the change is answered by one version or the other."""
    publish_tiny(own_repository, seed=0)
    live = LiveRecommender(own_repository, reload_interval_s=0)
    await live.start()
    stop, versions = asyncio.Event(), []

    async def shopper() -> None:
        while not stop.is_set():
            answer, _ = await live.submit(RecommendRequest(history=HISTORY), time.monotonic() + 30)
            versions.append(answer.model.version)

    async with asyncio.timeout(60):
        shoppers = [asyncio.create_task(shopper()) for _ in range(4)]
        await asyncio.to_thread(publish_tiny, own_repository, seed=1)
        assert await live.check_for_new_version()
        answer, _ = await live.submit(RecommendRequest(history=HISTORY), time.monotonic() + 30)
        stop.set()
        await asyncio.gather(*shoppers)

    assert answer.model.version == "2" == live.info().version
    assert versions[0] == "1" and set(versions) <= {"1", "2"}
    await live.close(5.0)


async def test_a_bad_new_version_is_skipped_and_a_rollback_is_taken_up(own_repository: Path) -> None:
    """The old version goes on when the new one is broken; rolling back is just another current version."""
    publish_tiny(own_repository, seed=0)
    publish_tiny(own_repository, seed=1)
    live = LiveRecommender(own_repository, reload_interval_s=0)
    await live.start()

    broken = publish_tiny(own_repository, seed=2)
    tamper_golden(broken.opened)
    async with asyncio.timeout(60):
        assert not await live.check_for_new_version()
        assert (live.info().version, live.reload_failures) == ("2", {"unreadable": 0, "refused": 1})
        Releases(repository=own_repository).rollback("tiny", "1")
        assert await live.check_for_new_version()

    assert live.info().version == "1"
    await live.close(5.0)


def test_an_empty_repository_says_how_to_fill_it(tmp_path: Path) -> None:
    """The first thing a stranger sees when nothing is built is the command that builds it."""
    with pytest.raises(ArtifactError, match="build_engines run"):
        LiveRecommender(tmp_path)


def test_the_catalogue_is_what_was_published(loaded: LoadedModel) -> None:
    """The model card counts the items and offers ids to try."""
    assert loaded.info.items == ITEMS
    assert loaded.info.sample_ids[0] == "sku-1"
    assert loaded.info.limits["max_k"] == MAX_K


def test_excluding_more_than_the_engine_takes_widens_nobody_elses_batch(loaded: LoadedModel) -> None:
    """What is above the model's limit goes through the mask: the answers are right, the arrays stay narrow."""
    best = ask(loaded, RecommendRequest(history=HISTORY, k=MAX_K))[0].item_ids
    many = tuple(f"sku-{row}" for row in range(1, ITEMS + 1) if f"sku-{row}" not in best[-5:])
    requests = [
        RecommendRequest(history=HISTORY, k=MAX_K, exclude=many),
        RecommendRequest(history=HISTORY, k=MAX_K),
    ]

    packed = loaded.runner.pack(requests)
    answers = ask(loaded, *requests)

    assert packed.inputs["exclude_ids"].shape[1] <= loaded.info.limits["max_exclude"]
    assert answers[0].item_ids == best[-5:]
    assert answers[1].item_ids == best


async def test_a_version_that_cannot_be_understood_is_tried_once(own_repository: Path) -> None:
    """Whatever is wrong with it, the old one goes on, and the new one is not loaded again every second."""
    publish_tiny(own_repository, seed=0)
    live = LiveRecommender(own_repository, reload_interval_s=0)
    await live.start()
    broken = publish_tiny(own_repository, seed=1)
    path = broken.opened.path("manifest.json")
    path.write_text(path.read_text().replace('"transition_decay"', '"transition_dekay"'))

    async with asyncio.timeout(60):
        tried = [await live.check_for_new_version() for _ in range(3)]

    assert (tried, live.info().version) == ([False] * 3, "1")
    assert live.reload_failures == {"unreadable": 0, "refused": 1}
    await live.close(5.0)


async def test_a_reload_that_fails_can_be_alerted_on(own_repository: Path) -> None:
    """A version that cannot be loaded and a CURRENT that cannot be read are counters from the start, each told once."""
    publish_tiny(own_repository, seed=0)
    app = Application(Settings.from_env({}, repository=own_repository, reload_interval_s=0.0))
    live = app.model
    assert isinstance(live, LiveRecommender)
    app._measure()
    before = generate_latest(app.registry).decode()
    broken = publish_tiny(own_repository, seed=1)
    tamper_golden(broken.opened)
    async with asyncio.timeout(60):
        for _ in range(2):
            assert not await live.check_for_new_version()
        (own_repository / "tiny" / "CURRENT").write_text("nonsense")
        for _ in range(2):
            assert not await live.check_for_new_version()

    after = generate_latest(app.registry).decode()
    for reason in ("refused", "unreadable"):
        assert f'vitrine_reload_failures_total{{reason="{reason}"}} 0.0' in before
        assert f'vitrine_reload_failures_total{{reason="{reason}"}} 1.0' in after


def test_candidates_that_are_not_sold_are_counted(loaded: LoadedModel) -> None:
    """In the answer of the model and of the tier below it, for each caller alone; no candidates, no count."""
    some = RecommendRequest(history=HISTORY, k=2, candidates=("sku-9", "who", "sku-8", "what", "who"))
    none = RecommendRequest(history=HISTORY, k=2)
    all_known = RecommendRequest(history=HISTORY, k=2, candidates=("sku-9",))

    counts = [answer.unknown_candidates for answer in ask(loaded, none, some, all_known)]

    assert counts == [None, 3, 0]
    below = [loaded.fallback.answer(r, "deadline").unknown_candidates for r in (none, some, all_known)]
    assert below == counts


def test_the_model_card_names_the_item_data_that_can_be_asked_for(loaded: LoadedModel) -> None:
    """What ``fields`` may name is what the catalogue has, no more and no less."""
    assert set(loaded.info.item_fields) == set(loaded.runner.catalogue.columns)
    with pytest.raises(InvalidRequest, match=r"'colour'.*they have .*title") as refusal:
        check_request(
            RecommendRequest(fields=("title", "colour")), RequestLimits(), MAX_K, loaded.info.item_fields
        )

    assert refusal.value.field == "fields[1]"


def test_a_file_that_the_manifest_does_not_list_is_not_trusted(own_repository: Path) -> None:
    """Bytes that nobody hashed are nobody's, even under the right name."""
    made = publish_tiny(own_repository)
    path = made.opened.path("manifest.json")
    document = json.loads(path.read_text())
    document["files"] = [entry for entry in document["files"] if entry["path"] != "item_ids.json"]
    path.write_text(json.dumps(document))

    with pytest.raises(ArtifactError, match=r"item_ids\.json.*not listed"):
        load_model(open_current(own_repository, "tiny"))


@pytest.mark.parametrize("change", ["reversed", "first two swapped"])
def test_golden_answers_in_another_order_are_refused(own_repository: Path, change: str) -> None:
    """The same items with the same scores at other ranks are other answers."""
    made = publish_tiny(own_repository)
    golden = read_golden(made.opened.path("golden.npz"))
    ids = golden.outputs["ids"].copy()
    ids = ids[:, ::-1] if change == "reversed" else ids[:, [1, 0, *range(2, ids.shape[1])]]
    write_golden(
        made.opened.path("golden.npz"), Golden(inputs=golden.inputs, outputs={**golden.outputs, "ids": ids})
    )
    rehash(made.opened)

    with pytest.raises(ArtifactError, match="golden replay differs"):
        load_model(open_current(own_repository, "tiny"))
