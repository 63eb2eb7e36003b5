"""What OpenAI's own clients get of ``POST /v1/embeddings``: vectors in every form, and errors of the classes they know."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.encoder_domain import EncodeRequest
from server.errors import Code, ServeError
from server.http_api.asgi import AsgiExchange
from server.http_api.openai.embedding_shapes import EmbeddingsIn, decode_embeddings
from tests.server.encoder_published import DIM, MAX_TOKENS, MODEL, TinyEncoder, publish_tiny_encoder
from tests.server.encoder_serving import EncoderServing, serving
from tests.server.serving import post, until

TEXTS = ["where is my order?", "I want to return the shoes", "我想要退货"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyEncoder:
    folder = tmp_path_factory.mktemp("tiny-encoder")
    prefixes = {"query": "query: ", "passage": "passage: "}
    return publish_tiny_encoder(folder, folder / "repository", prefixes=prefixes)


async def wanted(server: EncoderServing, *inputs: Any, **more: Any) -> np.ndarray[Any, Any]:
    assert server.app.encoder is not None
    return (await server.app.encoder.encoder.encode(EncodeRequest(inputs=inputs, **more))).vectors_ND


async def refused(server: EncoderServing, body: Any, status: int, **headers: str) -> dict[str, Any]:
    """The error that a raw request gets."""
    async with httpx.AsyncClient() as client:
        content = body if isinstance(body, bytes) else json.dumps(body)
        answer = await client.post(f"{server.url}/v1/embeddings", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["message"] and error["type"] and error["request_id"] == answer.headers["x-request-id"]
    return error


async def test_texts_come_back_as_vectors_in_their_order(tiny: TinyEncoder) -> None:
    """A list of texts: one vector of length 1 each, with what was read in usage."""
    async with serving(tiny.repository) as server, server.client() as client:
        answer = await client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
        vectors = await wanted(server, *TEXTS)

    assert answer.object == "list" and answer.model == MODEL
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    got = np.array([entry.embedding for entry in answer.data])
    assert np.abs(got - vectors).max() < 1e-8 and np.allclose(np.linalg.norm(got, axis=1), 1.0, atol=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 7 + 8 + 7


async def test_base64_is_what_the_client_asks_for_by_default(tiny: TinyEncoder) -> None:
    """Without a format the client asks for base64 and unpacks it: the same values, bit for bit."""
    async with serving(tiny.repository) as server, server.client() as client:
        answer = await client.embeddings.create(model=MODEL, input=TEXTS[0])
        raw = await client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="base64")
        vectors = await wanted(server, TEXTS[0])

    assert np.array(answer.data[0].embedding, np.float32).tolist() == vectors[0].tolist()
    assert isinstance(raw.data[0].embedding, str)
    assert np.frombuffer(base64.b64decode(raw.data[0].embedding), "<f4").tolist() == vectors[0].tolist()


async def test_the_synchronous_client_works_as_well(tiny: TinyEncoder) -> None:
    """The blocking client gets the same answer, with a model it did not name."""
    async with serving(tiny.repository) as server:

        def ask() -> int:
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
                return len(client.embeddings.create(model="", input="a refund, please").data[0].embedding)

        assert await asyncio.to_thread(ask) == DIM


async def test_token_ids_of_the_caller_are_encoded_as_the_text_is(tiny: TinyEncoder) -> None:
    """A list of ids is one text, a list of lists are several; special tokens are put around them here."""
    async with serving(tiny.repository) as server, server.client() as client:
        vectors = await wanted(server, "where is my order", "refund")
        tokenizer = _ids(tiny)
        one = await client.embeddings.create(model=MODEL, input=tokenizer("where is my order"))
        both = await client.embeddings.create(
            model=MODEL, input=[tokenizer("where is my order"), tokenizer("refund")]
        )

    assert np.allclose(one.data[0].embedding, vectors[0], atol=1e-6)
    assert np.allclose([entry.embedding for entry in both.data], vectors, atol=1e-6)


async def test_a_vector_may_be_cut_where_the_model_was_trained_for_it(tiny: TinyEncoder) -> None:
    """Matryoshka widths are the first values, of length 1 again; any other width is refused with those there are."""
    async with serving(tiny.repository) as server, server.client() as client:
        answer = await client.embeddings.create(model=MODEL, input=TEXTS, dimensions=16)
        vectors = await wanted(server, *TEXTS)
        with pytest.raises(openai.UnprocessableEntityError, match="32, 16") as wrong:
            await client.embeddings.create(model=MODEL, input=TEXTS, dimensions=17)

    short = vectors[:, :16] / np.linalg.norm(vectors[:, :16], axis=1, keepdims=True)
    assert np.allclose([entry.embedding for entry in answer.data], short, atol=1e-6)
    assert wrong.value.param == "dimensions"


async def test_a_text_that_is_too_long_is_an_error_or_cut_as_the_caller_says(tiny: TinyEncoder) -> None:
    """By default it is refused with both numbers; with truncate its end is left out, and the answer says whose."""
    long = "shoes " * 100
    async with serving(tiny.repository) as server, server.client() as client:
        with pytest.raises(openai.UnprocessableEntityError, match=r"102 tokens.*reads 64") as wrong:
            await client.embeddings.create(model=MODEL, input=["refund", long])
        cut = await client.embeddings.create(
            model=MODEL, input=["refund", long], extra_body={"truncate": "end"}
        )
        whole = await client.embeddings.create(model=MODEL, input="shoes " * (MAX_TOKENS - 2))

    assert wrong.value.param == "input[1]"
    assert cut.usage.prompt_tokens == 3 + MAX_TOKENS
    assert cut.usage.model_extra == {"truncated_inputs": 1}
    assert [(entry.model_extra or {}).get("truncated", False) for entry in cut.data] == [False, True]
    assert np.allclose(cut.data[1].embedding, whole.data[0].embedding, atol=1e-6)


async def test_questions_and_passages_are_marked_where_the_model_asks_for_it(tiny: TinyEncoder) -> None:
    """input_type puts the model's own prefix before a text."""
    async with serving(tiny.repository) as server, server.client() as client:
        query = await client.embeddings.create(
            model=MODEL, input="refund", extra_body={"input_type": "query"}
        )
        spelled = await client.embeddings.create(model=MODEL, input="query: refund")

    assert np.allclose(query.data[0].embedding, spelled.data[0].embedding, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"input": ""}, "input", "empty"),
        ({"input": []}, "input", "no entries"),
        ({"input": ["refund", ""]}, "input[1]", "empty"),
        ({"input": "\x00\x07"}, "input", "nothing that this encoder can read"),
        ({"input": "🙂🙂"}, "input", "nothing that this encoder can read"),
        ({"input": ["refund", 7]}, "input[1]", "another kind"),
        ({"input": [5, 1 << 40]}, "input", "token 1099511627776"),
        ({"input": [-1]}, "input", "token -1"),
        ({"input": [[5], []]}, "input[1]", "empty"),
        ({"input": ["a"] * 9}, "input", "limit is 8"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "float, base64"),
        ({"input": "a", "truncate": "start"}, "truncate", "error, end"),
        ({"input": "a", "input_type": "doc"}, "input_type", "query, passage"),
        ({"input": "a", "dimension": 16}, "dimension", "not a field"),
        ({"input": "a", "dimensions": "16"}, "dimensions", "16"),
        ({"input": "a", "deadline_ms": 0}, "deadline_ms", "milliseconds"),
        ({"model": MODEL}, "input", "missing"),
        ({"input": {"text": "a"}}, "input", "input is"),
    ],
)
async def test_wrong_input_is_told_by_field_value_and_limit(
    tiny: TinyEncoder, body: Any, param: str, says: str
) -> None:
    """Each mistake gets a sentence in OpenAI's form that names the field and what to do."""
    async with serving(tiny.repository, encoder_max_inputs=8) as server:
        error = await refused(server, body, 422)

    assert error["type"] == "invalid_request_error" and error["param"] == param
    assert says in error["message"]


