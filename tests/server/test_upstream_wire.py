"""The wire to a server elsewhere, and its breaker: nothing that is asked is lost, and no cut of the network changes a text."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.engines.breaker import Breaker
from server.engines.upstream_wire import EventReader, WireCodec, ask
from server.text_domain import (
    Constraint,
    ConstraintKind,
    FinishReason,
    GenerateRequest,
    SamplingParams,
)
from tests.server.event_streams import said, sse


def test_everything_that_is_asked_is_passed_on() -> None:
    """Sampling, stops and constraints by the names that OpenAI, vLLM and Vitrine share; defaults are left out."""
    codec = WireCodec()
    ids = tuple(codec.encode_chat([{"role": "user", "content": "hi"}]))
    schema = Constraint(kind=ConstraintKind.JSON_SCHEMA, text='{"type":"object"}')
    full = GenerateRequest(
        prompt_ids=ids, max_tokens=5, stop=("x",), ignore_eos=True, constraint=schema, stop_token_ids=frozenset({3}),
        sampling=SamplingParams(temperature=0.5, top_k=4, seed=7, logit_bias={9: 1.0}, presence_penalty=1.0),
    )  # fmt: skip
    path, body = ask(full, "m", 100)
    plain_path, plain = ask(
        GenerateRequest(prompt_ids=tuple(codec.encode("héllo")), max_tokens=100), "m", 100
    )

    assert path == "/chat/completions" and plain_path == "/completions"
    assert json.loads(body) == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 0.5, "top_k": 4,
        "presence_penalty": 1.0, "seed": 7, "stop": ["x"], "stop_token_ids": [3], "ignore_eos": True,
        "logit_bias": {"9": 1.0},
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}
        },
    }  # fmt: skip
    assert json.loads(plain) == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "prompt": "héllo", "temperature": 1.0
    }  # fmt: skip


def test_streamed_tool_calls_become_the_text_that_a_model_writes() -> None:
    """Name and arguments in pieces are put together as this house reads them."""

    def call(index: int, **function: str) -> dict[str, Any]:
        return {"choices": [{"delta": {"tool_calls": [{"index": index, "function": function}]}}]}

    stream = sse(
        call(0, name="find", arguments=""), call(0, arguments='{"a":'), call(0, arguments="1}"),
        call(1, name="stock", arguments="{}"), said("", "tool_calls"),
    )  # fmt: skip
    pieces = EventReader().feed(stream)

    assert "".join(piece.text for piece in pieces) == (
        '<tool_call>\n{"name": "find", "arguments": {"a":1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "stock", "arguments": {}}\n</tool_call>'
    )
    assert pieces[-1].reason is FinishReason.STOP


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.lists(st.integers(0, 400), max_size=8))
def test_where_the_network_cuts_a_stream_changes_nothing(texts: list[str], cuts: list[int]) -> None:
    """Any cut, within characters and line ends too, gives the same text; line ends of Unicode are text."""
    data = b"".join(
        b"data: %b\r\n\r\n" % json.dumps(said(text + "\u2028"), ensure_ascii=False).encode("utf-8", "replace")
        for text in texts
    )
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = EventReader()
    pieces = [piece for a, b in itertools.pairwise(places) for piece in reader.feed(data[a:b])]
    whole = EventReader().feed(data)

    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in whole)
    assert "".join(piece.text for piece in whole).count("\u2028") >= len(texts)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 40.0), st.sampled_from(["ask", "worked", "failed", "left"])), max_size=40
    )
)
def test_a_breaker_never_locks_for_good(steps: list[tuple[float, str]]) -> None:
    """Whatever happened, a server is let through again within the longest wait, and at most one try is on its way while open."""
    breaker, now_s, trying = Breaker(), 0.0, 0
    for wait_s, what in steps:
        now_s += wait_s
        if what == "ask":
            if breaker.take(now_s) and not breaker.closed:
                trying += 1
                assert trying == 1
        elif what == "worked":
            breaker.worked()
            trying = 0
        elif what == "failed":
            breaker.failed(now_s)
            trying = 0
        else:
            breaker.left()
            trying = 0
        assert breaker.wait_s(now_s) <= 30.0
    breaker.left()
    assert breaker.take(now_s + 30.0)
