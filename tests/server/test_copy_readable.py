"""Texts that are none are not released, though nothing in them is false; and nobody's honest copy is called unreadable."""

from __future__ import annotations

import pytest

from bench.copy_lies import examples
from server.copy_domain import CopyRequest, CopyText, Effort, ProductRecord
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.pipelines.product_copy.readable import Readable
from tests.server.copy_world import GOOD, KETTLE, PlainRules, PlainTemplates, Scripted, answer

PENS = ProductRecord(
    title="Pilot G2 gel pens, fine point, 12 pack",
    brand="Pilot",
    attributes={"ink_colour": "black", "系列": "中性笔"},
    description="Smooth gel ink.Refillable and retractable.",
)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("headline", "Pilot Pilot Pilot"),
        ("headline", "Would like you choose"),
        ("headline", "See the details below"),
        ("description", "Take a look. See the details below."),
        ("description", "Pilot pens write. Take a look. Take a look. Fine."),
        ("description", "Gel pens by Pilot.Available in our shop.Take a look."),
        ("description", "The Pilot gel calritingritingritingritingriting pen."),
        (
            "description",
            "A pen for the pen and a pen for the pen and a pen for the pen and a pen for the pen by Pilot.",
        ),
        ("bullets[0]", "fine fine fine"),
        ("bullets[0]", "It stands up to chewing"),
        ("description", "欢迎选购，敬请了解。"),
    ],
)
def test_what_cannot_be_read_is_told_why(part: str, text: str) -> None:
    """Words and sentences again and again, run together, or about nothing."""
    assert Readable(PENS).flaw(part, text)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("headline", "Pilot G2: very, very smooth"),
        ("headline", "Twelve pens"),
        ("headline", "中性笔"),
        ("description", "Smooth gel ink.Refillable and retractable."),  # so the record runs it together
        ("description", "A pen is a pen is a pen. These are Pilot's, with gel ink."),
        ("description", "Writes 1000000000 words, or so. Pens by Pilot."),
        ("bullets[0]", "Fine point"),
        ("description", "黑色中性笔，一盒十二支，书写顺滑。欢迎选购。"),
    ],
)
def test_what_a_copywriter_might_write_is_readable(part: str, text: str) -> None:
    """Coarse on purpose."""
    assert not Readable(PENS).flaw(part, text)


def test_none_of_the_shops_own_copy_is_called_unreadable() -> None:
    """Four hundred and eighty pieces in two languages."""
    for example in examples():
        readable = Readable(example.request.product)
        for part, text in example.text.parts():
            assert not readable.flaw(part, text), (part, text)


async def test_an_unreadable_part_is_written_again_and_never_released() -> None:
    """Cutting cannot mend it: after the tries comes the template."""
    babble = CopyText(headline="Kettle kettle kettle kettle", description=GOOD.description)
    for again, effort in (("A kettle by Brimora", Effort.REGENERATED), ("one one one one", Effort.TEMPLATE)):
        model = Scripted(lambda prompt, part, attempt, again=again: again if part else answer(babble))
        pipeline = CopyPipeline(model, PlainRules(), PlainTemplates())
        told = await pipeline.write(CopyRequest(product=KETTLE), emit=lambda _: None)
        pipeline.close()
        assert told.variants[0].effort is effort
        assert "ettle kettle" not in told.variants[0].text.headline


@pytest.mark.parametrize("text", ["Pilot pens with laundage", "Grafting ar Pilot pens"])
def test_a_headline_of_words_that_are_none_is_no_headline(text: str) -> None:
    """Each word in small letters is one of the record or of the language."""
    assert "no word" in Readable(PENS).flaw("headline", text)
