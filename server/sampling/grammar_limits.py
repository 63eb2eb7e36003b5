"""How large a constraint may be, decided before the grammar engine sees it.

llguidance bounds its own time and memory in fuel, but it follows rules and references by recursion, and a chain of some
thousands of them ends the process by a full stack (seen with 1.9.1 on a stack of 8 MiB: 3,000 references, 20,000 rules).
The limits here leave a factor of ten to that, and are far above what people write.

Units: characters, and values in a JSON schema.
"""

from __future__ import annotations

import json
import re
from typing import Any

from server.errors import InvalidRequest
from server.text_domain import Constraint, ConstraintKind

MAX_CHARS = 64 << 10
MAX_REGEX_CHARS = 16 << 10
MAX_VALUES = 4096  # in all schemas of a constraint
MAX_DEPTH = 64  # of a schema
MAX_REFERENCES = 256
MAX_RULES = 512  # of a grammar: colons outside of its schemas
MAX_CHOICES = 2048
MAX_EXPANDED = 50_000  # characters of all expressions with their counted repetitions written out
FIELD = "structured_outputs"
# Models that are left free between values write spaces until their tokens end; and oneOf is written as anyOf, because no
# grammar can count matches.
JSON_FORM: Any = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,32}", "coerce_one_of": True}

_COUNT = re.compile(r"\{(\d{1,12})(?:,(\d{0,12}))?\}|~(\d{1,12})(?:\.\.(\d{1,12}))?")
_JSON = re.compile(r"%json\b\s*")
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def grammar_of(constraint: Constraint) -> tuple[ConstraintKind, str]:
    """The constraint in a form that the engine compiles: a schema, an expression, or a grammar.

    Raises:
        InvalidRequest: it is too large or too deep, or not what it says it is; names the limit.
    """
    kind, text = constraint.kind, constraint.text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _refused(kind, "holds half of a surrogate pair", "Unicode") from error
    _check(kind, "characters", len(text), MAX_REGEX_CHARS if kind is ConstraintKind.REGEX else MAX_CHARS)
    if kind is ConstraintKind.REGEX:
        _check(kind, "characters with repetitions written out", expanded_chars(text), MAX_EXPANDED)
    elif kind is ConstraintKind.JSON_SCHEMA:
        _check_schemas(kind, [_json(kind, text)])
    elif kind is ConstraintKind.CHOICE:
        return ConstraintKind.LARK, _choice(text)
    elif kind is ConstraintKind.LARK:
        return kind, _grammar(text)
    return kind, text


def _choice(text: str) -> str:
    choices = _json(ConstraintKind.CHOICE, text)
    if not isinstance(choices, list) or not choices or not all(isinstance(one, str) for one in choices):
        raise _refused(
            ConstraintKind.CHOICE, "is not a list of texts", f"1 .. {MAX_CHOICES} texts", "send some"
        )
    _check(ConstraintKind.CHOICE, "texts", len(choices), MAX_CHOICES)
    return "start: " + " | ".join(json.dumps(one, ensure_ascii=False) for one in dict.fromkeys(choices))


def _grammar(text: str) -> str:
    """A grammar within bounds, and its schemas as ``JSON_FORM`` has them."""
    schemas: list[Any] = []
    rest: list[str] = []
    out: list[str] = []
    at = 0
    for match in _JSON.finditer(text):
        if match.start() < at:
            continue  # inside of a schema
        rest.append(text[at : match.start()])
        try:
            value, at = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            raise _refused(
                ConstraintKind.LARK, f"has no JSON after %json at character {match.start()}", "JSON"
            ) from error
        schemas.append(value)
        formed = {"x-guidance": JSON_FORM, **value} if isinstance(value, dict) else value
        out += [rest[-1], "%json ", json.dumps(formed, ensure_ascii=False)]
    rest.append(text[at:])
    size = sum(map(expanded_chars, rest))
    _check(ConstraintKind.LARK, "characters with repetitions written out", size, MAX_EXPANDED + MAX_CHARS)
    _check(ConstraintKind.LARK, "rules", sum(part.count(":") for part in rest), MAX_RULES)
    _check_schemas(ConstraintKind.LARK, schemas)
    return "".join([*out, rest[-1]])


def _check_schemas(kind: ConstraintKind, schemas: list[Any]) -> None:
    values = references = expanded = 0
    level: list[Any] = schemas
    depth = 0
    while level:
        depth += 1
        _check(kind, "levels", depth, MAX_DEPTH)
        below: list[Any] = []
        for value in level:
            values += 1
            if isinstance(value, dict):
                references += len(_REFERENCES & value.keys())
                expanded += sum(map(expanded_chars, _patterns(value)))
                below += value.values()
            elif isinstance(value, list):
                below += value
        _check(kind, "values", values + len(below), MAX_VALUES)
        level = below
    _check(kind, "references", references, MAX_REFERENCES)
    _check(kind, "characters in patterns with repetitions written out", expanded, MAX_EXPANDED)


def _patterns(schema: dict[str, Any]) -> list[str]:
    by_key = schema.get("patternProperties")
    found = [schema.get("pattern"), *(by_key if isinstance(by_key, dict) else ())]
    return [one for one in found if isinstance(one, str)]


def expanded_chars(expression: str) -> int:
    """How long an expression is once its counted repetitions are written out: about what compiling it costs.

    Reads groups, classes, escapes and counts and nothing else of the syntax, so that it is a bound for whatever the rest
    means: ``(ab{3}){2}`` is 8.
    """
    open_groups: list[int] = []
    size = last = at = 0
    while at < len(expression):
        char = expression[at]
        count = _COUNT.match(expression, at) if char in "{~" else None
        if count is not None:
            times = max(int(number) for number in count.groups() if number)
            size += last * (times - 1) if times else 0
            last *= max(1, times)
            at = count.end()
            continue
        if char == "(":
            open_groups.append(size)
            size = last = 0
        elif char == ")" and open_groups:
            last = size
            size += open_groups.pop()
        else:
            end = _class_end(expression, at) if char == "[" else at + 1 + (char == "\\")
            last, at = 1, end - 1
            size += 1
        at += 1
    return size + sum(open_groups)


def _class_end(expression: str, at: int) -> int:
    end = at + 1 + expression.startswith("^", at + 1)
    end += expression.startswith("]", end)
    while end < len(expression) and expression[end] != "]":
        end += 1 + (expression[end] == "\\")
    return min(end + 1, len(expression))


def _json(kind: ConstraintKind, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        told = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refused(kind, f"is not JSON: {told}", "JSON") from error


def _check(kind: ConstraintKind, of: str, found: int, limit: int) -> None:
    if found > limit:
        raise _refused(kind, f"has {found} {of}, the limit is {limit}", f"{limit} {of}", "send a smaller one")


def _refused(
    kind: ConstraintKind, problem: str, limit: str, to_do: str = "send another one"
) -> InvalidRequest:
    return InvalidRequest(f"the {kind.value} constraint {problem}; {to_do}", field=FIELD, limit=limit)
