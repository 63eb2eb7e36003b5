"""The sandbox that chat templates run in: transformers' environment, with everything that can grow counted.

Loops and sums of strings are made countable in the compiled template; methods and filters that make much out of little are
checked before they do, or left out where no chat template was seen to use them.

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

MAX_CHARS = 8 << 20  # of the conversation as a template writes it, and of any string on the way there
MAX_STEPS = 1_000_000  # about a second; a template makes 5 to 50 a message
_FORMAT_SPEC = re.compile(r"\{[^{}]*:")
# Filters that make much out of a number in the template.
_LEFT_OUT = ("center", "filesizeformat", "format", "pprint", "random", "urlize", "wordwrap", "xmlattr")


class Refused(jinja2.TemplateError):
    """``raise_exception`` was called."""


class OverLimit(Exception):
    """The template made too many steps or too long a string."""


BUDGET: ContextVar[list[int]] = ContextVar("steps left")  # of the conversation that is being written


def _step() -> None:
    left = BUDGET.get([MAX_STEPS])
    left[0] -= 1
    if left[0] < 0:
        raise OverLimit(f"more than {MAX_STEPS} steps")


def check_chars(chars: int) -> None:
    """Refuse a string of that length."""
    if chars > MAX_CHARS:
        raise OverLimit(f"more than {MAX_CHARS} characters")


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


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """One environment for one template."""

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
        """An operator between two values, whose result is not too large."""
        _step()
        if operator == "+":
            check_chars(_size(left) + _size(right))
        elif operator == "*":
            times = [value for value in (left, right) if isinstance(value, int)]
            check_chars(max(_size(left), _size(right)) * max(times, default=0))
        elif operator == "**" and (abs(left) > 1 << 20 or abs(right) > 64):
            raise OverLimit(f"{left} ** {right}")
        elif operator == "%" and isinstance(left, str):
            raise OverLimit("% on a text")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``format`` of a text, without widths."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _FORMAT_SPEC.search(value.__self__):
            return _no_format_spec
        return wrapped

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Whatever the template calls."""
        _step()
        if isinstance(getattr(__obj, "__self__", None), str):
            if __obj.__name__ == "join" and len(args) == 1:
                return _join(args[0], __obj.__self__)
            _check_method(__obj.__name__, __obj.__self__, args)
        return super().call(__context, __obj, *args, **kwargs)


def _no_format_spec(*args: Any, **kwargs: Any) -> str:
    raise OverLimit("a width in format")


def _check_method(name: str, text: str, args: Sequence[Any]) -> None:
    if name == "replace" and len(args) > 1:
        check_chars(len(text) + text.count(str(args[0])) * len(str(args[1])))
    for value in args:
        if isinstance(value, int):
            check_chars(value)


def _joined(glue: str, values: Iterable[Any]) -> list[str]:
    parts, chars = [], 0
    for value in values:
        _step()
        parts.append(str(value))
        chars += len(parts[-1]) + len(glue)
        check_chars(chars)
    return parts


def _join(values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        values = (value[attribute] if isinstance(value, Mapping) else "" for value in values)
    return d.join(_joined(d, values))


def _replace(text: object, old: str, new: str, count: int | None = None) -> str:
    told = str(text)
    check_chars(len(told) + told.count(old) * len(new))
    return told.replace(old, new, -1 if count is None else count)


def _indent(text: object, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    told, space = str(text), width if isinstance(width, str) else " " * min(width, 64)
    check_chars(len(told) + (told.count("\n") + 1) * len(space))
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
    raise Refused(str(message))


def _strftime_now(form: str) -> str:
    with contextlib.suppress(ValueError):
        return datetime.datetime.now().strftime(form[:200])
    raise Refused(f"strftime_now cannot write {form[:40]!r}")
