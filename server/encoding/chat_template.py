"""A model's own chat template, run as what it is: a program from outside, over data from outside.

Templates are Jinja as transformers runs it: same environment, same globals, same filters. On top of its sandbox, every
loop turn, call and sum is counted, and no string may grow over a limit, so that a template that is broken, or one that
some conversation makes explode, ends in a sentence and not in a process without memory. What bounds it is in the compiled
template itself; nothing has to be interrupted.

Units: characters, and *steps* (loop turns, calls and operators).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from server.encoding.template_sandbox import (
    BUDGET,
    MAX_CHARS,
    MAX_STEPS,
    OverLimit,
    Refused,
    TemplateSandbox,
    check_chars,
)
from server.errors import InvalidRequest

_SHOWN_CHARS = 300


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
            self._template = TemplateSandbox().from_string(source)
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
        budget = BUDGET.set([MAX_STEPS])
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
                check_chars(chars)
        except Refused as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {str(error)[:_SHOWN_CHARS]}",
                field="messages",
            ) from error
        except OverLimit as error:
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
            BUDGET.reset(budget)
        return "".join(parts)
