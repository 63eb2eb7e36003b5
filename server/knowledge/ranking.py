"""The order of passages that vectors and words have found: pure arithmetic over one question's candidates.

    score = vector part + 0.3 * words part + what language and exact matches add

Both parts lie between 0 and 1 on an absolute scale, which is what lets fixed weights serve a shop of ten pages and one
of a hundred thousand passages, and lets the words part be missing where words found nothing:

* The vector part of a passage is the mean of two cosines, of the whole and of its best sentence: a page section answers
  several questions, and the sentence that answers this one is the evidence.  For an entry of questions and answers it
  is the question's cosine plus half of that of the answer, over 1.5.  Questions that are near every question ("How do I
  change it?") are held back by half of how near they are: the usual correction of hubness (Conneau et al., "Word
  translation without parallel data", 2018, section 2.3), with the mean for the neighbours.
* The words part is BM25 divided by the most that any passage could have scored on these words: the share of the
  question's information that the passage's words cover.  Rank fusion and normalization by the best hit were worse on
  both sets that were tried, as they make something of words even where the words mean nothing.

The 0.3 was chosen on BANKING77 (one example of each of 77 categories as its entry; 0.2 to 0.5 differ by 0.001) and on the
sample shop's English questions.  The half against hubness is the formula's own; it gives one point of R@1 on BANKING77, and
cost four on the sample shop's pages (103 questions), where it is left out.  See ``bench/retrieval.py`` for what it gives.

Shapes: C candidates, S close vectors of one, D dimensions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from server.knowledge.passage_texts import ANSWER_WEIGHT
from server.knowledge.vectors import Floats
from server.knowledge.words import words
from server.knowledge_domain import Hit, Passage

WORDS_WEIGHT = 0.3
HUBNESS_WEIGHT = 0.5
# Of a passage in the asker's language: what a shop says twice is quoted as the asker speaks.
LANGUAGE_BONUS = 0.25
# Of an entry whose question, or a section whose heading, is the very words asked: above any other.
EXACT_BONUS = 1.0
BM25_K1 = 1.2  # FTS5's own
SAME_COSINE, SAME_WORDS = 0.95, 0.8  # from which two passages say the same, if their numbers are the same too
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A passage that vectors or words have found.

    Attributes:
        id: of the passage in the knowledge file.
        passage: see there.
        scan_cosine: of the scan vector with the question; NaN without a vector.
        close_cosines_S: of the close vectors; empty where there are none.
        words_share: 0 to 1; see ``words_shares``.
        commonness: how much nearer an entry's question lies to the mean of the knowledge base than the mean entry does.
        bm25_rank: from 1; None: words did not find it.
    """

    id: int
    passage: Passage
    scan_cosine: float
    close_cosines_S: Sequence[float]
    words_share: float
    bm25_rank: int | None
    commonness: float = 0.0


def idf(passages: int, with_word: int) -> float:
    """Weight of a word as FTS5's BM25 has it: next to nothing for one that half of the passages have.

    ``with_word`` may be of an epoch with a few passages more than there are now.
    """
    return max(1e-6, math.log((max(0, passages - with_word) + 0.5) / (with_word + 0.5)))


def words_shares(
    scores: Sequence[tuple[int, float]], passages: int, frequencies: Iterable[int]
) -> dict[int, float]:
    """Divide BM25 by what it could have been at most.

    Args:
        scores: ids and BM25 of the passages that words found.
        passages: there are in all.
        frequencies: of each of the question's words, those that were not looked for and those nobody has included.

    Returns:
        Share of the question's information that each covers, 0 to 1, by id.
    """
    most = (BM25_K1 + 1) * sum(idf(passages, frequency) for frequency in frequencies)
    return {found: min(1.0, max(0.0, score / most)) for found, score in scores} if most else {}


def rarest_within(frequencies: Mapping[str, int], budget: int) -> list[str]:
    """Choose the words to look for: the rarest ones, as many as the index can go through in time.

    A word that a tenth of 100,000 passages have tells little and costs 6 ms.  At least one word is chosen, if any
    passage has one.

    Args:
        frequencies: of the question's words.
        budget: rows that may be looked at in all.
    """
    chosen: list[str] = []
    for word, frequency in sorted(frequencies.items(), key=lambda pair: pair[1]):
        if not frequency:
            continue
        budget -= frequency
        if chosen and budget < 0:
            break
        chosen.append(word)
    return chosen


