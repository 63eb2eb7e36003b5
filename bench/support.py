"""Customer service on the sample shop's labelled questions: what is answered, what is wrong, who is handed over, and how long it takes.

Every question is asked through the pipeline that serves, once, with thresholds that let everything through; what each threshold
would have done with it is arithmetic. Thresholds (and, with ``--fit``, the weights of the evidence) are found on the development
questions and reported on all others, also by half: which parts of the evidence there are, and how near a second passage must be
to be quoted, was settled when both halves had been looked at, in an earlier round.

The sets are small: of 200 questions one wrong answer is half a point, and with 2 % measured 5 % could be true all the same.

    python -m bench.support --repository model_repository --out bench/results
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.support_report import support_chart, support_tables
from build_engines.data.sample_page_examples import PAGES
from build_engines.data.sample_questions import DEVELOPMENT, QUESTIONS, SampleQuestion, sample_questions
from server.knowledge.search import KnowledgeSearch
from server.knowledge.store import KnowledgeStore
from server.knowledge_domain import Document, Knowledge
from server.pipelines.customer_service.hearing import open_hearing
from server.pipelines.customer_service.pipeline import SupportPipeline, Thresholds
from server.pipelines.customer_service.ports import Hearing
from server.pipelines.encoder_names import encoder_name
from server.pipelines.live_encoder import open_encoder
from server.sentence_encoder import SentenceEncoder
from server.support_domain import (
    HandoverReason,
    Role,
    SupportAnswer,
    SupportRequest,
    Tier,
    Turn,
)

Json = dict[str, Any]
# Of the development questions, which flatter: half of what may be wrong, and one of the 60 about nothing.
MOST_WRONG, MOST_OUTSIDE = 0.01, 0.02
GRID = [round(0.02 * step, 2) for step in range(51)]
ROUNDS = 5  # over all questions, for the times
_DOUBT = (HandoverReason.OUT_OF_SCOPE, HandoverReason.LOW_CONFIDENCE)
OPEN = Thresholds(answer=0.0, answer_by_words=0.0, intent=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a question when nothing was held back.

    Attributes:
        question: that was asked.
        answer: that came.
        threshold: of the encoder's intents.
    """

    question: SampleQuestion
    answer: SupportAnswer
    threshold: float

    @property
    def by_words(self) -> bool:
        """Whether words alone found it: the encoder could not read it, or was away."""
        return not self.answer.intent.label

    @property
    def right(self) -> bool:
        """Whether one of the quotes is of the section that answers."""
        return any(self.is_right(source.id, source.title) for source in self.answer.sources)

    def is_right(self, source_id: str, title: str) -> bool:
        """Whether a source is the section that answers."""
        asked = self.question
        return (
            bool(asked.document)
            and source_id.partition("#")[0].removesuffix(".md") == asked.document.removesuffix(".md")
            and title.endswith(asked.heading)
        )

    def reason(self, answer: float, answer_by_words: float) -> HandoverReason | None:
        """Why a person would take over at these thresholds; None: it is answered."""
        handover = self.answer.handover
        if handover is not None:
            return handover.reason
        if self.answer.served_by is Tier.ORDER:
            return None
        if self.answer.strong:
            return None
        if not self.by_words and self.answer.intent.confidence < self.threshold:
            return HandoverReason.OUT_OF_SCOPE
        least = answer_by_words if self.by_words else answer
        if self.answer.confidence < least:
            return HandoverReason.OUT_OF_SCOPE if self.by_words else HandoverReason.LOW_CONFIDENCE
        return None


def first_half(question: SampleQuestion) -> bool:
    """Whether a reported question is of the half that thresholds were chosen by before there were development questions."""
    return zlib.crc32(question.id.encode()) % 2 == 0


