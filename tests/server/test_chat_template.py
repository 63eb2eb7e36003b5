"""Chat templates: what transformers writes, in bounds, and a sentence when one refuses or fails."""

from __future__ import annotations

import re
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from server.encoding.chat_template import ChatTemplate
from server.encoding.template_sandbox import MAX_CHARS, MAX_STEPS
from server.errors import InvalidRequest
from tests.server.tokenizers_made import CHATML

TOOL = {"type": "function", "function": {"name": "price", "parameters": {"type": "object", "é": "<b>'&'"}}}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "  what is it <b>&amp; 'é'?\n"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "price", "arguments": {"id": 3, "z": None}}}],
    },
    {"role": "tool", "content": "12.5"},
]
# The shapes that the templates of Llama 3 and Qwen are made of: trimmed blocks, loop controls, namespaces, slices, macros.
LLAMA = """{{- bos_token }}
{%- set date_string = "26 Jul 2024" if date_string is not defined else date_string %}
{%- if messages[0]['role'] == 'system' %}{% set sys = messages[0]['content']|trim %}{% set messages = messages[1:] %}
{%- else %}{% set sys = "" %}{%- endif %}
{{- "<|start|>system\\n" + sys + "\\nToday: " + date_string + "\\n" }}
{%- if tools is not none %}{%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n" }}{%- endfor %}{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '\\n' + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one call at a time") }}{%- endif %}
        {{- '{"name": "' + message.tool_calls[0].function.name + '", ' + message.tool_calls[0].function.arguments | tojson + '}' }}
    {%- else %}{{- message.content | tojson if message.content is mapping or message.content is iterable }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"""
QWEN = """{%- macro show(value, deep) -%}[{{ value ~ ':' ~ deep }}]{%- endmacro %}
{%- set ns = namespace(multi=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.multi = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "tool" and (loop.first or messages[loop.index0 - 1].role != "tool") %}{{- '<|user|>' }}{% endif %}
    {{- show(message.role, loop.index) }}{% generation %}{{ message.content.split('</think>')[-1].lstrip('\\n') }}{% endgeneration %}
    {%- for call in message.tool_calls or [] %}{{- '\\n<tool_call>\\n{"a": ' ~ (call.function.arguments | tojson) ~ '}' }}{%- endfor %}
    {%- if loop.last %}{{- '!' * 3 }}{% else %}, {% endif %}
{%- endfor %}
{%- if tools %}{% for tool in tools %}{{ tool | tojson }}{% if not loop.last %}{{ loop.length }}{% endif %}{% endfor %}{% endif %}
{{- messages | map(attribute='role') | join('/') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{- dict(a=1) | items | list }}{{ range(3) | join }}{{ 'a-b' | replace('-', '+') }}{% for k in [1, 2, 3] if k != 2 %}{% if k == 3 %}{% break %}{% endif %}{{ k }}{% else %}none{% endfor %}"""


@pytest.mark.parametrize("source", [CHATML, LLAMA, QWEN], ids=["chatml", "llama", "qwen"])
@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["plain", "tools"])
@pytest.mark.parametrize("turns", [TURNS, TURNS[:2]], ids=["call", "talk"])
@pytest.mark.parametrize("prompt", [True, False])
def test_a_template_writes_what_transformers_writes(
    source: str, tools: list[dict[str, Any]], turns: list[dict[str, Any]], prompt: bool
) -> None:
    """Models were trained on transformers' rendering: ours is the same, letter by letter."""
    theirs, _ = render_jinja_template(
        [turns], tools=tools or None, chat_template=source, add_generation_prompt=prompt, bos_token="<s>"
    )

    ours = ChatTemplate(source, {"bos_token": "<s>"}).render(turns, tools, add_generation_prompt=prompt)

    assert ours == theirs[0]


def test_a_refusal_is_told_in_the_templates_own_words() -> None:
    source = (
        "{% if messages[0].role != 'user' %}{{ raise_exception('roles must begin with user') }}{% endif %}"
    )
    with pytest.raises(InvalidRequest, match=r"refuses these messages: roles must begin with user") as caught:
        ChatTemplate(source, {}).render([{"role": "tool"}], [], add_generation_prompt=True)
    assert caught.value.field == "messages"


FAILING = {
    "no such message": "{{ messages[7].content }}",
    "undefined": "{{ nothing.at.all }}",
    "type": "{{ 1 + 'a' }}",
    "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "out of the sandbox": "{{ ''.__class__.__mro__ }}",
    "mutation": "{{ messages.append(1) }}",
    "date": "{{ strftime_now(3) }}",
}


@pytest.mark.parametrize("case", FAILING)
def test_a_template_that_fails_is_a_sentence_and_not_a_crash(case: str) -> None:
    with pytest.raises(InvalidRequest, match=r"chat template fails on these messages: .+; send other roles"):
        ChatTemplate(FAILING[case], {}).render([{"role": "user"}], [], add_generation_prompt=True)


EXPLODING = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "doubling": "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "adding": "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "lists": "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "times": "{{ 'a' * 10000000000 }}",
    "power": "{{ 10 ** 1000000000 }}",
    "wide": "{{ 'a'.center(10000000000) }}",
    "format": "{{ '{:>10000000000}'.format('a') }}",
    "percent": "{{ '%10000000000d' % 3 }}",
    "joined": "{{ (['a' * 100000] * 100000) | join }}",
    "joined by a method": "{{ ('a' * 100000).join(['b'] * 100000) }}",
    "replaced": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "replaced by a method": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "output": "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
}


@pytest.mark.parametrize("case", EXPLODING)
def test_a_template_that_explodes_is_stopped(case: str) -> None:
    """Loops, strings and lists are bounded before they are made, not after."""
    with pytest.raises(
        InvalidRequest, match=r"goes too far with these messages: .*; send fewer or shorter ones"
    ) as caught:
        ChatTemplate(EXPLODING[case], {}).render([], [], add_generation_prompt=True)
    assert caught.value.limit == f"{MAX_CHARS} characters, {MAX_STEPS} steps"


def test_a_filter_that_is_left_out_is_named_when_the_model_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"line 1: No filter named 'center'"):
        ChatTemplate("{{ 'a' | center(3) }}", {})


def test_the_year_is_the_machines() -> None:
    text = ChatTemplate("{{ strftime_now('%Y') }}", {}).render([], [], add_generation_prompt=True)
    assert re.fullmatch(r"20[0-9]{2}", text)
