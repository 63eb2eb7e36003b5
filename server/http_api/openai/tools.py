r"""Tools: what may be called, and the grammar that makes a model call one.

Calls are written as Qwen and Hermes models write them, ``<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>``;
``tool_calls.py`` reads them back. The grammar is Lark in llguidance's dialect, whose ``%json`` takes a JSON schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from server.errors import InvalidRequest
from server.http_api.openai.shapes import ToolChoiceIn, ToolIn
from server.http_api.openai.tool_calls import CLOSE, OPEN
from server.text_domain import Constraint, ConstraintKind

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """What a request says about tools.

    Attributes:
        shown: tools as the template gets them.
        parse: whether calls are looked for in the text.
        single: whether only one call is wanted.
        constraint: makes the model call, or, with a form for the text, keeps it to one of both.
    """

    shown: tuple[dict[str, Any], ...] = ()
    parse: bool = False
    single: bool = False
    constraint: Constraint | None = None


def tool_use(
    tools: Sequence[ToolIn],
    choice: str | ToolChoiceIn | None,
    *,
    parallel: bool,
    form: Constraint | None,
) -> ToolUse:
    """Check tools and choice.

    Args:
        tools: as given.
        choice: "none", "auto", "required", or one by its name; None is "auto".
        parallel: whether several calls are welcome.
        form: the constraint of the text itself.

    Raises:
        InvalidRequest: a tool or the choice is wrong; says which.
    """
    _check(tools)
    names = [tool.function.name for tool in tools]
    if isinstance(choice, ToolChoiceIn):
        wanted = choice.function.name
        if wanted not in names:
            raise InvalidRequest(
                f"tool_choice names {wanted[:64]!r}, which is not among the tools: {', '.join(names) or 'none'}",
                field="tool_choice.function.name",
                limit=", ".join(names),
            )
        chosen = [tool for tool in tools if tool.function.name == wanted]
    elif choice in (None, "auto", "required", "none"):
        chosen = list(tools)
    else:
        raise InvalidRequest(
            f"tool_choice is {choice[:40]!r}; use none, auto, required, or name a function",
            field="tool_choice",
            limit="none, auto, required, or a function",
        )
    if choice == "required" and not tools:
        raise InvalidRequest(
            "tool_choice is required, but there are no tools", field="tool_choice", limit="tools"
        )
    if choice == "none" or not tools:
        return ToolUse(constraint=form)
    shown = tuple(_shown(tool) for tool in tools)
    must = choice == "required" or isinstance(choice, ToolChoiceIn)
    single = not parallel or isinstance(choice, ToolChoiceIn)
    if must:
        constraint: Constraint | None = _grammar(chosen, single, None)
    elif form is not None:
        if form.kind is not ConstraintKind.JSON_SCHEMA:
            raise InvalidRequest(
                "tools go with a JSON form only; leave out tools, or set tool_choice to none",
                field="structured_outputs",
                limit="json",
            )
        constraint = _grammar(chosen, single, form)
    else:
        constraint = None
    return ToolUse(shown=shown, parse=True, single=single, constraint=constraint)


def _check(tools: Sequence[ToolIn]) -> None:
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(
            f"tools has {len(tools)} entries, the limit is {MAX_TOOLS}; send fewer",
            field="tools",
            limit=f"{MAX_TOOLS} entries",
        )
    seen = set()
    for at, tool in enumerate(tools):
        name = tool.function.name
        if tool.type != "function":
            raise InvalidRequest(
                f"tools[{at}].type is {tool.type[:40]!r}; only functions can be called",
                field=f"tools[{at}].type",
                limit="function",
            )
        if not _NAME.fullmatch(name) or name in seen:
            raise InvalidRequest(
                f"tools[{at}].function.name is {name[:64]!r}; give each its own name of 1 to 64 letters, digits, "
                "'_', '-' and '.'",
                field=f"tools[{at}].function.name",
                limit="1 .. 64 characters, once",
            )
        seen.add(name)


def _shown(tool: ToolIn) -> dict[str, Any]:
    function = tool.function
    shown: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        shown["description"] = function.description
    shown["parameters"] = function.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": shown}


def _grammar(tools: Sequence[ToolIn], single: bool, form: Constraint | None) -> Constraint:
    lines = [f"call: {_quoted(OPEN + chr(10))} body {_quoted(chr(10) + CLOSE)}"]
    bodies = []
    for tool in tools:
        schema = {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": tool.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        bodies.append(f"%json {_line(schema)}")
    lines.append("body: " + "\n    | ".join(bodies))
    calls = "call" if single else 'call ("\\n" call)*'
    if form is None:
        lines.insert(0, f"start: {calls}")
    else:
        lines.insert(0, f"start: calls | text\ncalls: {calls}\ntext: %json {form.text}")
    return Constraint(kind=ConstraintKind.LARK, text="\n".join(lines))


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _line(value: object) -> str:
    return msgspec.json.encode(value).decode()
