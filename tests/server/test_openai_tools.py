"""Tool calls: read out of a text however it comes in pieces, streamed as OpenAI streams them, and made to come by grammar."""

from __future__ import annotations

import itertools
import json
from typing import Any

import llguidance
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http_api.openai.shapes import ChosenFunctionIn, FunctionIn, ToolChoiceIn, ToolIn
from server.http_api.openai.tool_calls import CallArguments, CallStart, Content, Piece, ToolCallParser
from server.http_api.openai.tools import CallForm, tool_use
from server.text_domain import Constraint, ConstraintKind
from tests.server.fake_text import FakeText
from tests.server.text_serving import MESSAGES, serving

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "description": "Find products.",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        },
    },
    {"type": "function", "function": {"name": "stock"}},
]
ONE = '<tool_call>\n{"name": "find", "arguments": {"text": "a <b> \\"c\\" }"}}\n</tool_call>'
TWO = ONE + '\n<tool_call>\n{"name": "stock", "arguments": {}}\n</tool_call>'


def read(pieces: list[Piece]) -> tuple[str, list[tuple[str, str]]]:
    """Content, and calls as (name, arguments)."""
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if isinstance(piece, CallStart):
            assert piece.index == len(calls)
            calls.append((piece.name, ""))
        elif isinstance(piece, CallArguments):
            name, so_far = calls[piece.index]
            calls[piece.index] = (name, so_far + piece.text)
    return content, calls


def parse(texts: list[str], **options: bool) -> tuple[str, list[tuple[str, str]]]:
    parser = ToolCallParser(**options)
    pieces = [piece for text in texts for piece in parser.feed(text)]
    return read(pieces + parser.finish())


WHOLE: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("hello", "hello", []),
    (ONE, "", [("find", '{"text": "a <b> \\"c\\" }"}')]),
    (TWO, "", [("find", '{"text": "a <b> \\"c\\" }"}'), ("stock", "{}")]),
    ("Let me look.\n" + ONE, "Let me look.", [("find", '{"text": "a <b> \\"c\\" }"}')]),
    (ONE + "\nDone.", "\nDone.", [("find", '{"text": "a <b> \\"c\\" }"}')]),
    ("a < b and <tool> and <tool_cal", "a < b and <tool> and <tool_cal", []),
    ("<tool_call>\nnot json\n</tool_call>", "<tool_call>\nnot json\n</tool_call>", []),
    ('<tool_call>{"arguments": {"a": [1, {"b": 2}]}, "name": "find"}</tool_call>', "", [("find", '{"a": [1, {"b": 2}]}')]),
    ('<tool_call>{"name": "find", "arguments": "{\\"text\\": 1}"}</tool_call>', "", [("find", '{"text": 1}')]),
    ('<tool_call>{"name": "find", "arguments": {"text": "</tool_call>"}}</tool_call>', "", [("find", '{"text": "</tool_call>"}')]),
    ('<tool_call>{"name": "stock"}</tool_call>', "", [("stock", "{}")]),
    ('<tool_call>{"name": "find", "arguments": {"text": "cut', "", [("find", '{"text": "cut')]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "content", "calls"), WHOLE, ids=[str(at) for at in range(len(WHOLE))])