def shares(outcomes: Sequence[Outcome], answer: float, by_words: float) -> Json:
    """What comes of questions at two thresholds, as shares of their kind."""
    pages = [one for one in outcomes if one.question.kind == "page"]
    outside = [one for one in outcomes if one.question.kind == "outside"]
    person = [one for one in outcomes if one.question.kind == "person"]
    released = [one for one in pages if one.reason(answer, by_words) is None]
    quotes = [(one, source) for one in released for source in one.answer.sources]
    right_quotes = sum(one.is_right(source.id, source.title) for one, source in quotes)
    right = sum(one.right for one in released)
    return {
        "pages": len(pages),
        "answered": _share(right, len(pages)),
        "wrong": _share(len(released) - right, len(pages)),
        "wrong_of_released": _share(len(released) - right, len(released)),
        "handed_over": _share(len(pages) - len(released), len(pages)),
        "outside": len(outside),
        "outside_answered": _share(
            sum(one.reason(answer, by_words) is None for one in outside), len(outside)
        ),
        "person": len(person),
        "person_missed": _share(sum(one.reason(answer, by_words) is None for one in person), len(person)),
        "citation_precision": _share(right_quotes, len(quotes)),
        "citation_recall": _share(right, len(released)),
    }


def choose(outcomes: Sequence[Outcome], *, by_words: bool) -> float:
    """The lowest threshold at which no more than ``MOST_WRONG`` and ``MOST_OUTSIDE`` are answered; 1 where there is none."""
    mine = [one for one in outcomes if one.by_words == by_words]
    for least in GRID:
        found = shares(mine, least, least)
        if (found["wrong"] or 0.0) <= MOST_WRONG and (found["outside_answered"] or 0.0) <= MOST_OUTSIDE:
            return least
    return 1.0


def reasons(outcomes: Sequence[Outcome], answer: float, by_words: float) -> Json:
    """Precision and recall of handing over, by reason; a doubt that any doubt was told of counts as right."""
    told = [(one.question, one.reason(answer, by_words)) for one in outcomes]
    rows: Json = {}
    for reason in HandoverReason:
        should = [given for question, given in told if _wanted(question) is reason]
        given = [question for question, why in told if why is reason]
        hit = sum(why is reason for why in should)
        rows[reason.value] = {
            "should": len(should),
            "given": len(given),
            "recall": _share(hit, len(should)),
            "handed_over_at_all": _share(sum(why is not None for why in should), len(should)),
            "precision": _share(hit, len(given)),
        }
    rows["any"] = {
        "should": sum(_wanted(question) is not None for question, _ in told),
        "given": sum(why is not None for _, why in told),
        "recall": _share(
            sum(_wanted(question) is not None and why is not None for question, why in told),
            sum(_wanted(question) is not None for question, _ in told),
        ),
        "precision": _share(
            sum(_wanted(question) is not None and why is not None for question, why in told),
            sum(why is not None for _, why in told),
        ),
    }
    return rows


def _wanted(question: SampleQuestion) -> HandoverReason | None:
    return HandoverReason.OUT_OF_SCOPE if question.kind == "outside" else question.reason


async def ask_all(
    pipeline: SupportPipeline, questions: Iterable[SampleQuestion], threshold: float
) -> list[Outcome]:
    """Ask every question once."""
    outcomes = []
    for question in questions:
        request = SupportRequest(turns=(Turn(role=Role.USER, content=question.question),))
        answer = await pipeline.answer(request, emit=lambda _: None, deadline_at_s=time.monotonic() + 60.0)
        outcomes.append(Outcome(question=question, answer=answer, threshold=threshold))
    return outcomes


