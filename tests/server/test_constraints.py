"""Constraints: what they allow is what they say, with the tokens of a real tokenizer, and bombs do no harm."""

from __future__ import annotations

import functools
import json
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.encoding.text import HuggingFaceCodec, load_codec
from server.http_api.openai.shapes import ToolIn
from server.http_api.openai.tools import CallForm, tool_use
from server.sampling.base import Mask
from server.sampling.constraints import GrammarCompiler
from server.text_domain import Constraint, ConstraintKind, GenerateRequest
from tests.server.tokenizers_made import byte_level_json, write_files

SCHEMA = {
    "type": "object",
    "properties": {
        "headline": {"type": "string", "maxLength": 12},
        "bullets": {
            "type": "array",
            "items": {"type": "string", "maxLength": 5},
            "minItems": 1,
            "maxItems": 3,
        },
        "price": {"type": "number"},
        "size": {"enum": ["S", "M", "蓝"]},
    },
    "required": ["headline", "bullets", "size"],
    "additionalProperties": False,
}


@functools.cache
def codec() -> HuggingFaceCodec:
    with tempfile.TemporaryDirectory() as folder:
        return load_codec(write_files(Path(folder), byte_level_json()))


@functools.cache
def compiler() -> GrammarCompiler:
    return GrammarCompiler(codec())


def asked(kind: str, text: Any) -> GenerateRequest:
    written = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    constraint = Constraint(kind=ConstraintKind(kind), text=written)
    return GenerateRequest(prompt_ids=(1,), max_tokens=99, constraint=constraint)


def opened(kind: str, text: Any) -> Mask:
    mask = compiler().compile(asked(kind, text))
    assert mask is not None
    return mask


def allowed(mask: Mask, vocab: int | None = None) -> list[int]:
    bits = np.zeros(((vocab or codec().vocab_size) + 31) // 32, np.uint32)
    mask.fill(bits)
    return [int(at) for at in np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))]


def walk(mask: Mask, seed: int, most: int = 400) -> tuple[str, bool]:
    """A text of allowed tokens chosen at random, and whether it came to its end."""
    rng, ids = np.random.default_rng(seed), []
    for _ in range(most):
        may = allowed(mask)
        assert may, "nothing is allowed"
        special = codec().special_ids & set(may)
        assert special <= codec().eos_ids, "a special token is no text"
        if special and (len(may) == 1 or rng.random() < 0.3):
            mask.accept(min(special))
            return codec().decode(ids), True
        ordinary = [token for token in may if token not in codec().eos_ids]
        ids.append(int(rng.choice(ordinary)))
        mask.accept(ids[-1])
        if mask.done():
            return codec().decode(ids), True
    return codec().decode(ids), False


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_whatever_is_sampled_under_a_schema_matches_it(seed: int) -> None:
    """Random allowed tokens make JSON with the right fields, types and lengths, whoever chooses them."""
    text, ended = walk(opened("json_schema", SCHEMA), seed)

    if not ended:
        return  # a number may go on for ever
    value = json.loads(text)
    assert {"headline", "bullets", "size"} <= value.keys() <= SCHEMA["properties"].keys()  # type: ignore[attr-defined]
    assert len(value["headline"]) <= 12
    assert 1 <= len(value["bullets"]) <= 3 and all(len(one) <= 5 for one in value["bullets"])
    assert value["size"] in ("S", "M", "蓝")


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_whatever_is_sampled_under_an_expression_matches_it(seed: int) -> None:
    pattern = r"(EUR|USD) [1-9][0-9]{0,3}\.[0-9]{2}( \([a-z]{1,6}\))?"
    text, ended = walk(opened("regex", pattern), seed)
    assert ended and re.fullmatch(pattern, text)


