"""Constraints: what they allow is what they say, with the tokens of a real tokenizer, and bombs do no harm."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
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
from server.errors import InvalidRequest
from server.http_api.openai.shapes import ToolIn
from server.http_api.openai.tools import CallForm, tool_use
from server.sampling.base import Mask
from server.sampling.constraints import GrammarCompiler
from server.sampling.grammar_limits import (
    MAX_CHARS,
    MAX_CHOICES,
    MAX_REFERENCES,
    MAX_RULES,
    MAX_VALUES,
    expanded_chars,
)
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
        mask = opened("choice", choices)
        for token in codec().encode(choice, add_special_tokens=False):
            assert token in allowed(mask)
            mask.accept(token)
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


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def chained(references: int) -> dict[str, Any]:
    steps = {f"d{at}": {"$ref": f"#/$defs/d{at + 1}"} for at in range(references)}
    return {"$ref": "#/$defs/d0", "$defs": {**steps, f"d{references}": {"type": "null"}}}


REFUSED = {
    "not json": ("json_schema", "{nope", r"json_schema constraint is not JSON"),
    "deep json": ("json_schema", "[" * 50_000, r"json_schema constraint is not JSON: .*deep"),
    "long": ("json_schema", " " * (MAX_CHARS + 1), rf"has {MAX_CHARS + 1} characters, the limit is {MAX_CHARS}"),
    "deep": ("json_schema", nested(64), r"has 65 levels, the limit is 64"),
    "wide": ("json_schema", {"enum": list(range(MAX_VALUES))}, rf"values, the limit is {MAX_VALUES}"),
    "references": ("json_schema", chained(MAX_REFERENCES), rf"references, the limit is {MAX_REFERENCES}"),
    "remote": ("json_schema", {"$ref": "http://x.invalid/y"}, r"cannot be used: .*not fetch"),
    "endless": ("json_schema", {"$ref": "#"}, r"cannot be used: "),
    "impossible": ("json_schema", {"allOf": [{"const": 1}, {"const": 2}]}, r"cannot be used: .*[Uu]nsatisfiable"),
    "wrong word": ("json_schema", {"type": "text"}, r"cannot be used: "),
    "regex": ("regex", "(a", r"regex constraint cannot be used: .*unclosed group"),
    "regex bomb": ("regex", "(a{1000}){1000}", r"has 1000000 characters with repetitions written out, the limit is 50000"),
    "regex deep": ("regex", "(" * 8000 + "a" + ")" * 8000, r"regex constraint cannot be used"),
    "regex long": ("regex", "a" * 20_000, r"has 20000 characters"),
    "not a list": ("choice", {"a": 1}, r"choice constraint is not a list of texts"),
    "no choice": ("choice", [], r"choice constraint is not a list of texts"),
    "choices": ("choice", [str(at) for at in range(MAX_CHOICES + 1)], rf"has {MAX_CHOICES + 1} texts"),
    "unknown rule": ("lark", "start: nothing", r'lark constraint cannot be used: .*unknown name: "nothing"'),
    "rules": ("lark", "start: r0\n" + "\n".join(f"r{at}: r{at + 1}" for at in range(MAX_RULES)), r"rules, the limit is"),
    "left": ("lark", "start: start", r"lark constraint cannot be used"),
    "schema inside": ("lark", "start: %json " + json.dumps(chained(MAX_REFERENCES)), r"references, the limit is"),
    "hidden": ("lark", "start: %json " + json.dumps(chained(MAX_REFERENCES)).replace("$ref", "\\u0024ref"), r"references, the limit"),
    "broken inside": ("lark", "start: %json {nope", r"has no JSON after %json at character 7"),
    "surrogate": ("regex", "a\ud800", r"holds half of a surrogate pair"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_constraint_that_cannot_be_kept_is_refused_with_a_sentence(case: str) -> None:
    """What is too large, too deep, impossible or wrong says so before the text has a slot."""
    kind, text, sentence = REFUSED[case]
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        compiler().compile(asked(kind, text))
    assert caught.value.field == "structured_outputs"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("expression", "chars"),
    [("", 0), ("abc", 3), (r"a{3}", 3), (r"(ab{3}){2}", 8), (r"(a{1000}){1000}", 10**6), (r"[{3}(]{4}", 4), (r"\(a{2}\{3}", 6),
     (r"[]{9}]x", 2), (r"((a){2}|b){3,7}c", 29), ("a~5 b~2..3", 9), ("a{0}b{0,}", 2), ("((((", 0), ("a)))b", 5)],
)  # fmt: skip
def test_an_expression_is_as_long_as_it_is_written_out(expression: str, chars: int) -> None:
    assert expanded_chars(expression) == chars


BOMBS = r"""
import json, resource, sys, time
sys.path.insert(0, ".")
resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, 2 << 20))
import threading
threading.stack_size(2 << 20)
from tests.server.test_constraints import allowed, chained, codec, compiler, nested, opened
from server.errors import InvalidRequest
from server.sampling.grammar_limits import MAX_CHARS, MAX_REFERENCES, MAX_RULES, MAX_VALUES
n = MAX_RULES - 8
alternatives = " | ".join(['"a"'] * 9000)
bombs = {
    "rules": ("lark", "start: r0\n" + "\n".join(f"r{i}: r{i+1}" for i in range(n)) + f'\nr{n}: "a"'),
    "tokens": ("lark", "start: T0\n" + "\n".join(f"T{i}: T{i+1} /b/" for i in range(n)) + f'\nT{n}: "a"'),
    "doubling": ("lark", "start: T0\n" + "\n".join(f"T{i}: T{i+1} T{i+1}" for i in range(60)) + '\nT60: "a"'),
    "doubling rules": ("lark", "start: r0\n" + "\n".join(f"r{i}: r{i+1} r{i+1}" for i in range(60)) + '\nr60: "a"'),
    "ambiguous": ("lark", 'start: s\ns: s s s | s s | /[a-z]+/ | ""'),
    "alternatives": ("lark", "start: " + alternatives),
    "a row": ("lark", "start: " + " ".join(['"a"'] * 16000)),
    "maybe": ("lark", "start: " + " ".join(['"a"?'] * 12000)),
    "both": ("lark", "start: A\nA: " + " & ".join(["/.*a.{12}b/"] * 3000)),
    "not": ("lark", "start: A\nA: " + "~" * 20000 + "/a/"),
    "many": ("lark", 'start: "a"{1000000}'),
    "references": ("json_schema", chained(MAX_REFERENCES - 1)),
    "deep": ("json_schema", nested(30)),
    "any": ("json_schema", {"anyOf": [{"type": "array", "items": {"enum": [i]}} for i in range(700)]}),
    "one": ("json_schema", {"oneOf": [{"properties": {f"p{i}": {}}} for i in range(900)]}),
    "all": ("json_schema", {"allOf": [{"properties": {f"p{i}": {"type": "string"}}} for i in range(900)]}),
    "properties": ("json_schema", {"properties": {f"p{i}": {"type": "string"} for i in range(1300)}}),
    "patterns": ("json_schema", {"properties": {f"p{i}": {"pattern": "(a|b)*a(a|b){30}"} for i in range(300)}}),
    "doubled": ("json_schema", {"$ref": "#/$defs/d0", "$defs": {**{f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i+1}"}] * 2} for i in range(100)}, "d100": {"properties": {"a": {}}}}}),
    "length": ("json_schema", {"type": "string", "minLength": 10**9, "maxLength": 10**9}),
    "items": ("json_schema", {"type": "array", "minItems": 10**6, "items": {"type": "integer"}}),
    "enum": ("json_schema", {"enum": ["v" * 10 + str(i) for i in range(3500)]}),
    "nested terminals": ("lark", 'start: A\nA: B{1000}\nB: C{1000}\nC: "a"'),
    "regex": ("regex", "((a{100}){100}){100}"),
    "regex row": ("regex", "a?" * 4000 + "a" * 4000),
    "regex bars": ("regex", "|".join(["ab*c"] * 3000)),
    "regex classes": ("regex", "[a-z]*" * 2500),
    "regex dots": ("regex", "(.*a){50}(.*b){50}"),
    "regex unicode": ("regex", r"\p{L}{1,1000}\p{N}{1,1000}"),
}
worst = 0.0
def run():
    global worst
    codec(); compiler()
    for name, (kind, text) in bombs.items():
        began = time.process_time()
        try:
            mask, told = opened(kind, text), "compiled"
            for _ in range(12):
                may = [t for t in allowed(mask) if t not in codec().eos_ids]
                if not may: break
                mask.accept(max(may, key=lambda t: len(codec().token_bytes(t))))
        except (InvalidRequest, ValueError) as error:
            told = str(error)
        took = time.process_time() - began
        worst = max(worst, took)
        print(f"{name}: {took:.3f} s, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB, {told[:150]}", flush=True)
thread = threading.Thread(target=run); thread.start(); thread.join()
print(json.dumps({"worst_s": worst, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}))
"""


def test_bombs_end_in_a_sentence_within_bounds() -> None:
    """Everything that the limits let through compiles and steps, or is refused, in a process of its own with a stack a
    quarter of the usual one: no crash, at most 3 s of CPU and 700 MiB for any of them."""
    done = subprocess.run(
        [sys.executable, "-c", BOMBS], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}"
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["worst_s"] < 3.0, done.stdout
    assert figures["mib"] < 700, done.stdout


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