async def test_bytes_that_are_no_json_and_half_characters_are_refused(tiny: TinyEncoder) -> None:
    """Broken JSON and unmatched surrogates are 400, and name the body."""
    async with serving(tiny.repository) as server:
        assert (await refused(server, b'{"input": "a"', 400))["code"] == "malformed"
        assert (await refused(server, b'{"input": "\\ud800"}', 400))["code"] == "malformed"
        assert (await refused(server, {"input": "a", "model": "other"}, 404))["code"] == "model_not_found"
        await refused(server, {"input": "a" * (1 << 20)}, 413)


async def test_a_megabyte_and_right_to_left_text_are_encoded(tiny: TinyEncoder) -> None:
    """A text of a megabyte is cut to what is read of it; mixed directions are text like any other."""
    async with serving(tiny.repository, max_body_bytes=4 << 20) as server, server.client() as client:
        answer = await client.embeddings.create(
            model=MODEL, input=["shoes " * 170_000, "أريد refund من فضلك"], extra_body={"truncate": "end"}
        )

    assert np.isfinite([entry.embedding for entry in answer.data]).all()


async def test_keys_and_request_ids_are_as_elsewhere(tiny: TinyEncoder) -> None:
    """No key, no vectors; the caller's request id comes back."""
    async with serving(tiny.repository, api_keys=("secret",)) as server:
        assert (await refused(server, {"input": "a"}, 401))["code"] == "invalid_api_key"
        async with server.client(api_key="secret") as client:
            answer = await client.embeddings.with_raw_response.create(
                model=MODEL, input="refund", extra_headers={"x-request-id": "shop-7"}
            )

    assert answer.headers["x-request-id"] == "shop-7"
    assert "engine;dur=" in answer.headers["server-timing"]


