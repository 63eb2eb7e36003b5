"""Tokens to chunks: stop strings across token borders, characters never in halves, every token told once."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from server.sampling.stop_strings import StopStrings
from server.sampling.writer import StopWriter, open_writer
from server.text_domain import Chunk, GenerateRequest, TokenLogprob
from tests.server.fake_text import ByteCodec

LETTERS = st.text(st.sampled_from("abc é😀"), max_size=24)
STOPS = st.lists(st.text(st.sampled_from("abc é😀"), min_size=1, max_size=4), max_size=5)


class Pieces:
    """A decoder whose tokens are pieces of a text, cut anywhere."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def push(self, token_id: int) -> str:
        return self._pieces[token_id]

    def flush(self) -> str:
        return ""


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """By brute force: the stop string that is complete first, the longer of two."""
    for end in range(len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


def run(writer: StopWriter, tokens: list[int]) -> tuple[list[Chunk], list[int]]:
    chunks, pushed = [], []
    for token in tokens:
        pushed.append(token)
        chunk = writer.push(token, TokenLogprob(token, -float(token)))
        chunks += [chunk] if chunk is not None else []
        if writer.stopped is not None:
            break
    else:
        last = writer.finish()
        chunks += [last] if last is not None else []
    return chunks, pushed


@given(text=LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 24), max_size=12))
@settings(max_examples=500, deadline=None)
def test_a_text_ends_at_its_stop_string_however_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    """Whatever the tokens' borders: the same text, nothing of the stop string shown, and the string is named."""
    at = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(at)]
    writer = StopWriter(Pieces(pieces), StopStrings(stops))

    chunks, _ = run(writer, list(range(len(pieces))))

    assert ("".join(chunk.text for chunk in chunks), writer.stopped) == expected(text, stops)


@given(text=LETTERS, stops=STOPS)
@settings(max_examples=200, deadline=None)
def test_every_token_is_told_once_and_every_chunk_is_whole_characters(text: str, stops: list[str]) -> None:
    """A token a byte: chunks hold all tokens pushed, in order, with their logprobs, and no half of a character."""
    request = GenerateRequest(prompt_ids=(1,), max_tokens=9, stop=tuple(stops))
    writer = open_writer(ByteCodec(), request)

    chunks, pushed = run(writer, list(text.encode()))

    assert [token for chunk in chunks for token in chunk.token_ids] == pushed
    assert [one.token_id for chunk in chunks for one in chunk.logprobs] == pushed
    assert "".join(chunk.text for chunk in chunks) == expected(text, stops)[0]
    assert writer.finish() is None or writer.stopped is None


def test_what_may_become_a_stop_string_is_held_back_and_shown_when_it_does_not() -> None:
    writer = StopWriter(Pieces(["a EN", "D", "S", " END"]), StopStrings(["END."]))
    told = [writer.push(at, None) for at in range(4)]
    assert [chunk.text if chunk else None for chunk in told] == ["a ", None, "ENDS", " "]
    assert told[2] == Chunk("ENDS", (1, 2), ())
    assert writer.finish() == Chunk("END", (), ())
    assert writer.stopped is None


def test_a_character_that_never_becomes_whole_is_shown_at_the_end() -> None:
    writer = open_writer(ByteCodec(), GenerateRequest(prompt_ids=(1,), max_tokens=9))
    assert writer.push(0xE8, None) is None
    assert writer.finish() == Chunk("\ufffd", (0xE8,), ())
