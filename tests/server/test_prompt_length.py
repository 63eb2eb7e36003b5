"""A prompt that cannot fit is refused by its length, before it becomes tokens."""

from __future__ import annotations

from typing import Any

import pytest

from server.errors import InvalidRequest
from server.http_api.openai import generations
from server.http_api.openai.prompts import ChatPrompt, TextPrompts
from tests.server.test_constraints import codec


def test_a_megabyte_is_refused_by_both_numbers() -> None:
    """What it holds at most, and how long it is; each text of several has the context to itself."""
    chat = ChatPrompt((), (), chars=1_000_001)
    with pytest.raises(
        InvalidRequest, match=r"messages has 1000001 characters.*context is 1000 .* at most 8000 "
    ) as told:
        chat.check_length(8, 1000)
    assert told.value.field == "messages" and told.value.limit == "8000 characters"

    with pytest.raises(InvalidRequest, match="prompt has 8001 characters"):
        TextPrompts(("x", "a" * 8001), 8002).check_length(8, 1000)
    TextPrompts(("a" * 8000, "b" * 8000), 16_000).check_length(8, 1000)


def test_no_token_is_longer_than_the_codec_says() -> None:
    """Special tokens included, since a prompt may spell them."""
    made = codec()
    lengths = [len(made.token_bytes(at) or made.special_text(at).encode()) for at in range(made.vocab_size)]
    assert made.longest_token_bytes == max(lengths)


async def test_a_long_prompt_that_cannot_fit_is_never_encoded() -> None:
    class Info:
        counts_tokens = True
        max_context = 1000

    class Generator:
        codec = type("Codec", (), {"longest_token_bytes": 8})()

        def info(self) -> Info:
            return Info()

    class Prompt:
        prompt = TextPrompts(("a" * 9000,), 9000)

    job: Any = Prompt()
    generator: Any = Generator()
    with pytest.raises(InvalidRequest, match="9000 characters"):  # its codec cannot encode at all
        await generations.tokens(job, generator)