async def measure(
    encoder: SentenceEncoder | None,
    knowledge: Knowledge,
    hearing: Hearing,
    questions: Sequence[SampleQuestion],
    development: Sequence[SampleQuestion],
) -> Json:
    """All figures.

    Args:
        encoder: with an intent head, or without; None: words alone.
        knowledge: the sample shop's pages.
        hearing: what serves.
        questions: that are reported.
        development: that thresholds are chosen by.
    """
    pipeline = SupportPipeline(encoder, knowledge, None, hearing, OPEN)
    threshold = 0.0 if encoder is None else encoder.info().threshold
    choosing = await ask_all(pipeline, development, threshold)
    reported = await ask_all(pipeline, questions, threshold)
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for outcome in await ask_all(pipeline, questions, threshold):
            for stage, seconds in outcome.answer.timings_s.items():
                times.setdefault(stage, []).append(seconds * 1e3)
    by_words_alone = SupportPipeline(None, knowledge, None, hearing, OPEN)
    alone = await ask_all(by_words_alone, questions, threshold)
    answer = choose(choosing, by_words=False)
    by_words = choose(await ask_all(by_words_alone, development, threshold), by_words=True)
    return {
        "encoder": None if encoder is None else f"{encoder.info().name}/{encoder.info().version}",
        "intent_threshold": threshold,
        "chosen": {"answer": answer, "answer_by_words": by_words},
        "choosing": shares(choosing, answer, by_words),
        "reported": shares(reported, answer, by_words),
        "languages": {
            language: shares([one for one in reported if one.question.language == language], answer, by_words)
            for language in ("en", "zh")
        },
        "halves": {
            name: shares([one for one in reported if first_half(one.question) is first], answer, by_words)
            for name, first in (("first half", True), ("second half", False))
        },
        "encoder_away": shares(alone, answer, by_words),
        "defaults": shares(reported, Thresholds().answer, Thresholds().answer_by_words),
        "curve": [
            {
                "threshold": least,
                **shares(reported, least, max(least, by_words if least >= answer else least)),
            }
            for least in GRID
        ],
        "reasons": reasons(reported, answer, by_words),
        "milliseconds": {
            stage: {"p50": float(np.quantile(values, 0.5)), "p99": float(np.quantile(values, 0.99))}
            for stage, values in times.items()
        },
        "missed_people": [
            one.question.id
            for one in reported
            if one.question.kind == "person" and one.reason(answer, by_words) is None
        ],
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


async def shop_knowledge(
    file: Path, encoder: SentenceEncoder | None, more: Path | None = None
) -> tuple[KnowledgeStore, KnowledgeSearch]:
    """The sample shop's pages in a knowledge file, as its sync would put them there, and those of another folder beside them."""
    store = KnowledgeStore(file, encoder)
    await store.start(follow=False)
    for path in sorted([*PAGES.glob("*/*.md"), *(() if more is None else more.glob("*/*.md"))]):
        name = f"{path.parent.name}/{path.name}"
        text = path.read_text(encoding="utf-8")
        await store.put(Document(id=name, text=text, language=path.parent.name))
    async for _ in store.encode_waiting():
        pass
    search = KnowledgeSearch(store.open_reader)
    await search.start()
    return store, search


async def measured(
    repository: Path, name: str, fit: bool, reported: Path = QUESTIONS, more: Path | None = None
) -> Json:
    """All figures with what is published; with ``fit`` the weights found anew as well."""
    from bench.support_weights import evidence, fitted

    chosen = encoder_name(repository, name)
    if chosen is None:
        raise SystemExit(f"bench: {repository} holds no sentence encoder; run make build first")
    questions, development = sample_questions(reported), sample_questions(DEVELOPMENT)
    async with open_encoder(repository, chosen) as encoder:
        with tempfile.TemporaryDirectory() as folder:
            store, search = await shop_knowledge(Path(folder) / "knowledge.db", encoder, more)
            try:
                result = await measure(encoder, search, open_hearing(), questions, development)
                if fit:
                    rows = await evidence(encoder, search, development)
                    alone = await evidence(None, search, development)
                    result["fitted"] = {
                        "all": str(fitted(rows, ("cosine", "coverage", "score", "agreement"))),
                        "words": str(fitted(alone, ("coverage", "words", "score"))),
                    }
            finally:
                await search.close()
                await store.close()
    return result


def main() -> int:
    """Measure with what is published, and write ``support.md``, ``support.json`` and ``support.svg``."""
    parser = argparse.ArgumentParser(prog="python -m bench.support", description=__doc__)
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="default: %(default)s"
    )
    parser.add_argument("--encoder", default="", help="its name; default: the first one in the repository")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="default: %(default)s")
    parser.add_argument(
        "--questions",
        type=Path,
        default=QUESTIONS,
        metavar="FILE",
        help="that are reported; default: the sample shop's",
    )
    parser.add_argument(
        "--pages",
        type=Path,
        metavar="FOLDER",
        help="pages beside the sample shop's, such as data/sample_new_topics/judge",
    )
    parser.add_argument(
        "--fit", action="store_true", help="find the weights of the evidence anew and print them"
    )
    args = parser.parse_args()
    result = asyncio.run(measured(args.repository, args.encoder, args.fit, args.questions, args.pages))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "support.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (args.out / "support.svg").write_text(support_chart(result), encoding="utf-8")
    text = support_tables(result) + "\n"
    (args.out / "support.md").write_text(text, encoding="utf-8")
    print(text)
    for name, weights in result.get("fitted", {}).items():
        print(f"{name}: {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
