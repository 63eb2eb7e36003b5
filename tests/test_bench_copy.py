"""The measure of copy is itself right: what is planted is false, what is true is whole, and the writer repeats it."""

from __future__ import annotations

import pytest

from bench.copy_lies import LIES, StubbornWriter, examples, planted
from bench.copy_quality import distinct_bigrams, within_limits
from server.copy_domain import CopyText, Language, count_words
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.pipelines.product_copy.prompt import record_lines
from tests.server.copy_world import PlainRules, PlainTemplates


def test_at_least_two_hundred_records_have_one_falsehood_each_of_all_kinds_in_both_languages() -> None:
    """Its words are in the copy and nowhere in the record; without it the copy is the shop's own."""
    lies = planted(examples(), 400)

    assert len({lie.request.product.title for lie in lies}) >= 200
    assert {(lie.kind, lie.request.language) for lie in lies} == {
        (kind, language) for kind in LIES for language in Language
    }
    for lie in lies:
        assert any(lie.words in part for _, part in lie.text.parts())
        assert lie.words.casefold() not in "\n".join(record_lines(lie.request.product)).casefold()
        assert within_limits(lie.request, lie.true)


async def test_the_stubborn_writer_says_the_same_when_asked_again() -> None:
    """Part for part, bullets included, as an engine that goes on from what stands would."""
    lie = next(one for one in planted(examples(), 400) if len(one.true.bullets) > 2)
    writer = StubbornWriter()
    writer.text = CopyText(
        headline="best 999", description="best 999", bullets=("2 best", "4 best", "7 best")
    )
    pipeline = CopyPipeline(writer, PlainRules(), PlainTemplates())
    told = await pipeline.write(lie.request, emit=lambda _: None)
    pipeline.close()

    refused = {claim.text for claim in told.variants[0].refused}
    assert {"best", "999"} <= refused
    assert not any("best" in part for _, part in told.variants[0].text.parts())


def test_limits_and_likeness_are_counted_as_they_are_defined() -> None:
    """A text over one limit is over the limits; texts that say the same have few different pairs."""
    lie = planted(examples(), 1)[0]
    limits = lie.request.limits
    long = CopyText(headline="a " * (limits.headline_words + 1), description="b")
    assert count_words(long.headline) > limits.headline_words
    assert not within_limits(lie.request, long)
    same = [CopyText(headline="", description="one two three")] * 4
    other = [CopyText(headline="", description=f"one{n} two{n} three{n}") for n in range(4)]
    assert distinct_bigrams(same) == pytest.approx(2 / 8)
    assert distinct_bigrams(other) == pytest.approx(1.0)
    assert distinct_bigrams([CopyText(headline="", description="黑色水壶")]) == pytest.approx(1.0)
