"""A record's text is data: an instruction inside it changes nothing."""

from __future__ import annotations

import pytest

from server.copy_domain import Channel, CopyRequest, CopyText, Language
from server.pipelines.product_copy.checker import ShopRules, check
from server.pipelines.product_copy.folding import fold
from server.pipelines.product_copy.record import read_record
from server.pipelines.product_copy.templates import ShopTemplates
from tests.server.copy_injections import ATTEMPTS, EN, ZH, Attempt

RULES = ShopRules()
IDS = [f"{at}-{attempt.language.value}-{attempt.field}" for at, attempt in enumerate(ATTEMPTS)]


def test_there_are_at_least_sixty_attempts() -> None:
    """In both languages, in every field, each another text."""
    assert len({attempt.text for attempt in ATTEMPTS}) >= 60
    assert {attempt.language for attempt in ATTEMPTS} == set(Language)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=IDS)
def test_copy_that_follows_an_instruction_in_the_record_is_refused(attempt: Attempt) -> None:
    """Whichever part a model puts it in."""
    said = attempt.obeyed

    for text in (
        CopyText(headline=said, description="-"),
        CopyText(headline="-", description=said),
        CopyText(headline="-", description="-", bullets=(said,)),
    ):
        assert not check(text, attempt.product, language=attempt.language).good


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=IDS)
def test_the_templates_do_not_pass_an_instruction_on(attempt: Attempt) -> None:
    """Nothing of the instruction is in what a customer reads."""
    facts = read_record(attempt.product)
    assert facts.foul or not any(fold(attempt.text) in place.folded.text for place in facts.places)

    for channel in Channel:
        request = CopyRequest(product=attempt.product, language=attempt.language, channel=channel)
        text = ShopTemplates(RULES).write(request, 0)
        said = fold(" ".join(part for _, part in text.parts()))
        assert check(text, attempt.product, language=attempt.language).good
        assert fold(attempt.obeyed).rstrip(".。") not in said
        assert fold(attempt.text) not in said


@pytest.mark.parametrize("product", [EN, ZH])
def test_an_honest_record_is_believed_whole(product: object) -> None:
    """The same records without an instruction lose nothing."""
    assert not read_record(product).foul  # type: ignore[arg-type]
