"""Tools: what may be called, and the grammar that makes a model call one.

Two forms of calls are known, and a model's own template says which is its: that of Qwen and Hermes models,
``<tool_call>{"name": ..., "arguments": {...}}</tool_call>`` on three lines, read back by ``tool_calls.py``; and that of Llama 3,
``{"name": ..., "parameters": {...}}`` as the whole text, read back by ``plain_calls.py``. The grammar is Lark in llguidance's
dialect, whose ``%json`` takes a JSON schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from server.errors import InvalidRequest
from server.http_api.openai.shapes import ToolChoiceIn, ToolIn
from server.http_api.openai.tool_calls import CLOSE, OPEN
from server.text_domain import Constraint, ConstraintKind

MAX_TOOLS = 128
PLAIN_SIGN = '{"name": function name, "parameters":'  # of the sentence in Llama 3's templates
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class CallForm(StrEnum):
    """How a model writes calls."""

    MARKED = "marked"
    PLAIN = "plain"


def call_form(prompt: str) -> CallForm | None:
    """The form that a prompt with tools asks the model for; None where it asks for none that is known here."""
    if OPEN in prompt:
        return CallForm.MARKED
    return CallForm.PLAIN if PLAIN_SIGN in prompt else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """What a request says about tools.

    Attributes:
        shown: tools as the template gets them.
        parse: whether calls are looked for in the text.
        single: whether only one call is wanted.
        text: constraint of the text itself.
        must: the tools of which the model has to call one; empty: it may answer.
        tools: all that it may call.
    """

    shown: tuple[dict[str, Any], ...] = ()
    parse: bool = False
    single: bool = False
    text: Constraint | None = None
    must: tuple[ToolIn, ...] = ()
    tools: tuple[ToolIn, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of what may be called."""
        return tuple(tool.function.name for tool in self.tools)

    def constraint(self, form: CallForm) -> Constraint | None:
        """Makes the model call, or, where the text has a form, keeps it to one of both."""
        if self.must:
            return _grammar(self.must, self.single, None, form)
        if self.parse and self.text is not None:
            return _grammar(self.tools, self.single, self.text, form)
        return self.text


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
        return ToolUse(text=form)
    shown = tuple(_shown(tool) for tool in tools)
    must = choice == "required" or isinstance(choice, ToolChoiceIn)
    single = not parallel or isinstance(choice, ToolChoiceIn)
    if not must and form is not None and form.kind is not ConstraintKind.JSON_SCHEMA:
        raise InvalidRequest(
            "tools go with a JSON form only; leave out tools, or set tool_choice to none",
            field="structured_outputs",
            limit="json",
        )
    return ToolUse(
        shown=shown,
        parse=True,
        single=single,
        text=form,
        must=tuple(chosen) if must else (),
        tools=tuple(tools),
    )


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


def _grammar(tools: Sequence[ToolIn], single: bool, text: Constraint | None, form: CallForm) -> Constraint:
    marked = form is CallForm.MARKED
    lines = [f"call: {_quoted(OPEN + chr(10))} body {_quoted(chr(10) + CLOSE)}" if marked else "call: body"]
    arguments = "arguments" if marked else "parameters"
    bodies = []
    for tool in tools:
        schema = {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                arguments: _rebased(
                    tool.function.parameters or {"type": "object"}, f"#/properties/{arguments}"
                ),
            },
            "required": ["name", arguments],
            "additionalProperties": False,
        }
        bodies.append(f"%json {_line(schema)}")
    lines.append("body: " + "\n    | ".join(bodies))
    calls = "call" if single or not marked else 'call ("\\n" call)*'
    if text is None:
        lines.insert(0, f"start: {calls}")
    else:
        lines.insert(0, f"start: calls | text\ncalls: {calls}\ntext: %json {text.text}")
    return Constraint(kind=ConstraintKind.LARK, text="\n".join(lines))


def _rebased(schema: dict[str, Any], root: str) -> dict[str, Any]:
    """A schema with its references as they read where it is a part of another one, at ``root``."""
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    left: list[Any] = [whole]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
                value["$ref"] = root + reference[1:]
            left += value.values()
        elif isinstance(value, list):
            left += value
    return whole


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _line(value: object) -> str:
    return msgspec.json.encode(value).decode()
