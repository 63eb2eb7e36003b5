"""The sentence encoder by its tensors: the vectors of ``/v1/embeddings``, by Triton's clients."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc.aio as grpc_triton
import tritonclient.http.aio as triton
from tritonclient.utils import InferenceServerException

from server.encoder_domain import EncodeRequest
from tests.server.encoder_published import DIM, MAX_TOKENS, MODEL, TinyEncoder, publish_tiny_encoder
from tests.server.encoder_serving import serving
from tests.server.kserve.kserve_world import tensor

TEXTS = ("where is my order?", "I want to return the shoes")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TinyEncoder:
    folder = tmp_path_factory.mktemp("encoder")
    return publish_tiny_encoder(folder, folder / "repository")


def words(*texts: str) -> np.ndarray:
    return np.array([[text.encode()] for text in texts], dtype=object)


async def test_texts_and_their_tokens_give_the_same_vectors_on_both_wires(encoder: TinyEncoder) -> None:
    """As text, and as the ids with their special tokens that the graph takes: the vectors that the product gives."""
    async with serving(encoder.repository, grpc=True) as server:
        assert server.app.encoder is not None
        live = server.app.encoder.encoder
        encoded = await live.encode(EncodeRequest(inputs=TEXTS))
        ids = [one.ids for one in live._current().codec.encode(TEXTS, *_plain())]
        padded = np.zeros((len(ids), max(map(len, ids))), np.int64)
        for row, one in zip(padded, ids, strict=True):
            row[: len(one)] = one
        lengths = np.array([[len(one)] for one in ids], np.int64)
        for module, where in ((triton, server.url[7:]), (grpc_triton, server.grpc_target)):
            async with module.InferenceServerClient(where) as client:
                by_text = await client.infer(MODEL, [tensor(module, "text", words(*TEXTS), "BYTES")])
                by_ids = await client.infer(
                    MODEL,
                    [
                        tensor(module, "input_ids", padded, "INT64"),
                        tensor(module, "lengths", lengths, "INT64"),
                    ],
                )
                for answer in (by_text, by_ids):
                    np.testing.assert_allclose(answer.as_numpy("embedding"), encoded.vectors_ND, atol=1e-5)
                assert by_text.as_numpy("embedding").shape == (2, DIM)
        async with triton.InferenceServerClient(server.url[7:]) as client:
            assert await client.is_model_ready(MODEL)
            assert {one["name"] for one in (await client.get_model_metadata(MODEL))["inputs"]} == {
                "text",
                "input_ids",
                "lengths",
            }
            assert (await client.get_inference_statistics(MODEL))["model_stats"][0]["inference_count"] == 8
        assert server.app.encoder.service.admission.in_flight == 0


def _plain() -> tuple[object, object]:
    from server.encoder_domain import InputKind, Truncate

    return InputKind.PLAIN, Truncate.ERROR


async def test_what_the_encoder_cannot_read_is_refused_with_a_sentence(encoder: TinyEncoder) -> None:
    ids = np.ones((1, 3), np.int64)
    long = np.ones((1, MAX_TOKENS + 1), np.int64)

    def given(**arrays: np.ndarray) -> list[object]:
        return [
            tensor(triton, name, array, "BYTES" if array.dtype == object else "INT64")
            for name, array in arrays.items()
        ]

    cases = [
        (given(), "send 'text', or"),
        (given(input_ids=ids), "together with 'lengths'"),
        (given(text=words("a b"), input_ids=ids, lengths=np.array([[3]])), "send 'text', or"),
        (given(input_ids=ids, lengths=np.array([[4]])), "each is 1 to the 3 columns"),
        (given(input_ids=ids, lengths=np.array([[0]])), "each is 1 to the 3 columns"),
        (given(input_ids=ids * 10**6, lengths=np.array([[3]])), "has the token 1000000"),
        (given(input_ids=long, lengths=np.array([[MAX_TOKENS + 1]])), "the encoder reads"),
        (given(text=np.array([[b"\xff\xfe"]], dtype=object)), "not UTF-8"),
        (given(text=words("")), "is empty"),
    ]
    async with serving(encoder.repository) as server, triton.InferenceServerClient(server.url[7:]) as client:
        assert server.app.encoder is not None
        for inputs, sentence in cases:
            with pytest.raises(InferenceServerException) as refused:
                await client.infer(MODEL, inputs)
            assert refused.value.status() == "400" and sentence in refused.value.message(), sentence
            assert server.app.encoder.service.admission.in_flight == 0