@given(
    choices=st.lists(st.text(st.sampled_from('ab "\\\n|/蓝😀(.)'), max_size=6), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_choice_is_one_of_them_and_each_can_be_made(choices: list[str], seed: int) -> None:
    """Quotes, slashes, line ends, one that begins another: all are texts and none is grammar."""
    text, ended = walk(opened("choice", choices), seed)
    assert ended and text in choices

    for choice in choices:
        mask, left = opened("choice", choices), choice.encode()
        while left:  # where only one text can follow, only one way to write it in tokens is allowed
            fitting = [
                token for token in allowed(mask) if left.startswith(codec().token_bytes(token) or b"?!")
            ]
            token = max(fitting, key=lambda token: len(codec().token_bytes(token)))
            mask.accept(token)
            left = left.removeprefix(codec().token_bytes(token))
        assert codec().eos_ids & set(allowed(mask))


def test_a_grammar_may_name_schemas_and_texts() -> None:
    """The form that tool calls take: marks around JSON."""
    mask = opened(
        "lark",
        'start: "<tool_call>\\n" body "\\n</tool_call>"\nbody: %json {"type": "object", "properties": {"a": {"const": 3}}, "required": ["a"], "additionalProperties": false}',
    )
    for token in codec().encode('<tool_call>\n{"a":3}\n</tool_call>', add_special_tokens=False):
        mask.accept(token)
    assert mask.done()
    assert set(allowed(mask)) <= codec().eos_ids


def test_a_text_may_end_only_where_its_constraint_does() -> None:
    """The end of the text is allowed after a whole match and not before; done when nothing else is."""
    mask = opened("regex", "[0-9]{2,3}")
    (one,) = codec().encode("1", add_special_tokens=False)
    told = []
    for _ in range(3):
        mask.accept(one)
        told.append((bool(codec().eos_ids & set(allowed(mask))), mask.done()))
    assert told == [(False, False), (True, False), (True, True)]
    with pytest.raises(ValueError, match=f"token {one} was not allowed"):
        mask.accept(one)
    assert not mask.done()
    assert allowed(mask) == []


def test_each_of_several_ends_is_allowed_where_one_is(tmp_path: Path) -> None:
    """Llama 3 has three: under a constraint the model may use any of them."""
    folder = write_files(tmp_path, byte_level_json())
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    several = load_codec(folder)
    assert several.eos_ids == {0, 2}
    for end in several.eos_ids:
        mask = GrammarCompiler(several).compile(asked("regex", "a+"))
        assert mask is not None
        mask.accept(several.encode("a", add_special_tokens=False)[0])
        assert several.eos_ids <= set(allowed(mask))
        mask.accept(end)
        assert mask.done()


def test_a_special_token_is_never_text() -> None:
    """A string may hold the letters of <|im_end|>, in ordinary tokens; the token itself would end the text in its middle."""
    mask = opened("json_schema", {"type": "string"})
    letters = [token for piece in ('"', "<", "|", "im_end", "|", ">") for token in codec().encode(piece)]
    for token in letters:
        assert token in allowed(mask)
        assert not codec().special_ids & set(allowed(mask))
        mask.accept(token)


def test_tokens_that_the_tokenizer_has_not_are_never_allowed() -> None:
    """Logits are padded to a round number: what is beyond the tokenizer's tokens stays forbidden."""
    mask = opened("regex", "(?s:.*)")
    may = allowed(mask, vocab=codec().vocab_size + 100)
    assert max(may) < codec().vocab_size


def test_a_model_without_an_end_of_text_is_done_where_nothing_may_follow(tmp_path: Path) -> None:
    """Its masks never allow the end that only the grammar engine knows of."""
    folder = write_files(tmp_path, byte_level_json(), eos_token=None)
    endless = load_codec(folder)
    assert not endless.eos_ids
    mask = GrammarCompiler(endless).compile(asked("regex", "a{1,2}"))
    assert mask is not None
    (token,) = endless.encode("a", add_special_tokens=False)
    mask.accept(token)
    bits = np.zeros((endless.vocab_size + 64) // 32, np.uint32)
    mask.fill(bits)
    assert int(np.bitwise_count(bits).sum()) == 1  # another "a", and no end
    mask.accept(token)
    assert mask.done()


def test_texts_under_one_constraint_do_not_meet() -> None:
    """A compiled constraint is kept, and every text has its own place in it."""
    first, second = opened("choice", ["aa", "ab"]), opened("choice", ["aa", "ab"])
    (a,), (b,) = (codec().encode(one, add_special_tokens=False) for one in "ab")
    first.accept(a)
    first.accept(b)
    assert first.done() and not second.done()
    assert a in allowed(second)


def test_threads_may_compile_at_once() -> None:
    failures: list[BaseException] = []

    def work(place: int) -> None:
        try:
            for number in range(20):
                assert allowed(opened("regex", f"x{number % 5}[a-{chr(97 + place)}]"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_no_constraint_is_no_mask() -> None:
    assert compiler().compile(GenerateRequest(prompt_ids=(1,), max_tokens=1)) is None


@pytest.mark.parametrize("kind", ["json_schema", "lark"])
def test_json_is_of_one_form_alone_and_inside_a_grammar(kind: str) -> None:
    """oneOf is taken as anyOf, and no model can write spaces until its tokens end."""
    schema = json.dumps({"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "boolean"}}]})
    constraint = asked(kind, schema if kind == "json_schema" else f"start: %json {schema}\n").constraint
    assert accepts(constraint, "[true, false]")
    assert accepts(constraint, "12")
    assert not accepts(constraint, "[true," + " " * 33 + "false]")


def tool(name: str, parameters: dict[str, Any] | None) -> ToolIn:
    function = {"name": name, "description": "d", "parameters": parameters}
    return msgspec.convert({"type": "function", "function": function}, ToolIn)


TOOLS = (
    tool("price", {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}),
    tool("no_parameters", None),
    tool(
        "a.b-c",
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {"type": "integer"}}},
    ),
)
CALLS = {
    CallForm.MARKED: '<tool_call>\n{"name": "a.b-c", "arguments": {"x": 3}}\n</tool_call>\n<tool_call>\n'
    '{"name": "no_parameters", "arguments": {}}\n</tool_call>',
    CallForm.PLAIN: '{"name": "price", "parameters": {"sku": "<x>"}}',
}


def accepts(constraint: Constraint | None, text: str) -> bool:
    mask = compiler().compile(GenerateRequest(prompt_ids=(1,), max_tokens=9, constraint=constraint))
    assert mask is not None
    try:
        for token in codec().encode(text, add_special_tokens=False):
            mask.accept(token)
    except ValueError:
        return False
    return bool(codec().eos_ids & set(allowed(mask)))


@pytest.mark.parametrize("form", list(CallForm))
def test_the_grammar_of_tool_calls_takes_calls_and_nothing_else(form: CallForm) -> None:
    """What the API writes as a grammar is one that this compiler understands, with references and odd names."""
    must = tool_use(TOOLS, "required", parallel=True, form=None).constraint(form)
    assert accepts(must, CALLS[form])
    assert not accepts(must, "Sure!")
    assert not accepts(must, CALLS[form].replace("price", "nice").replace("a.b-c", "a_b-c"))

    shape = Constraint(
        kind=ConstraintKind.JSON_SCHEMA, text='{"type": "object", "properties": {"k": {"type": "array"}}}'
    )
    either = tool_use(TOOLS, "auto", parallel=False, form=shape).constraint(form)
    assert accepts(either, '{"k": [1, null]}')
    assert not accepts(either, "Sure!")
