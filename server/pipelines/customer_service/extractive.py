"""The best passage's own sentences as the answer, and how sure one may be that they are one. No language model.

Nothing is said but byte-exact parts of the shop's pages. How sure one may be is a single number, a probability, so that a shop
sets one threshold and sees in a report what it costs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.copy_domain import Language
from server.knowledge_domain import Hit, Passage
from server.pipelines.customer_service.words import content_words, coverage
from server.pipelines.product_copy.sentences import sentences
from server.support_domain import Source

# What a quote that begins so leans on stands before it.
_LEANS_BACK = re.compile(
    r"^(?:after that|it|they|this|these|those|that|then|otherwise|there|but|so|also|here|both|such|in that case)\b|^(?:之后|它|他们|这|那|否则|但|然后|此时|届时|此外)",
    re.IGNORECASE,
)
_FRAMES = {
    (Language.EN, "zh"): "Our page says this in Chinese: ",
    (Language.ZH, "en"): "以下内容为英文页面原文：",
}


EVIDENCE = ("cosine", "coverage", "words", "score", "agreement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What speaks for a passage; NaN where it cannot be said.

    Attributes:
        cosine: of the question with what lies closest in the passage.
        coverage: share of the question's words that the passage, its title or its headings have, 0 to 1.
        words: 1 where words found it first, 1/2 where second ...; 0 where they did not find it.
        score: of the search, which has an absolute scale (see ``server.knowledge.ranking``).
        agreement: that passage and question are about the same intent, 0 to 1.
    """

    cosine: float
    coverage: float
    words: float
    score: float
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A logistic regression on the evidence: what each part counts, and the bias. None is below 0 but the bias.

    ``bench/support_weights.py`` finds them again, on the sample shop's development questions, of which none is reported.
    """

    cosine: float
    coverage: float
    words: float
    score: float
    agreement: float
    bias: float

    def logit(self, evidence: Evidence) -> float:
        """Logarithm of the odds that the passage answers. The parts that can be said count for those that cannot."""
        said, of_said, of_all = 0.0, 0.0, 0.0
        for name in EVIDENCE:
            weight, value = getattr(self, name), getattr(evidence, name)
            of_all += weight
            if not math.isnan(value):
                of_said += weight
                said += weight * value
        return self.bias + said * of_all / of_said if of_said else -math.inf


BY_ALL = Weights(cosine=1.1, coverage=3.5, words=0.0, score=4.8, agreement=3.6, bias=-8.6)
# Without a vector the score of a search is that of its words alone, and means another thing.
BY_WORDS = Weights(cosine=0.0, coverage=4.1, words=3.8, score=0.6, agreement=0.0, bias=-5.5)
# What a passage must have to be quoted whatever the question's intent: a page on a topic that no intent was taught for. Of the
# development questions, those about such pages among them, none that is about nothing comes near it (cosine 0.53, score 0.83).
STRONG = Evidence(cosine=0.55, coverage=0.5, words=1.0, score=0.9, agreement=0.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hit, and how sure one may be that it answers.

    Attributes:
        hit: see there.
        evidence: see there.
        logit: see ``Weights``.
    """

    hit: Hit
    evidence: Evidence
    logit: float

    @property
    def confidence(self) -> float:
        """Probability, 0 to 1."""
        return 1.0 / (1.0 + math.exp(-max(-60.0, self.logit)))

    @property
    def strong(self) -> bool:
        """Whether words, meaning and search all say that it answers, whatever it and the question are about."""
        mine = self.evidence
        return all(getattr(mine, name) >= getattr(STRONG, name) for name in EVIDENCE if name != "agreement")

    def covers(self, words: frozenset[str]) -> bool:
        """Whether the passage, its title or its headings have all of some words."""
        return words <= _passage_words(self.hit.passage)

    @property
    def by_words(self) -> bool:
        """Whether there was no vector."""
        return math.isnan(self.evidence.cosine)


@dataclass(frozen=True, slots=True)
class Extract:
    """An answer by quotes.

    Attributes:
        text: quotes, and where the page is in another language a fixed sentence that says so.
        source: with the quote.
    """

    text: str
    source: Source


def candidates(asked: str, hits: Sequence[Hit], agreements: Sequence[float]) -> list[Candidate]:
    """Hits by how sure one may be of them, the surest first.

    Args:
        asked: the whole question.
        hits: best first.
        agreements: of each hit.
    """
    words = content_words(asked)
    found = []
    for hit, agreement in zip(hits, agreements, strict=True):
        evidence = Evidence(
            cosine=hit.cosine,
            coverage=coverage(words, _passage_words(hit.passage)),
            words=0.0 if hit.bm25_rank is None else 1.0 / hit.bm25_rank,
            score=hit.score,
            agreement=agreement,
        )
        weights = BY_WORDS if math.isnan(hit.cosine) else BY_ALL
        found.append(Candidate(hit, evidence, weights.logit(evidence)))
    return sorted(found, key=lambda one: -one.logit)  # stable: of equals the search's order


def extract(asked: str, passage: Passage, language: Language, *, most_chars: int) -> Extract:
    """Quote what answers.

    Args:
        asked: the whole question.
        passage: the best one.
        language: of the answer.
        most_chars: a longer passage is quoted in part.
    """
    quote = quote_of(asked, passage.text, most_chars)
    frame = _FRAMES.get((language, passage.language), "")
    return Extract(frame + quote, source_of(passage, quote))


def source_of(passage: Passage, quote: str) -> Source:
    """Where a quote stands."""
    anchor = f"#{passage.anchor}" if passage.anchor else ""
    titles = [passage.title, *(heading for heading in passage.headings[-1:] if heading != passage.title)]
    return Source(
        id=passage.document_id + anchor,
        title=" · ".join(title for title in titles if title),
        quote=quote,
        url=passage.url,
    )


def quote_of(asked: str, text: str, most_chars: int) -> str:
    """The part of a passage that answers: all of it where it fits, else the sentences that have most of the question's words.

    Returns:
        A part of ``text`` as it stands there; at least one sentence, or the first ``most_chars`` characters of a sentence
        that is longer.
    """
    whole = text.strip()
    if len(whole) <= most_chars:
        return whole
    spans = sentences(text)
    words = content_words(asked)
    hits = [len(words & content_words(text[start:end])) for start, end in spans]
    best, best_score = (0, 1), (-1.0, 0)
    for first in range(len(spans)):
        if first and _LEANS_BACK.match(text[spans[first][0] : spans[first][1]]):
            continue
        for after in range(first + 1, len(spans) + 1):
            length = spans[after - 1][1] - spans[first][0]
            if length > most_chars:
                break
            score = (float(sum(hits[first:after])), -first)
            # More sentences only where they have more of the question: the rest is what the reader looks past. Of equals
            # the longer, since what follows a sentence often bounds it.
            if score > best_score or (score == best_score and after - first > best[1] - best[0]):
                best, best_score = (first, after), score
    start, end = spans[best[0]][0], spans[best[1] - 1][1]
    return text[start : min(end, start + most_chars)]


def _passage_words(passage: Passage) -> frozenset[str]:
    return (
        content_words(passage.text)
        | content_words(passage.title)
        | content_words(passage.question)
        | content_words(" ".join(passage.headings))
    )
