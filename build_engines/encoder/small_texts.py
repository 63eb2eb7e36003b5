"""What a small encoder is taught with: texts, what each is about, and which two are to be found close together. Pure.

A text has a *topic* (the intent of a question) and, where it is known, a *place* (the section of a page that it belongs to). Two
texts of one place belong together, and so do two ways of asking of one topic; texts of which it is not known whether they do
are never held apart. Which section of its intent a generated question is about is guessed by rare words that they share, and
left open where no section shares more than the others.

Nothing here reads the labelled questions but to leave out texts that stand among them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.data.sample_catalogue import make_products
from build_engines.data.sample_intents import LANGUAGES
from build_engines.data.sample_page_examples import PAGES, SECTIONS, page_sections
from build_engines.data.sample_questions import sample_questions
from build_engines.encoder.small_parts import TrainedSmallPart
from build_engines.encoder.texts import read_pairs
from build_engines.intents.examples import Example, ExampleFormat, read_examples, text_key
from build_engines.intents.head import OUT_OF_SCOPE
from build_engines.intents.recipe_parts import IntentsPart, SampleIntentsPart
from build_engines.intents.sources import load_sets

_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_GRAMS = re.compile(r"[a-z0-9]+|[\u3400-\u9fff]")
_STEM = 5  # letters by which two words are taken for one
_HELD_OUT = 10  # of a file's pairs, one in so many judges
_CATALOGUE_SEED = 7
_TO_PAGE = 0.6  # of the questions are drawn with a piece of a page, the rest with another question


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text to learn from.

    Attributes:
        text: of it.
        topic: what it is about; empty: nothing that another is about.
        place: section that it belongs to; empty: not known.
        piece: whether it is a part of that section, and no question about it.
        language: texts of different ones are not drawn together.
    """

    text: str
    topic: str = ""
    place: str = ""
    piece: bool = False
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """Everything that is learnt from and judged by.

    Attributes:
        texts: to learn from.
        partners: of each text, the texts that it may be drawn with: pieces of pages, then other questions.
        passages: whole sections.
        judged: questions that are not learnt from, each with the places of the passages that are right.
    """

    texts: tuple[Text, ...]
    partners: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    passages: tuple[str, ...]
    judged: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def sha256(self) -> str:
        """Of all that is in it."""
        return hashlib.sha256(repr(self).encode("utf-8", "surrogatepass")).hexdigest()

    def drawn(self, seed: int, epoch: int) -> list[int]:
        """A partner for each text, the same for the same epoch; a text without one is its own (its twin under dropout)."""
        draw = np.random.default_rng([seed, epoch])
        found = []
        for at, (pieces, questions) in enumerate(self.partners):
            some = pieces if pieces and (not questions or draw.random() < _TO_PAGE) else questions
            found.append(int(some[draw.integers(len(some))]) if some else at)
        return found


def read_teaching(part: TrainedSmallPart) -> Teaching:
    """Read, and say who belongs to whom.

    Raises:
        DataError: a file cannot be used, or there is too little; names file and line.
    """
    return _sample(part) if part.sample_shop else _files(part)


def _sample(part: TrainedSmallPart) -> Teaching:
    wanted = IntentsPart(sample_shop=SampleIntentsPart(per_intent=part.per_intent))
    # The same templates as in the head's division learn and choose: its thresholds are chosen on what is new to the encoder too.
    sets, _ = load_sets(wanted)
    sections: dict[str, tuple[str, str, list[str]]] = {}  # by place: topic, language, heading and sentences
    for language in LANGUAGES:
        for page, topics in SECTIONS.items():
            read = page_sections(PAGES / language / f"{page}.md", len(topics))
            for number, (topic, lines) in enumerate(zip(topics, read, strict=True)):
                sections[f"{language}/{page}/{number}"] = (topic, language, lines)
    judging = {text_key(one.question) for one in sample_questions()}
    questions, held_out = (
        [_question(one) for one in side if one.group not in sections and text_key(one.text) not in judging]
        for side in (sets.train, sets.validation)
    )
    return _taught(questions, sections, held_out, _titles(part))


def _files(part: TrainedSmallPart) -> Teaching:
    sections: dict[str, tuple[str, str, list[str]]] = {}
    questions: list[Text] = []
    held_out: list[Text] = []
    if part.pairs is not None:
        pairs = read_pairs(part.pairs)
        for number, passage in enumerate(pairs.passages):
            sections[str(number)] = ("", "", _sentences(passage))
        for at, (question, answer) in enumerate(zip(pairs.questions, pairs.answers, strict=True)):
            side = held_out if at % _HELD_OUT == _HELD_OUT - 1 else questions
            side.append(Text(text=question, place=str(answer)))
    if part.examples is not None:
        examples, _ = read_examples(part.examples, ExampleFormat(), BadRowPolicy())
        questions += [_question(one) for one in examples]
    if len(questions) < 2:
        raise DataError(
            part.pairs or part.examples, f"holds {len(questions)} texts", hint="give more to learn from"
        )
    return _taught(questions, sections, held_out, [])


