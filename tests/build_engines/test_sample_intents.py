"""The sample shop's intents and questions: what is learnt from and what is judged by never meet, and both fit the pages."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from build_engines.data.errors import DataError
from build_engines.data.sample_intents import (
    LANGUAGES,
    _templates,
    expanded,
    sample_examples,
    sample_intents,
)
from build_engines.data.sample_page_examples import PAGES, SECTIONS, page_examples
from build_engines.data.sample_questions import DEVELOPMENT, of_kind, sample_questions
from build_engines.intents.examples import text_key
from build_engines.intents.recipe_parts import IntentsPart, SampleIntentsPart
from build_engines.intents.sources import load_sets
from build_engines.intents.split import SplitShares
from server.support_domain import HandoverReason

QUESTIONS = sample_questions()
DEVELOPED_ON = sample_questions(DEVELOPMENT)


def test_there_are_200_questions_60_about_nothing_and_60_for_a_person() -> None:
    """In both languages, each once, every reason for a handover that a text can give among them."""
    counts = Counter(one.kind for one in QUESTIONS)

    assert counts == {"page": 200, "outside": 60, "person": 60}
    assert len({text_key(one.question) for one in QUESTIONS}) == 320
    for kind in ("page", "outside", "person"):
        languages = Counter(one.language for one in QUESTIONS if one.kind == kind)
        assert min(languages[language] for language in LANGUAGES) >= 0.4 * counts[kind]
    reasons = {one.reason for one in of_kind(QUESTIONS, "person")}
    # The others are said of an answer or a conversation, not by a text.
    assert reasons == set(HandoverReason) - {
        HandoverReason.OUT_OF_SCOPE, HandoverReason.LOW_CONFIDENCE, HandoverReason.REPEATED_FAILURE,
    }  # fmt: skip


def test_each_section_is_developed_on_twice_in_each_language_and_nothing_of_it_is_reported() -> None:
    """What weights and thresholds are fitted on says nothing about questions that are fitted on too."""
    sections = Counter((one.document, one.heading) for one in of_kind(DEVELOPED_ON, "page"))

    assert set(sections.values()) == {2}
    assert len(sections) == len(LANGUAGES) * sum(map(len, SECTIONS.values()))
    assert Counter(one.language for one in of_kind(DEVELOPED_ON, "outside")) == {"en": 30, "zh": 30}
    asked = [text_key(one.question) for one in DEVELOPED_ON]
    assert len(set(asked)) == len(asked)
    assert not set(asked) & {text_key(one.question) for one in QUESTIONS}


def test_every_question_names_a_section_that_is_there_and_its_intent() -> None:
    """A page that is renamed, or a section that moves to another intent, is found here."""
    for one in of_kind((*QUESTIONS, *DEVELOPED_ON), "page"):
        page = PAGES / one.document
        headings = [
            line[3:].strip() for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == "## "
        ]
        assert one.heading in headings, one
        assert one.document.startswith(f"{one.language}/")
        assert SECTIONS[page.stem][headings.index(one.heading)] == one.intent, one


def test_every_section_is_asked_about_in_one_language_at_least() -> None:
    """What is measured is the whole of the pages, not the easy part."""
    asked = {(Path(one.document).stem, one.intent) for one in of_kind(QUESTIONS, "page")}

    assert {(page, intent) for page, intents in SECTIONS.items() for intent in intents} <= asked


def test_nothing_that_judges_is_learnt_from() -> None:
    """Not a question of the 260 that have an intent, nor one that is developed on, is among the examples, whatever the seed."""
    part = IntentsPart(
        sample_shop=SampleIntentsPart(per_intent=60, seed=3), split=SplitShares(test_share=0.0)
    )

    sets, _ = load_sets(part)

    asked = {text_key(one.question) for one in (*QUESTIONS, *DEVELOPED_ON) if one.kind != "person"}
    learnt = {text_key(one.text) for one in (*sets.train, *sets.validation)}
    assert not asked & learnt
    assert {one.intent for one in sets.test} <= {*sample_intents(), "out_of_scope"}
    assert not {one.group for one in sets.train} & {one.group for one in sets.validation}


def test_examples_are_many_different_and_the_same_again() -> None:
    """Thousands in both languages, each text once, and the very same for the same seed."""
    first, again, other = (sample_examples(per_intent=30, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert len({one.text for one in first}) == len(first) > 2000
    assert len({one.text for one in other} - {one.text for one in first}) > len(first) / 2
    counts = Counter((one.language, one.intent) for one in first)
    assert min(counts.values()) >= 25
    assert set(counts) == {
        (language, intent) for language in LANGUAGES for intent in (*sample_intents(), "out_of_scope")
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_template_leaves_a_bracket_behind(language: str) -> None:
    """A typing error in the data would be learnt."""
    templates, slots = _templates("en" if language == "en" else "zh")
    draw = random.Random(0)

    for lines in templates.values():
        for line in lines:
            for _ in range(5):
                text = expanded(line, slots, draw)
                assert text.strip()
                assert not set(text) & set("[]{}|"), (line, text)


def test_page_examples_say_what_the_pages_say() -> None:
    """Headings and sentences are parts of the pages, in the order of the table."""
    for one in page_examples(("en", "zh")):
        page = PAGES / "/".join(one.group.split("/")[:2])
        assert one.text in page.with_suffix(".md").read_text(encoding="utf-8")


def test_a_question_that_is_none_is_named_by_line(tmp_path: Path) -> None:
    """The file is written by hand."""
    path = tmp_path / "questions.jsonl"
    path.write_text('{"id": "a", "language": "en", "kind": "page", "question": "where?"}\n', encoding="utf-8")

    with pytest.raises(
        DataError, match=r"questions\.jsonl:1: no question: a has no document, heading or intent"
    ):
        sample_questions(path)
