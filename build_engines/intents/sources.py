"""Where the labelled texts come from: a shop's files, or the sample shop's generator and its hand-written questions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from build_engines.data.errors import DataError
from build_engines.data.sample_intents import TEMPLATES, sample_examples
from build_engines.data.sample_page_examples import PAGES, page_examples
from build_engines.data.sample_questions import DEVELOPMENT, QUESTIONS, sample_questions
from build_engines.intents.examples import Example, consistent, read_examples, text_key
from build_engines.intents.recipe_parts import IntentsPart, SampleIntentsPart
from build_engines.intents.split import IntentSets, intent_sets


def load_sets(part: IntentsPart) -> tuple[IntentSets, tuple[str, ...]]:
    """Read and divide what the recipe names.

    Returns:
        The sets, and a sentence for each thing that was found or done.

    Raises:
        DataError: a file cannot be used; names it, and the line.
    """
    if part.sample_shop is not None:
        questions = _questions(part.sample_shop)
        return intent_sets(_sample(part.sample_shop, questions), None, questions, part.split)
    assert part.examples is not None
    notes: list[str] = []

    def read(path: Path | None, name: str) -> list[Example] | None:
        if path is None:
            return None
        examples, report = read_examples(path, part.format, part.rows)
        notes.extend(report.sentences(name))
        return examples

    sets, done = intent_sets(
        read(part.examples, "examples") or [],
        read(part.validation, "validation"),
        read(part.test, "test"),
        part.split,
    )
    return sets, (*notes, *done)


def file_digests(part: IntentsPart) -> Mapping[str, str]:
    """SHA-256 of each file that the part names, for the key of the stage.

    Raises:
        DataError: one cannot be read.
    """
    named: dict[str, Path | None] = {
        "examples": part.examples,
        "validation": part.validation,
        "test": part.test,
    }
    if part.sample_shop is not None:
        named |= {"questions": QUESTIONS, "development questions": DEVELOPMENT}
        for language in part.sample_shop.languages:
            named[f"templates {language}"] = TEMPLATES / f"{language}.txt"
            named |= {
                f"page {path.stem} {language}": path for path in sorted((PAGES / language).glob("*.md"))
            }
    try:
        return {
            f"intents.{name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in named.items()
            if path
        }
    except OSError as error:
        raise DataError(
            error.filename, f"cannot be read ({error.strerror})", hint="name a file in [intents]"
        ) from error


def _sample(part: SampleIntentsPart, questions: list[Example]) -> list[Example]:
    generated = sample_examples(per_intent=part.per_intent, seed=part.seed, languages=part.languages)
    asked = {text_key(one.text) for one in questions}
    asked |= {text_key(one.question) for one in sample_questions(DEVELOPMENT)}
    examples = [
        Example(text=one.text, intent=one.intent, group=one.group, language=one.language)
        for one in (*generated, *page_examples(part.languages))
        if text_key(one.text) not in asked
    ]
    return consistent(examples, "drop")[0]


def _questions(part: SampleIntentsPart) -> list[Example]:
    return [
        Example(text=one.question, intent=one.intent, language=one.language)
        for one in sample_questions()
        if one.kind != "person" and one.language in part.languages
    ]
