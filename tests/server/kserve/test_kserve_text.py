"""Text models by tensors: a prompt to its text, whole or in pieces, as Triton's own text backends are asked."""

from __future__ import annotations

import asyncio
import json
import queue
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as blocking
import tritonclient.http.aio as triton
from tritonclient.utils import InferenceServerException

from tests.server.kserve.kserve_world import serving, tensor


def prompt(module: Any, text: str, **more: Any) -> list[Any]:
    given = [tensor(module, "text_input", np.array([text.encode()], dtype=object), "BYTES")]
    if "sampling" in more:
        raw = np.array([json.dumps(more["sampling"]).encode()], dtype=object)
        given.append(tensor(module, "sampling_parameters", raw, "BYTES"))
    if "stream" in more:
        given.append(tensor(module, "stream", np.array([more["stream"]]), "BOOL"))
    return given


async def test_a_prompt_is_answered_whole_and_listed(tiny_text) -> None:  # type: ignore[no-untyped-def]
    """What ``/v1/completions`` writes for the same prompt, greedily."""
    async with serving_real(tiny_text) as server, triton.InferenceServerClient(server.http) as client:
        name = tiny_text.opened.manifest.model
        answer = await client.infer(
            name, prompt(triton, "a blue mug", sampling={"max_tokens": 8, "temperature": 0})
        )
        index = await client.get_model_repository_index()
        text = answer.as_numpy("text_output")[0].decode()
        async with httpx.AsyncClient() as other:
            body = {"model": name, "prompt": "a blue mug", "max_tokens": 8, "temperature": 0}
            reply = await other.post(f"{server.url}/v1/completions", json=body, timeout=20)
        for wrong, sentence in (
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_token": 3}, "max_token"),
            ({"temperature": -1}, "temperature"),
        ):
            with pytest.raises(InferenceServerException, match=sentence):
                await client.infer(name, prompt(triton, "x", sampling=wrong))
        with pytest.raises(InferenceServerException, match="ModelStreamInfer"):
            await client.infer(name, prompt(triton, "x", stream=True))
        assert server.app.text is not None and server.app.text.service.admission.in_flight == 0
    assert {"name": name, "version": "1", "state": "READY"} in index
    assert text == reply.json()["choices"][0]["text"]


async def test_a_stream_tells_pieces_and_then_its_end(tiny_text) -> None:  # type: ignore[no-untyped-def]
    """Put together they are the whole text; with the wish for it, an empty answer ends them."""
    name = tiny_text.opened.manifest.model
    asked = {"max_tokens": 12, "temperature": 0}

    def ask(url: str) -> tuple[str, list[str], bool]:
        seen: queue.Queue[Any] = queue.Queue()
        with blocking.InferenceServerClient(url) as client:
            whole = client.infer(name, prompt(blocking, "a blue mug", sampling=asked)).as_numpy("text_output")
            client.start_stream(lambda result, error: seen.put((result, error)))
            client.async_stream_infer(
                name,
                prompt(blocking, "a blue mug", sampling=asked, stream=True),
                enable_empty_final_response=True,
            )
            pieces: list[str] = []
            while True:
                result, error = seen.get(timeout=20)
                assert error is None, error
                response = result.get_response()
                if response.parameters["triton_final_response"].bool_param:
                    break
                pieces.append(result.as_numpy("text_output")[0].decode())
            client.stop_stream()
        return whole[0].decode(), pieces, not response.outputs

    async with serving_real(tiny_text) as server:
        whole, pieces, empty = await asyncio.to_thread(ask, server.grpc)
    assert "".join(pieces) == whole and empty
    assert len(pieces) > 1


def serving_real(tiny_text: Any) -> Any:
    return serving(tiny_text.repository, text_engine="", text_threads=1)