def closeness(candidate: Candidate) -> tuple[float, float]:
    """How close a candidate's vectors lie to the question.

    Returns:
        The vector part of its score, and the cosine that a hit shows: that of what lies closest, an entry's question,
        a sentence or the whole. NaN for both without a vector.
    """
    whole, close_S = candidate.scan_cosine, candidate.close_cosines_S
    if math.isnan(whole) or not len(close_S):
        return whole, whole
    if candidate.passage.question and len(close_S) >= 2:  # the question's, the answer's, and its sentences'
        question = float(close_S[0]) - HUBNESS_WEIGHT * candidate.commonness
        answer = (float(close_S[1]) + float(max(close_S[1:]))) / 2
        return (question + ANSWER_WEIGHT * answer) / (1 + ANSWER_WEIGHT), float(max(close_S))
    best = float(max(close_S))
    return (whole + best) / 2, max(whole, best)


def score(candidate: Candidate, asked_words: Sequence[str], language: str) -> float:
    """Score one candidate; comparable with the others of the same question only."""
    near, _ = closeness(candidate)
    total = (0.0 if math.isnan(near) else near) + WORDS_WEIGHT * candidate.words_share
    if language and same_language(candidate.passage.language, language):
        total += LANGUAGE_BONUS
    if _is_exactly(candidate.passage, asked_words):
        total += EXACT_BONUS
    return total


def same_language(one: str, other: str) -> bool:
    """Whether two BCP 47 tags name one language, whatever the region."""
    return one == other or one.partition("-")[0].lower() == other.partition("-")[0].lower()


def _is_exactly(passage: Passage, asked_words: Sequence[str]) -> bool:
    heading = passage.question or (passage.headings[-1] if passage.headings else "")
    return bool(heading) and _heading_words(heading) == tuple(asked_words)


@lru_cache(maxsize=16_384)  # of pages, and cut again for every question that finds them
def _heading_words(heading: str) -> tuple[str, ...]:
    return tuple(words(heading))


def ranked(
    candidates: Sequence[Candidate],
    *,
    asked_words: Sequence[str],
    language: str,
    k: int,
    scan_vectors: Mapping[int, Floats],
) -> tuple[Hit, ...]:
    """Order candidates and leave out those that say what a better one says.

    Args:
        candidates: C of them, each passage once.
        asked_words: all words of the question, in order.
        language: of the asker; empty: any.
        k: hits at most.
        scan_vectors: by id, length 1, for those that have one.

    Returns:
        Best first; between equals the one that stands earlier in the knowledge base.
    """
    scored = sorted(
        ((score(candidate, asked_words, language), candidate) for candidate in candidates),
        key=lambda pair: (-pair[0], pair[1].id),
    )
    kept: list[tuple[float, Candidate]] = []
    for total, candidate in scored:
        if len(kept) == k:
            break
        mine = scan_vectors.get(candidate.id)
        if not any(_say_the_same(candidate, mine, other, scan_vectors.get(other.id)) for _, other in kept):
            kept.append((total, candidate))
    return tuple(
        Hit(
            passage=candidate.passage,
            score=total,
            cosine=closeness(candidate)[1],
            bm25_rank=candidate.bm25_rank,
        )
        for total, candidate in kept
    )


def _say_the_same(one: Candidate, one_D: Floats | None, other: Candidate, other_D: Floats | None) -> bool:
    a, b = one.passage, other.passage
    if a.text == b.text:
        return a.question == b.question
    if not same_language(a.language, b.language):
        return False
    if one_D is not None and other_D is not None and float(one_D @ other_D) < SAME_COSINE:
        return False
    if sorted(_NUMBER.findall(a.text)) != sorted(_NUMBER.findall(b.text)):
        return False  # "free from 50" and "free from 100" are two answers
    mine, theirs = set(words(a.text)), set(words(b.text))
    return len(mine & theirs) >= SAME_WORDS * len(mine | theirs) if mine or theirs else True