def test_calls_are_read_in_one_piece_or_character_by_character(
    text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    """Both ways the same content and the same calls."""
    assert parse([text]) == (content, calls)
    assert parse(list(text)) == (content, calls)


@given(st.sampled_from([case[0] for case in WHOLE]), st.lists(st.integers(0, 120), max_size=6))
def test_where_a_text_is_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    """Any split of a text reads as the whole does."""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert parse([text[a:b] for a, b in itertools.pairwise(places)]) == parse([text])


@given(st.text(alphabet='<>/tol_cal{}":,[]\\ ab\n', max_size=60), st.booleans())
def test_no_text_is_lost_or_breaks_the_parser(text: str, single: bool) -> None:
    """A text without a call comes back as it was, but for blanks at a mark."""
    content, calls = parse(list(text), single=single)
    if not calls:
        assert content.split() == text.split() or "<tool_call>" in text


def test_only_the_first_call_is_told_where_one_is_wanted() -> None:
    """parallel_tool_calls false leaves out the others."""
    assert parse([TWO], single=True) == ("", [("find", '{"text": "a <b> \\"c\\" }"}')])


async def test_a_call_reaches_the_client_parsed() -> None:
    """Name and arguments are those of the text, there is no content, and the reason is tool_calls."""
    text = FakeText()
    text.script = lambda _: TWO
    async with serving(text) as server, server.client() as client:
        answer = await client.chat.completions.create(model="writer", messages=MESSAGES, tools=TOOLS)

    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    calls: Any = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["find", "stock"]
    assert json.loads(calls[0].function.arguments) == {"text": 'a <b> "c" }'}
    assert len({call.id for call in calls}) == 2 and all(call.type == "function" for call in calls)


async def test_a_call_is_streamed_as_the_client_expects() -> None:
    """Joined by the client's own stream helper, the calls are the same as in a whole answer."""
    text = FakeText()
    text.script = lambda _: "Let me look.\n" + TWO
    async with (
        serving(text) as server,
        server.client() as client,
        client.chat.completions.stream(
            model="writer", messages=MESSAGES, tools=TOOLS, stream_options={"include_usage": True}
        ) as stream,
    ):
        async for _ in stream:
            pass
        final = await stream.get_final_completion()

    choice = final.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me look."
    calls: Any = choice.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("find", {"text": 'a <b> "c" }'}),
        ("stock", {}),
    ]
    assert final.usage is not None