async def test_a_server_that_is_full_says_when_to_come_again(tiny: TinyEncoder) -> None:
    """Without a permit left: 429 with Retry-After, before the body is looked at."""
    async with serving(tiny.repository, encoder_max_in_flight=1) as server, server.client() as client:
        assert server.app.encoder is not None
        admission = server.app.encoder.service.admission
        with admission.take(), pytest.raises(openai.RateLimitError) as full:
            await client.embeddings.create(model=MODEL, input="refund")
        await client.embeddings.create(model=MODEL, input="refund")

    assert int(full.value.response.headers["retry-after"]) >= 1


async def test_who_hangs_up_gives_the_permit_back_whenever_it_is(tiny: TinyEncoder) -> None:
    """Before its work has begun or while it is computed: a caller who leaves holds nothing."""
    async with serving(tiny.repository) as server:
        assert server.app.encoder is not None
        service = server.app.encoder.service
        (endpoint,) = server.app.encoder.endpoints
        exchange = AsgiExchange({})
        exchange.body = b'{"input": "refund"}'
        call = endpoint.start(exchange)
        assert call is not None and service.admission.in_flight == 1
        call.cancel()
        await until(lambda: service.admission.in_flight == 0)

        connection = await server.connect()
        connection.send(post({"input": ["refund shoes " * 20] * 2000}, "/v1/embeddings"))
        await until(lambda: service.admission.in_flight == 1)
        connection.close()
        await until(lambda: service.admission.in_flight == 0)
        assert server.app.encoder.encoder.queued == 0


async def test_a_deadline_that_has_passed_is_an_error_of_its_own(tiny: TinyEncoder) -> None:
    """Too short a deadline is 504, and no vector."""
    async with serving(tiny.repository) as server:
        error = await refused(server, {"input": ["shoes " * 50] * 2000, "deadline_ms": 0.01}, 504)

    assert error["type"] == "timeout_error"


async def test_models_and_documents_show_the_encoder(tiny: TinyEncoder) -> None:
    """/v1/models tells its kind, its limits and whether it is ready; the document's own example is answered."""
    async with serving(tiny.repository) as server, httpx.AsyncClient(base_url=server.url) as client:
        listed = {entry["id"]: entry for entry in (await client.get("/v1/models")).json()["data"]}
        document = (await client.get("/openapi.json")).json()
        operation = document["paths"]["/v1/embeddings"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = await client.post("/v1/embeddings", json=example)
        metrics = (await client.get(f"{server.metrics_url}/metrics")).text

    assert listed[MODEL]["task"] == "sentence_encoding" and listed[MODEL]["ready"]
    assert (
        listed[MODEL]["limits"]["max_tokens"] == MAX_TOKENS and listed[MODEL]["limits"]["max_inputs"] == 2048
    )
    assert "/v1/recommendations" in document["paths"] and "/v1/product-copy" not in document["paths"]
    assert answer.status_code == 200 and len(answer.json()["data"]) == len(example["input"])
    assert 'vitrine_encoder_inputs_total{kind="live",model="tiny-encoder"} 2.0' in metrics
    assert 'vitrine_encoder_tokens_total{kind="text",model="tiny-encoder"}' in metrics
    assert 'vitrine_encoder_batch_tokens_count{model="tiny-encoder"}' in metrics
    assert 'endpoint="embeddings",outcome="ok"' in metrics
    assert 'vitrine_engine_info{engine="onnxruntime",model="tiny-encoder"' in metrics


async def test_without_an_encoder_there_is_no_such_path(tmp_path: Path) -> None:
    """A repository that holds none: the path is not there, and everything else is."""
    async with serving(tmp_path) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/embeddings", json={"input": "a"})
        assert answer.status_code == 404 and answer.json()["error"]["type"] == "not_found_error"
        assert "/v1/embeddings" not in (await client.get("/openapi.json")).json()["paths"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*EmbeddingsIn.__struct_fields__, "colour"]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.booleans())
def test_no_body_makes_more_than_a_refusal(fields: dict[str, Any], whole: bool) -> None:
    """Whatever JSON comes, it is something to encode or a refusal of ours that names the field."""
    try:
        asked = decode_embeddings(json.dumps({**({"input": "a"} if whole else {}), **fields}).encode())
    except ServeError as error:
        assert error.code in (Code.INVALID_ARGUMENT, Code.MALFORMED) and error.message and error.field
    else:
        assert asked.request.inputs


def _ids(tiny: TinyEncoder) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny.opened.folder / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
