"""A model's own chat template, run as what it is: a program from outside, over data from outside.

Templates are Jinja as transformers runs it: same environment, same globals, same filters. On top of its sandbox, every
loop turn, call and sum is counted, and no string may grow over a limit, so that a template that is broken, or one that
some conversation makes explode, ends in a sentence and not in a process without memory. What bounds it is in the compiled
template itself; nothing has to be interrupted.

Units: characters, and *steps* (loop turns, calls and operators).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from server.errors import InvalidRequest

MAX_CHARS = 8 << 20  # of the conversation as a template writes it, and of any string on the way there
MAX_STEPS = 1_000_000  # about a second; a template makes 5 to 50 a message
_SHOWN_CHARS = 300
_FORMAT_SPEC = re.compile(r"\{[^{}]*:")
# Filters that make much out of a number in the template, and that no chat template was seen to use.
_LEFT_OUT = (
    "center",
    "format",
    "indent",
    "pprint",
    "random",
    "urlize",
    "wordwrap",
    "xmlattr",
    "filesizeformat",
)


class ChatTemplate:
    """One compiled template.

    Args:
        source: Jinja.
        names: further variables, such as ``bos_token``.

    Raises:
        ValueError: it is not Jinja; says the line.
    """

    def __init__(self, source: str, names: Mapping[str, str]) -> None:
        try:
            self._template = _Environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            line = f"line {error.lineno}: " if isinstance(error, jinja2.TemplateSyntaxError) else ""
            raise ValueError(f"{line}{error}") from error
        self._names = dict(names)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
    ) -> str:
        """The conversation as one text. ``messages`` and ``tools`` must be plain JSON values.

        Raises:
            InvalidRequest: the template refuses these messages, fails on them, or goes over a limit.
        """
        budget = _BUDGET.set([MAX_STEPS])
        parts: list[str] = []
        chars = 0
        try:
            for part in self._template.generate(
                **self._names,
                messages=messages,
                tools=tools or None,
                add_generation_prompt=add_generation_prompt,
            ):
                parts.append(part)
                chars += len(part)
                _check_chars(chars)
        except _Refused as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {str(error)[:_SHOWN_CHARS]}",
                field="messages",
            ) from error
        except _OverLimit as error:
            raise InvalidRequest(
                f"the model's chat template goes too far with these messages: {error}; send fewer or shorter ones",
                field="messages",
                limit=f"{MAX_CHARS} characters, {MAX_STEPS} steps",
            ) from error
        except (
            Exception
        ) as error:  # a template is a program: whatever it raises, it has failed on these messages
            raise InvalidRequest(
                f"the model's chat template fails on these messages: {str(error)[:_SHOWN_CHARS] or type(error).__name__}; "
                "send other roles or another order",
                field="messages",
            ) from error
        finally:
            _BUDGET.reset(budget)
        return "".join(parts)


class _Refused(jinja2.TemplateError):
    """``raise_exception`` was called."""


class _OverLimit(Exception):
    """The template made too many steps or too long a string."""


_BUDGET: ContextVar[list[int]] = ContextVar("steps left")


def _step() -> None:
    left = _BUDGET.get([MAX_STEPS])
    left[0] -= 1
    if left[0] < 0:
        raise _OverLimit(f"more than {MAX_STEPS} steps")


def _check_chars(chars: int) -> None:
    if chars > MAX_CHARS:
        raise _OverLimit(f"more than {MAX_CHARS} characters")


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _counted(values: Iterable[Any]) -> _Counted:
    """What every loop of a template runs over."""
    return _Counted(values)


class _Counted:
    def __init__(self, values: Iterable[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            _step()
            yield value

    def __len__(self) -> int:  # ``loop.length`` and ``loop.last``; a TypeError makes Jinja count for itself
        return len(self._values)  # type: ignore[arg-type]


class _Bounded(NodeTransformer):
    """Makes loops countable, and sums of strings operators that can be checked."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = self._filtered(node.iter, "_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        total = self._filtered(node.nodes[0], "string")
        for part in node.nodes[1:]:
            total = self._placed(nodes.Add(total, self._filtered(part, "string")), node)
        return total

    def _filtered(self, node: Any, name: str) -> nodes.Expr:
        return self._placed(nodes.Filter(node, name, [], [], None, None), node)

    @staticmethod
    def _placed(made: nodes.Expr, like: nodes.Node) -> nodes.Expr:
        made.set_lineno(like.lineno)
        if like.environment is not None:
            made.set_environment(like.environment)
        return made


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what training counts; it says nothing here."""

    tags = {"generation"}  # noqa: RUF012 - Jinja reads it so

    def parse(self, parser: Any) -> Any:
        """Leave the body in place."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        for name in _LEFT_OUT:
            del self.filters[name]
        self.filters["tojson"] = _tojson
        self.filters["_counted"] = _counted
        self.filters["indent"] = _indent
        self.filters["join"] = _join
        self.filters["replace"] = _replace
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        made = _Bounded().visit(tree)
        assert isinstance(made, nodes.Template)
        return made

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _step()
        if operator == "+":
            _check_chars(_size(left) + _size(right))
        elif operator == "*":
            times = [value for value in (left, right) if isinstance(value, int)]
            _check_chars(max(_size(left), _size(right)) * max(times, default=0))
        elif operator == "**" and (abs(left) > 1 << 20 or abs(right) > 64):
            raise _OverLimit(f"{left} ** {right}")
        elif operator == "%" and isinstance(left, str):
            raise _OverLimit("% on a text")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _FORMAT_SPEC.search(value.__self__):
            return _no_format_spec
        return wrapped

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _step()
        if isinstance(getattr(__obj, "__self__", None), str):
            if __obj.__name__ == "join" and len(args) == 1:
                return _join(args[0], __obj.__self__)
            _check_method(__obj.__name__, __obj.__self__, args)
        return super().call(__context, __obj, *args, **kwargs)


def _no_format_spec(*args: Any, **kwargs: Any) -> str:
    raise _OverLimit("a width in format")


def _check_method(name: str, text: str, args: Sequence[Any]) -> None:
    if name == "replace" and len(args) > 1:
        _check_chars(len(text) + text.count(str(args[0])) * len(str(args[1])))
    for value in args:
        if isinstance(value, int):
            _check_chars(value)


def _joined(glue: str, values: Iterable[Any]) -> list[str]:
    parts, chars = [], 0
    for value in values:
        _step()
        parts.append(str(value))
        chars += len(parts[-1]) + len(glue)
        _check_chars(chars)
    return parts


def _join(values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        values = (value[attribute] if isinstance(value, Mapping) else "" for value in values)
    return d.join(_joined(d, values))


def _replace(text: object, old: str, new: str, count: int | None = None) -> str:
    told = str(text)
    _check_chars(len(told) + told.count(old) * len(new))
    return told.replace(old, new, -1 if count is None else count)


def _indent(text: object, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    told, space = str(text), width if isinstance(width, str) else " " * min(width, 64)
    _check_chars(len(told) + (told.count("\n") + 1) * len(space))
    lines = told.splitlines() or [""]
    out = [space + line if (line or blank) and (at or first) else line for at, line in enumerate(lines)]
    return "\n".join(out)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: Jinja's own escapes what HTML would read."""
    if indent is not None:
        indent = min(indent, 16)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> None:
    raise _Refused(str(message))


def _strftime_now(form: str) -> str:
    with contextlib.suppress(ValueError):
        return datetime.datetime.now().strftime(form[:200])
    raise _Refused(f"strftime_now cannot write {form[:40]!r}")