async def test_a_conversation_with_calls_goes_on() -> None:
    """The answer of a tool goes back; the template gets arguments as a value, not as text."""
    async with serving() as server, server.client() as client:
        messages: Any = [
            *MESSAGES,
            {
                "role": "assistant", "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"text": "x"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "3 mugs"},
        ]  # fmt: skip
        answer = await client.chat.completions.create(model="writer", messages=messages, tools=TOOLS)

    prompt = bytes(token for token in server.text.seen[0].prompt_ids if token < 256).decode()
    assert (
        '"arguments": {"text": "x"}' in prompt and '"name": "find"' in prompt and '"name": "stock"' in prompt
    )
    assert answer.choices[0].finish_reason == "stop"


async def test_a_template_without_tools_refuses_them() -> None:
    """Tools that the model never sees are a 422 and not a silence; without them, or with none, it answers."""
    text = FakeText()
    text.codec.shows_tools = False
    async with serving(text) as server, server.client() as client:
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await client.chat.completions.create(model="writer", messages=MESSAGES, tools=TOOLS)
        without = await client.chat.completions.create(
            model="writer", messages=MESSAGES, tools=TOOLS, tool_choice="none"
        )

    assert caught.value.param == "tools" and "chat template" in caught.value.message
    assert without.choices[0].message.content == "echo: a blue mug"


async def test_tools_are_not_shown_where_none_is_wanted() -> None:
    """tool_choice none: no tools in the prompt, and a call in the text is text."""
    text = FakeText()
    text.script = lambda _: ONE
    async with serving(text) as server, server.client() as client:
        answer = await client.chat.completions.create(
            model="writer", messages=MESSAGES, tools=TOOLS, tool_choice="none"
        )

    assert answer.choices[0].message.content == ONE and answer.choices[0].message.tool_calls is None
    assert b"find" not in bytes(token for token in text.seen[0].prompt_ids if token < 256)


FIND = ToolIn(FunctionIn("find", parameters=TOOLS[0]["function"]["parameters"]))
STOCK = ToolIn(FunctionIn("stock"))
FORM = Constraint(
    kind=ConstraintKind.JSON_SCHEMA, text='{"type":"object","properties":{"a":{"type":"integer"}}}'
)
ONE_STOCK = '<tool_call>\n{"name": "stock", "arguments": {"x": 1}}\n</tool_call>'


PLAIN = '{"name": "find", "parameters": {"text": "a"}}'
PLAIN_WORDS = (
    b'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
)


async def test_calls_in_llamas_form_reach_the_client_parsed() -> None:
    """One object that names a tool is a call; other objects and other texts are content; whole and streamed."""
    text = FakeText()
    text.codec.tool_words = PLAIN_WORDS
    found = []
    async with serving(text) as server, server.client() as client:
        for said in (
            PLAIN,
            "<|python_tag|>" + PLAIN,
            '{"name": "other"}',
            '{"a": 1}',
            "a {mug}",
            '{"name": "find"',
        ):
            text.script = lambda _, said=said: said  # type: ignore[misc]
            whole = await client.chat.completions.create(model="writer", messages=MESSAGES, tools=TOOLS)
            async with client.chat.completions.stream(
                model="writer", messages=MESSAGES, tools=TOOLS
            ) as stream:
                streamed = await stream.get_final_completion()
            for answer in (whole, streamed):
                message: Any = answer.choices[0].message
                calls = [
                    (call.function.name, json.loads(call.function.arguments))
                    for call in message.tool_calls or ()
                ]
                found.append((message.content or "", calls, answer.choices[0].finish_reason))

    call = ("", [("find", {"text": "a"})], "tool_calls")
    contents = [
        ('{"name": "other"}', [], "stop"),
        ('{"a": 1}', [], "stop"),
        ("a {mug}", [], "stop"),
        ('{"name": "find"', [], "stop"),
    ]
    assert found[::2] == found[1::2] == [call, call, *contents]


def test_the_grammar_knows_llamas_form() -> None:
    """Required: one object with parameters; with a form: that or the form."""
    required = tool_use([FIND, STOCK], "required", parallel=True, form=None).constraint(CallForm.PLAIN)
    either = tool_use([FIND, STOCK], "auto", parallel=True, form=FORM).constraint(CallForm.PLAIN)

    assert accepts(required, PLAIN) and not accepts(required, ONE) and not accepts(required, "hello")
    assert accepts(either, PLAIN) and accepts(either, '{"a": 1}') and not accepts(either, "hello")


def accepts(constraint: Constraint | None, text: str) -> bool:
    """Whether llguidance lets this text through to its end."""
    assert constraint is not None and constraint.kind is ConstraintKind.LARK
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(constraint.text))
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


GRAMMARS: list[tuple[str, Any, bool, Constraint | None, list[str], list[str]]] = [
    ("required", "required", True, None, [ONE, TWO, ONE_STOCK], ["hello", "", ONE + "x", '{"a":1}']),
    ("required, one", "required", False, None, [ONE, ONE_STOCK], [TWO, "hello"]),
    ("named", ToolChoiceIn(ChosenFunctionIn("stock")), True, None, [ONE_STOCK], [ONE, TWO]),
    ("auto with a form", "auto", True, FORM, [ONE, TWO, '{"a": 1}'], ["hello", '{"a": "x"}']),
]


@pytest.mark.parametrize(
    ("choice", "parallel", "form", "good", "bad"),
    [case[1:] for case in GRAMMARS],
    ids=[case[0] for case in GRAMMARS],
)
def test_the_grammar_lets_through_what_was_asked_for(
    choice: Any, parallel: bool, form: Constraint | None, good: list[str], bad: list[str]
) -> None:
    """llguidance itself takes the calls that are wanted, and nothing else."""
    use = tool_use([FIND, STOCK], choice, parallel=parallel, form=form)

    constraint = use.constraint(CallForm.MARKED)
    assert [text for text in good if not accepts(constraint, text)] == []
    assert [text for text in bad if accepts(constraint, text)] == []
    assert all(parse([text])[1] for text in good if "tool_call" in text)
