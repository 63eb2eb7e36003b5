"""Which versions of an encoder serve: loaded without delaying others, replayed, swapped without a dropped text, drained."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from server.app import Application
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, Golden, read_golden, write_golden
from server.artifacts.releases import Releases
from server.artifacts.repository import open_version
from server.batching.token_batcher import TokenLimits
from server.encoder_domain import EncodeRequest, InputKind, Truncate
from server.encoding.sentences import load_sentence_codec
from server.errors import DeadlineExceeded, InvalidRequest, NotReady
from server.pipelines.encoder_loading import load_encoder
from server.pipelines.live_encoder import LiveEncoder, open_encoder
from server.settings import Settings
from tests.server.encoder_published import (
    MODEL,
    TinyEncoder,
    change_file,
    publish_tiny_encoder,
    tiny_tokenizer,
)
from tests.server.encoder_serving import serving
from tests.server.serving import until

LABELS = ("where order", "return refund")


def text(*inputs: Any, **more: Any) -> EncodeRequest:
    return EncodeRequest(inputs=inputs, **more)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyEncoder:
    return publish_tiny_encoder(tmp_path, tmp_path / "repository", labels=LABELS)


async def test_an_encoder_opens_in_this_process_without_a_server(tiny: TinyEncoder) -> None:
    """A folder of a version is enough; near texts are near, and the head's scores come with the vectors."""
    async with open_encoder(tiny.opened.folder) as encoder:
        info = encoder.info()
        got = await encoder.encode(text("where is my order?", "where is the order", "return it for a refund"))

    assert (info.name, info.labels, info.threshold) == (MODEL, LABELS, 0.5)
    cosines = got.vectors_ND @ got.vectors_ND.T
    assert cosines[0, 1] > cosines[0, 2] and np.allclose(np.diag(cosines), 1.0, atol=1e-5)
    assert got.logits_NC is not None and got.logits_NC.argmax(axis=1).tolist() == [0, 0, 1]
    assert got.tokens_N == (7, 6, 7) and got.truncated_N == (False, False, False)
    with pytest.raises(NotReady):
        await encoder.encode(text("after the end"))


async def test_texts_together_are_what_they_are_alone(tiny: TinyEncoder) -> None:
    """Batching and padding change no vector."""
    inputs = (
        "refund",
        "where is my order?",
        "I want to return the shoes , please !" * 3,
        "一" * 3 + "货",
        "shoes",
    )
    async with open_encoder(tiny.opened.folder) as encoder:
        together = await encoder.encode(text(*inputs))
        alone = [(await encoder.encode(text(one))).vectors_ND[0] for one in inputs]

    assert np.allclose(together.vectors_ND, alone, atol=1e-6)


async def test_a_new_version_takes_over_without_a_dropped_text(tiny: TinyEncoder, tmp_path: Path) -> None:
    """Requests before, during and after the swap are all answered, each by one version."""
    async with open_encoder(tiny.repository, MODEL) as encoder:
        live = LiveEncoder(
            tiny.repository,
            MODEL,
            lambda version: load_encoder(open_version(tiny.repository / MODEL / version)),
        )
        async with live:
            before = (await live.encode(text("refund"))).vectors_ND
            publish_tiny_encoder(tmp_path / "next", tiny.repository, labels=LABELS, turned=True)
            many = [asyncio.ensure_future(live.encode(text(*["refund", "shoes"] * 20))) for _ in range(20)]
            assert await live.check_for_new_version()
            answers = await asyncio.gather(*many)
            after = (await live.encode(text("refund"))).vectors_ND
            assert live.info().version == "2"
        pinned = (await encoder.encode(text("refund"))).vectors_ND

    assert np.array_equal(pinned, before) and not np.allclose(before, after, atol=0.1)
    for answer in answers:
        rows = answer.vectors_ND[::2]
        assert np.allclose(rows, before, atol=1e-6) or np.allclose(rows, after, atol=1e-6)


