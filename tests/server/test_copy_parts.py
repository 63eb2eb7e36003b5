"""Reading an answer while it is written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from server.copy_domain import CopyText
from server.pipelines.product_copy.parts import Part, PartReader, answer_so_far
from server.pipelines.product_copy.prompt import copy_target

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
copies = st.builds(
    lambda headline, description, bullets: CopyText(
        headline=headline, description=description, bullets=tuple(bullets)
    ),
    texts,
    texts,
    st.lists(texts, max_size=4),
)


def read(text: str, step: int) -> tuple[list[Part], PartReader]:
    reader = PartReader()
    parts = [part for at in range(0, len(text), step) for part in reader.feed(text[at : at + step])]
    return parts, reader


@given(copies, st.integers(1, 9))
def test_an_answer_gives_its_parts_however_it_is_cut_into_pieces(copy: CopyText, step: int) -> None:
    """Quotes, escapes and brackets inside texts change nothing."""
    parts, reader = read(copy_target(copy), step)

    assert tuple((part.name, part.text) for part in parts) == copy.parts()
    assert reader.whole and not reader.broken


@given(copies, st.integers(0, 200))
def test_an_answer_cut_off_gives_the_parts_that_were_whole(copy: CopyText, at: int) -> None:
    """Nothing is told of a string that was not closed."""
    text = copy_target(copy)
    parts, reader = read(text[:at], 3)

    assert [(part.name, part.text) for part in parts] == list(copy.parts())[: len(parts)]
    assert not reader.broken
    assert reader.whole == (at >= len(text))


@given(st.text(max_size=80))
def test_nothing_that_a_model_writes_can_make_reading_fail(text: str) -> None:
    """Prose, fences, half objects."""
    read(text, 2)
    read('{"headline": "a", ' + text, 2)


def test_what_stands_around_and_beside_the_object_is_left_out() -> None:
    """A model without a grammar talks, and adds fields of its own."""
    text = 'Sure!\n```json\n{"note": {"headline": "no"}, "headline": "yes", "tags": ["x"], "bullets": ["b"], "headline": "2"}\n``` {"bullets": ["c"]}'
    parts, reader = read(text, 4)

    assert [(part.name, part.text) for part in parts] == [("headline", "yes"), ("bullets[0]", "b")]
    assert reader.whole


@given(copies)
def test_an_answer_begun_is_how_the_whole_begins(copy: CopyText) -> None:
    """A model that goes on from it sees what it was trained on."""
    whole = copy_target(copy)
    for name, text in copy.parts():
        at = int(name[8:-1]) if name.startswith("bullets") else 0
        standing = CopyText(headline=copy.headline, description=copy.description, bullets=copy.bullets[:at])
        begun, opening = answer_so_far(standing, name)

        assert whole.startswith(begun + opening + json.dumps(text, ensure_ascii=False)[1:])