def _taught(
    questions: Sequence[Text],
    sections: Mapping[str, tuple[str, str, list[str]]],
    held_out: Sequence[Text],
    twins: Iterable[Text],
) -> Teaching:
    guess = _Guess({place: " ".join(lines) for place, (_, _, lines) in sections.items()})
    of_topic: dict[tuple[str, str], list[str]] = defaultdict(list)
    for place, (topic, language, _) in sections.items():
        if topic:
            of_topic[topic, language].append(place)
    placed = [guess.placed(one, of_topic[one.topic, one.language]) for one in questions]
    pieces = [
        Text(text=text, topic=topic, place=place, piece=True, language=language)
        for place, (topic, language, lines) in sections.items()
        for text in _pieces(lines)
    ]
    texts = (*placed, *pieces, *twins)
    names = list(sections)
    right = [
        (
            one.text,
            tuple(
                names.index(place)
                for place in ([one.place] if one.place else of_topic[one.topic, one.language])
            ),
        )
        for one in (guess.placed(one, of_topic[one.topic, one.language]) for one in held_out)
    ]
    return Teaching(
        texts=texts,
        partners=_partners(texts, of_topic),
        passages=tuple("\n".join((lines[0], " ".join(lines[1:]))) for _, _, lines in sections.values()),
        judged=tuple((text, places) for text, places in right if places),
    )


def _partners(
    texts: Sequence[Text], of_topic: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    pieces: dict[str, list[int]] = defaultdict(list)
    asked: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, one in enumerate(texts):
        if one.piece:
            pieces[one.place].append(at)
        elif one.topic:
            asked[one.topic, one.language].append(at)
    # Lists are shared by all texts of one topic; a text that draws itself is its twin.
    by_place = {place: tuple(found) for place, found in pieces.items()}
    by_topic = {topic: tuple(found) for topic, found in asked.items()}
    open_topics = {
        topic: tuple(at for place in places for at in by_place.get(place, ()))
        for topic, places in of_topic.items()
    }
    found = []
    for one in texts:
        topic = (one.topic, one.language)
        near = by_place.get(one.place, ()) if one.place else open_topics.get(topic, ())
        found.append((near, () if one.piece else by_topic.get(topic, ())))
    return tuple(found)


class _Guess:
    """Which section a question is about, by the rare words that they share."""

    def __init__(self, sections: Mapping[str, str]) -> None:
        self.grams = {place: _grams(text) for place, text in sections.items()}
        counts: dict[str, int] = defaultdict(int)
        for grams in self.grams.values():
            for gram in grams:
                counts[gram] += 1
        self.rarity = {gram: math.log((1 + len(sections)) / count) for gram, count in counts.items()}

    def placed(self, text: Text, places: Sequence[str]) -> Text:
        """The text with its place, where one of ``places`` is likelier than the rest."""
        if text.place or not places:
            return text
        shared = _grams(text.text)
        scores = sorted(
            (
                (math.fsum(self.rarity[gram] for gram in shared & self.grams[place]), place)
                for place in places
            ),
            reverse=True,
        )
        if len(scores) > 1 and scores[0][0] <= scores[1][0] + 1e-9:
            return text
        return replace(text, place=scores[0][1])


def _grams(text: str) -> frozenset[str]:
    found = _GRAMS.findall(text.lower())
    pairs = {a + b for a, b in itertools.pairwise(found) if not a.isascii() and not b.isascii()}
    return frozenset(pairs | {one[:_STEM] for one in found if one.isascii()})


def _pieces(lines: Sequence[str]) -> list[str]:
    """Heading, sentences, sentences below their heading, two sentences in a row, all of it."""
    heading, body = lines[0], list(lines[1:])
    couples = [f"{a} {b}" for a, b in itertools.pairwise(body)]
    found = [
        heading,
        *body,
        *(f"{heading}\n{one}" for one in (*body, *couples)),
        "\n".join((heading, " ".join(body))),
    ]
    return list(dict.fromkeys(one for one in found if one.strip()))


def _sentences(text: str) -> list[str]:
    first, _, rest = text.strip().partition("\n")
    lines = [
        one.strip() for line in (rest or first).splitlines() for one in _SENTENCE.split(line) if one.strip()
    ]
    return [first, *lines] if rest else lines


def _question(one: Example) -> Text:
    topic = "" if one.intent == OUT_OF_SCOPE else one.intent
    return Text(text=one.text, topic=topic, language=one.language or "")


def _titles(part: TrainedSmallPart) -> list[Text]:
    if not part.titles:
        return []
    rows = make_products(np.random.default_rng([_CATALOGUE_SEED, 1]), part.titles).records
    return [Text(text=str(row[name])) for row in rows for name in ("title", "title_zh")]