async def test_a_version_that_encodes_otherwise_is_refused_and_the_old_one_goes_on(
    tiny: TinyEncoder,
) -> None:
    """The golden texts keep a broken build from ever answering, at the first load and at a swap."""
    staging = tiny.staging
    golden = read_golden(staging / GOLDEN_FILE)
    outputs = {**golden.outputs, "embedding": golden.outputs["embedding"][:, ::-1]}
    write_golden(staging / GOLDEN_FILE, Golden(inputs=golden.inputs, outputs=outputs))
    change_file(staging, "encoder.json")
    broken = Releases(repository=tiny.repository).publish(staging, MODEL)

    with pytest.raises(ArtifactError, match=r"golden replay differs.*cosine"):
        load_encoder(broken)

    live = LiveEncoder(
        tiny.repository,
        MODEL,
        lambda version: load_encoder(open_version(tiny.repository / MODEL / version)),
        version="1",
    )
    async with live:
        assert not await live.check_for_new_version()
        assert live.info().version == "1" and live.reload_failures["refused"] == 1
        await live.encode(text("refund"))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("encoder.json", {"dim": 31}, "dim = 31"),
        ("encoder.json", {"dims": [16]}, "dims"),
        ("encoder.json", {"max_tokens": 65}, "max_tokens = 65"),
        ("encoder.json", {"prefixes": {"question": "q: "}}, "question"),
        ("encoder.json", {"colour": "blue"}, "colour"),
        ("intents.json", {"labels": ["where order"]}, "1 labels"),
        ("intents.json", {"temperature": 0.0}, "temperature"),
        ("tokenizer.json", {"model": {"type": "WordPiece"}}, "tokenizer"),
    ],
)
def test_a_version_whose_files_contradict_each_other_is_refused(
    tiny: TinyEncoder, name: str, changes: dict[str, Any], says: str
) -> None:
    """What does not fit together is found before it serves, and named."""
    change_file(tiny.staging, name, **changes)
    opened = Releases(repository=tiny.repository).publish(tiny.staging, MODEL)

    with pytest.raises(ArtifactError, match=says):
        load_encoder(opened)


async def test_whoever_asks_while_it_is_loaded_waits_within_the_deadline(tiny: TinyEncoder) -> None:
    """The first request is not refused because it came early, and not kept beyond its deadline either."""
    gate = threading.Event()

    def load(version: str) -> Any:
        assert gate.wait(10.0)
        return load_encoder(open_version(tiny.repository / MODEL / version))

    live = LiveEncoder(tiny.repository, MODEL, load, limits=TokenLimits(), reload_interval_s=0.0)
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(live.encode(text("refund")))
    with pytest.raises(DeadlineExceeded):
        await live.encode(text("refund", deadline_s=loop.time() + 0.01))
    ready, why = live.ready()
    assert not ready and "being loaded" in why
    assert live.info().name == MODEL and live.info().dim == 0

    gate.set()
    assert (await waiting).vectors_ND.shape[0] == 1
    await live.close(1.0)


async def test_ready_does_not_wait_for_the_encoder_where_others_serve(tiny: TinyEncoder) -> None:
    """Recommendations are served at once; embeddings are listed as not ready until they are, and then answer."""
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/readyz")).status_code == 200
        answer = await client.post("/v1/embeddings", json={"input": "refund"})
        assert answer.status_code == 200


async def test_an_encoder_that_cannot_be_loaded_is_told_by_readyz_and_mended_by_a_rollback(
    tiny: TinyEncoder,
) -> None:
    """The others go on; what is wrong stands in /readyz; a version that can be loaded heals it without a restart."""
    change_file(tiny.staging, "intents.json", temperature=0.0)
    Releases(repository=tiny.repository).publish(tiny.staging, MODEL)
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        ready = await client.get("/readyz")
        refused = await client.post("/v1/embeddings", json={"input": "refund"})
        listed = (await client.get("/v1/models")).json()["data"]
        assert ready.status_code == 503 and "temperature" in ready.text
        assert refused.status_code == 503 and "temperature" in refused.text
        assert [entry["ready"] for entry in listed if entry["id"] == MODEL] == [False]

        Releases(repository=tiny.repository).rollback(MODEL, "1")
        assert server.app.encoder is not None
        await server.app.encoder.encoder.check_for_new_version()

        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/v1/embeddings", json={"input": "refund"})).status_code == 200


