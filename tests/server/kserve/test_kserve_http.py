"""KServe v2 over HTTP, by Triton's own clients and by raw requests that no client would send."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as blocking
import tritonclient.http.aio as triton
from tritonclient.utils import InferenceServerException

from server.errors import Code
from server.http_api.kserve.status import STATUS
from tests.server.kserve.kserve_world import HISTORY, serving, tensor
from tests.tiny import ITEMS, LENGTH, MAX_K, Tiny, publish_tiny

INFER = "/v2/models/tiny/infer"
GOOD = {"name": "item_ids", "shape": [1, LENGTH], "datatype": "INT32", "data": HISTORY[0].tolist()}


def test_every_code_has_a_status() -> None:
    """A new ``Code`` cannot be added without deciding how KServe's paths show it."""
    assert set(STATUS) == set(Code)


async def test_tritons_client_gets_the_engines_own_tensors(tiny: Tiny) -> None:
    """Raw and JSON tensors, one row and several, all give the scores that numpy computes from the weights."""
    wide = np.stack([HISTORY[0], HISTORY[0][::-1]])
    async with serving(tiny.repository) as server, triton.InferenceServerClient(server.http) as client:
        for binary in (True, False):
            given = tensor(triton, "item_ids", wide, "INT32", binary_data=binary)
            excluded = tensor(triton, "exclude_ids", wide, "INT32", binary_data=binary)
            wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("scores", "ids")]
            answer = await client.infer("tiny", [given, excluded], outputs=wanted, request_id="mine")

            ids, scores = answer.as_numpy("ids"), answer.as_numpy("scores")
            reference_BN = tiny.reference(wide.tolist())
            assert answer.get_response()["id"] == "mine"
            assert [one["name"] for one in answer.get_response()["outputs"]] == ["scores", "ids"]
            np.testing.assert_allclose(scores, np.take_along_axis(reference_BN, ids, 1), rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(
                scores, -np.sort(-reference_BN, axis=1)[:, :MAX_K], rtol=1e-3, atol=1e-3
            )


async def test_a_candidate_mask_bounds_what_comes_back(tiny: Tiny) -> None:
    async with serving(tiny.repository) as server, triton.InferenceServerClient(server.http) as client:
        rows = (await client.get_model_metadata("tiny"))["inputs"][2]["shape"][1]
        mask = np.zeros((1, rows), np.bool_)
        mask[0, [0, 40, 50, 60, ITEMS + 5]] = True  # padding and a row beyond the catalogue are never answers

        answer = await client.infer(
            "tiny", [tensor(triton, "item_ids", HISTORY, "INT32"), tensor(triton, "candidate", mask, "BOOL")]
        )

    found = answer.as_numpy("ids")[0][answer.as_numpy("scores")[0] > -1e8]
    assert sorted(found.tolist()) == [40, 50, 60]


async def test_the_blocking_client_sees_the_server_as_tritons(tiny: Tiny) -> None:
    """Health, metadata, configuration, index, statistics and classification, by the client that most programs use."""

    def ask(url: str) -> dict[str, Any]:
        with blocking.InferenceServerClient(url) as client:
            given = [tensor(blocking, "item_ids", HISTORY, "INT32")]
            best = client.infer(
                "tiny",
                given,
                model_version="1",
                outputs=[blocking.InferRequestedOutput("ids", class_count=2)],
            )
            packed = client.infer("tiny", given, request_compression_algorithm="gzip")
            return {
                "live": client.is_server_live(),
                "ready": [
                    client.is_server_ready(),
                    client.is_model_ready("tiny"),
                    client.is_model_ready("tiny", "1"),
                ],
                "absent": [client.is_model_ready("tiny", "9"), client.is_model_ready("nope")],
                "server": client.get_server_metadata(),
                "model": client.get_model_metadata("tiny"),
                "config": client.get_model_config("tiny"),
                "index": client.get_model_repository_index(),
                "best": best.as_numpy("ids").tolist(),
                "packed": packed.as_numpy("ids").shape,
                "statistics": client.get_inference_statistics("tiny")["model_stats"][0],
            }

    async with serving(tiny.repository) as server:
        seen = await asyncio.to_thread(ask, server.http)

    assert seen["live"] and all(seen["ready"]) and not any(seen["absent"])
    assert seen["server"]["name"] == "vitrine" and "binary_tensor_data" in seen["server"]["extensions"]
    assert seen["model"]["platform"] == "onnxruntime_onnx" and seen["model"]["versions"] == ["1"]
    assert seen["model"]["outputs"][0] == {"name": "ids", "datatype": "INT32", "shape": [-1, MAX_K]}
    assert seen["config"]["max_batch_size"] == 8 and seen["config"]["input"][0]["dims"] == [-1]
    assert seen["index"] == [{"name": "tiny", "version": "1", "state": "READY"}]
    assert seen["best"][0][0].decode().count(":") == 1 and len(seen["best"][0]) == 2
    assert seen["packed"] == (1, MAX_K)
    assert (
        seen["statistics"]["inference_count"] == 2
        and seen["statistics"]["inference_stats"]["success"]["count"] == 2
    )


async def test_rows_of_callers_share_batches_permits_and_metrics_with_the_products(tiny: Tiny) -> None:
    """A hundred rows asked at once are fewer runs than rows, count in the server's metrics, and hold permits meanwhile."""
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        asks = [client.post(INFER, json={"inputs": [GOOD]}) for _ in range(60)]
        shoppers = [
            client.post("/v1/recommendations", json={"history": ["sku-1"], "k": 3}) for _ in range(40)
        ]

        answers = await asyncio.gather(*asks, *shoppers)

        sums = (await client.get("/v2/models/tiny/stats")).json()["model_stats"][0]
        async with httpx.AsyncClient() as other:
            metrics = (await other.get(f"http://127.0.0.1:{server.app.metrics_port}/metrics")).text
        assert {answer.status_code for answer in answers} == {200}
        assert server.app.admission.in_flight == 0
    assert sums["inference_count"] == 60 and sums["execution_count"] < 60
    assert (
        'vitrine_request_duration_seconds_count{endpoint="infer",outcome="ok",protocol="http",tier="model"} 60.0'
        in metrics
    )


BAD: list[tuple[str, bytes | dict[str, Any], dict[str, str], int, str]] = [
    ("not JSON", b"{", {}, 400, "failed to parse"),
    ("no inputs", {}, {}, 400, "inputs"),
    ("an input missing", {"inputs": []}, {}, 400, "missing required input"),
    ("an unknown input", {"inputs": [GOOD, {**GOOD, "name": "x"}]}, {}, 400, "unexpected inference input 'x'"),
    ("an input twice", {"inputs": [GOOD, GOOD]}, {}, 400, "already exists"),
    ("another datatype", {"inputs": [{**GOOD, "datatype": "INT64"}]}, {}, 400, "expects 'INT32'"),
    ("an unknown datatype", {"inputs": [{**GOOD, "datatype": "INT7"}]}, {}, 400, "unknown datatype 'INT7'"),
    ("a shape that lies", {"inputs": [{**GOOD, "shape": [1, LENGTH + 1]}]}, {}, 400, "expected"),
    ("a shape of gigabytes", {"inputs": [{**GOOD, "shape": [100_000_000, 50]}]}, {}, 400, "expected"),
    ("a negative shape", {"inputs": [{**GOOD, "shape": [-1, LENGTH]}]}, {}, 400, "negative"),
    ("a shape beyond 64 bits", b'{"inputs":[{"name":"item_ids","shape":[1%b],"datatype":"INT32","data":[]}]}' % (b"0" * 30), {}, 400, "expected"),
    ("three dimensions", {"inputs": [{**GOOD, "shape": [1, 1, LENGTH]}]}, {}, 400, "unexpected shape"),
    ("too many rows", {"inputs": [{**GOOD, "shape": [9, 1], "data": [1] * 9}]}, {}, 400, "batch-size must be <= 8"),
    ("no rows", {"inputs": [{**GOOD, "shape": [0, 5], "data": []}]}, {}, 400, "batch-size"),
    ("a history too long", {"inputs": [{**GOOD, "shape": [1, 13], "data": [1] * 13}]}, {}, 400, "takes 12"),
    ("an item that is not there", {"inputs": [{**GOOD, "shape": [1, 1], "data": [5_000]}]}, {}, 400, "holds 5000"),
    ("a negative item", {"inputs": [{**GOOD, "shape": [1, 1], "data": [-1]}]}, {}, 400, "holds -1"),
    ("an unknown output", {"inputs": [GOOD], "outputs": [{"name": "z"}]}, {}, 400, "unexpected inference output 'z'"),
    ("a timeout in words", {"inputs": [GOOD], "parameters": {"timeout": "soon"}}, {}, 400, "timeout"),
    ("a negative priority", {"inputs": [GOOD], "parameters": {"priority": -1}}, {}, 400, "priority"),
    ("no data", {"inputs": [{k: v for k, v in GOOD.items() if k != "data"}]}, {}, 400, "exactly one of"),
    ("a size of 2 GB", {"inputs": [{"name": "item_ids", "shape": [1, 12], "datatype": "INT32", "parameters": {"binary_data_size": 2**31 - 1}}]}, {}, 400, "unexpected size"),
    ("a header beyond the body", {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "99999"}, 400, "in range"),
    ("a header that is no number", {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "x"}, 400, "in range"),
    ("a negative header", {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "-5"}, 400, "in range"),
    ("bytes left over", b'{"inputs":[]}xxxx', {"Inference-Header-Content-Length": "13"}, 400, "additional input data"),
    ("an unknown coding", {"inputs": [GOOD]}, {"Content-Encoding": "br"}, 400, "gzip, deflate"),
    ("a bomb", gzip.compress(b" " * (3 << 20)), {"Content-Encoding": "gzip"}, 413, "over the limit"),
    ("shared memory", {"inputs": [{"name": "item_ids", "shape": [1, 12], "datatype": "INT32", "parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 48}}]}, {}, 404, "shared memory"),
]  # fmt: skip


async def test_what_is_malformed_is_refused_with_a_sentence_and_disturbs_nobody(tiny: Tiny) -> None:
    """Each of these is the caller's fault, is told so in Triton's form, leaves no permit held, and a good request still works."""
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        for what, body, headers, status, words in BAD:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()

            answer = await client.post(INFER, content=content, headers=headers)

            assert answer.status_code == status, (what, answer.text)
            assert set(answer.json()) == {"error"} and words in answer.json()["error"], (what, answer.text)
            assert server.app.admission.in_flight == 0, what
        assert (await client.post(INFER, json={"inputs": [GOOD]})).status_code == 200


async def test_unknown_paths_models_and_versions_are_told_as_triton_tells_them(tiny: Tiny) -> None:
    cases = [
        ("GET", "/v2/nope", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 400),
        ("GET", "/v2/models/tiny/versions/7/ready", 400),
        ("GET", "/v2/models/tiny/versions/7", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/tiny/versions/9/infer", 404),
        ("POST", "/v2/models/tiny/versions/abc/infer", 404),
    ]
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        for method, path, status in cases:
            answer = await client.request(method, path, content=b"{}" if method == "POST" else None)
            assert answer.status_code == status, (path, answer.text)
            assert "error" in answer.json(), path
        assert (await client.get("/v2/health/ready")).content == b""
        assert (
            await client.post("/v2/models/tiny/versions/1/infer", json={"inputs": [GOOD]})
        ).status_code == 200


async def test_a_time_out_is_a_deadline_and_overload_is_refused(tiny: Tiny) -> None:
    """A microsecond is not enough for any engine; and where no permit is left a caller hears it at once."""
    async with serving(tiny.repository, max_in_flight=3, max_batch_requests=1) as server:
        async with triton.InferenceServerClient(server.http) as client:
            given = [tensor(triton, "item_ids", HISTORY, "INT32")]
            with pytest.raises(InferenceServerException) as late:
                await client.infer("tiny", given, timeout=1)
            three = [tensor(triton, "item_ids", np.repeat(HISTORY, 3, 0), "INT32")]
            assert server.app.admission.try_acquire() is None  # somebody else's
            with pytest.raises(InferenceServerException) as full:
                await client.infer("tiny", three)
            server.app.admission.release()
            assert (await client.infer("tiny", three)).as_numpy("ids").shape == (3, MAX_K)
        assert late.value.status() == "504" and full.value.status() == "429"
        assert server.app.admission.in_flight == 0


async def test_keys_guard_all_but_health(tiny: Tiny) -> None:
    async with (
        serving(tiny.repository, api_keys=("secret",)) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        for method, path in (
            ("GET", "/v2"),
            ("GET", "/v2/models/tiny"),
            ("POST", INFER),
            ("POST", "/v2/repository/index"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == 401 and set(answer.json()) == {"error"}, path
        assert (await client.get("/v2/health/live")).status_code == 200
        keyed = {"x-api-key": "secret"}
        assert (await client.post(INFER, json={"inputs": [GOOD]}, headers=keyed)).status_code == 200


async def test_load_takes_a_new_version_up_and_unload_withdraws_the_model_where_that_is_allowed(
    own_repository,
) -> None:  # type: ignore[no-untyped-def]
    """Without the setting both are refused; with it a published version serves at once, and a withdrawn model is unknown."""
    publish_tiny(own_repository)
    async with serving(own_repository) as server, triton.InferenceServerClient(server.http) as client:
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="not allowed"):
                await change("tiny")
    async with (
        serving(own_repository, kserve_control=True) as server,
        triton.InferenceServerClient(server.http) as client,
    ):
        publish_tiny(own_repository, seed=1)
        await client.load_model("tiny")
        assert await client.is_model_ready("tiny", "2") and not await client.is_model_ready("tiny", "1")

        await client.unload_model("tiny")
        assert not await client.is_model_ready("tiny")
        assert (await client.get_model_repository_index())[0]["state"] == "UNAVAILABLE"
        given = [tensor(triton, "item_ids", HISTORY, "INT32")]
        with pytest.raises(InferenceServerException, match="unknown model"):
            await client.infer("tiny", given)
        await client.load_model("tiny")
        assert (await client.infer("tiny", given)).get_response()["model_version"] == "2"


async def test_a_version_that_comes_while_a_tensor_waits_never_answers_for_the_old_one(
    own_repository,
) -> None:  # type: ignore[no-untyped-def]
    """Rows of one catalogue are not rows of another: a query that was checked for the old version is not run by the new one."""
    from server.errors import NotReady
    from server.pipelines.live_model import LiveRecommender
    from server.tensor_domain import TensorQuery

    publish_tiny(own_repository)
    model = LiveRecommender(own_repository, "tiny", reload_interval_s=0.0)
    await model.start()
    old = model.tensors()
    assert old is not None
    publish_tiny(own_repository, seed=1)
    assert await model.check_for_new_version()

    late = model.submit(TensorQuery(old, HISTORY[0], HISTORY[0][:0]), asyncio.get_running_loop().time() + 5)

    with pytest.raises(NotReady, match="new version"):
        await late
    await model.close(1.0)
