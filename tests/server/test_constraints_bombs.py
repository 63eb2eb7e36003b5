"""Constraints that are too large, too deep, wrong, or made to do harm: a sentence each, within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from server.errors import InvalidRequest
from server.sampling.grammar_limits import (
    MAX_CHARS,
    MAX_CHOICES,
    MAX_REFERENCES,
    MAX_RULES,
    MAX_VALUES,
    expanded_chars,
)
from tests.server.test_constraints import asked, compiler


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
from tests.server.test_constraints import allowed, codec, compiler, opened
from tests.server.test_constraints_bombs import chained, nested
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
def peak_mib():  # not ru_maxrss, which begins at the parent's peak
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))
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
        print(f"{name}: {took:.3f} s, {peak_mib()} MiB, {told[:150]}", flush=True)
thread = threading.Thread(target=run); thread.start(); thread.join()
print(json.dumps({"worst_s": worst, "mib": peak_mib()}))
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