async def test_a_server_may_serve_nothing_but_an_encoder(tiny: TinyEncoder) -> None:
    """Without a recommender and a text model, it is ready once the encoder is; a broken one stops the start."""
    ports = {"http_port": 0, "grpc": False, "metrics_port": 0, "copy": False, "support": False}
    settings = Settings.from_env({}, repository=tiny.repository, **ports)
    app = Application(settings)
    await app.start()
    ready, reasons = app.service.ready()
    assert ready, reasons
    await app.stop()

    change_file(tiny.staging, "intents.json", temperature=0.0)
    Releases(repository=tiny.repository).publish(tiny.staging, MODEL)
    broken = Application(settings)
    with pytest.raises(ArtifactError, match="temperature"):
        await broken.start()
    broken.heartbeat.stop()


async def test_stopping_finishes_what_is_under_way(tiny: TinyEncoder) -> None:
    """A request that was admitted is answered; one that comes while stopping is told to go elsewhere."""
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        await client.get("/healthz")
        assert server.app.encoder is not None
        admission = server.app.encoder.service.admission
        big = {"input": ["refund shoes " * 20] * 1000}
        asked = asyncio.ensure_future(client.post("/v1/embeddings", json=big))
        await until(lambda: admission.in_flight)
        stopping = asyncio.ensure_future(server.stop())
        answer = await asked
        await stopping

    assert answer.status_code == 200 and len(answer.json()["data"]) == 1000


def codec(**more: Any) -> Any:
    from server.encoding.sentences import SentenceCodec

    options: dict[str, Any] = {"vocab_size": 500, "max_tokens": 16, "prefixes": {}, "unknown": 1}
    return SentenceCodec(tiny_tokenizer(), **{**options, **more})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "empty"),
        (" \t\n ", "can read"),
        ("\x00\x01\x7f", "can read"),
        ("🙂🙃", "can read"),
        ("refund \ud83d", "surrogate"),
        ((), "empty"),
        ((500,), "0 .. 499"),
        ("refund " * 20, "22 tokens"),
        ("refund " * 200_000, "more than .* tokens"),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_a_reason(given: Any, says: str) -> None:
    """Nothing that would give a vector of nothing becomes one."""
    with pytest.raises(InvalidRequest, match=says) as wrong:
        codec().encode(["refund", given], InputKind.PLAIN, Truncate.ERROR)
    assert wrong.value.field == "input[1]"


def test_special_tokens_in_a_text_are_characters() -> None:
    """A text that spells [SEP] out cannot end itself."""
    vocab = tiny_tokenizer().get_vocab()
    (tokens,) = codec().encode(["refund [SEP] shoes"], InputKind.PLAIN, Truncate.ERROR)

    assert tokens.ids.tolist().count(vocab["[SEP]"]) == 1 and tokens.ids[-1] == vocab["[SEP]"]


@pytest.mark.parametrize("blank", [" ", " " * 3000, "\n"])
def test_the_start_of_a_long_text_is_read_as_if_the_whole_had_been(blank: str) -> None:
    """Cutting before tokenizing changes no token that is kept, however the words are set apart."""
    words = ["refund", "shoes", "order", "unheardof", "card"] * 40
    long = blank.join(words)
    whole = tiny_tokenizer().encode(long, add_special_tokens=False).ids[:14]

    (tokens,) = codec().encode([long], InputKind.PLAIN, Truncate.END)

    assert tokens.truncated and tokens.ids[1:-1].tolist() == whole


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Ids that the graph has no row for are found at load."""
    path = tmp_path / "tokenizer.json"
    tiny_tokenizer().save(str(path))

    with pytest.raises(ArtifactError, match="belongs to another model"):
        load_sentence_codec(path, vocab_size=20, max_tokens=16, prefixes={})
    shutil.rmtree(tmp_path)
