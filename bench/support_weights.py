"""The weights of what speaks for a passage: a logistic regression on the development questions, of which none is reported.

No weight may be below 0 (a higher cosine is never a reason against a passage), and all are drawn towards 0 a little, since a
few hundred questions say little about five numbers. Prints what stands in ``server/pipelines/customer_service/extractive.py``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from build_engines.data.sample_questions import SampleQuestion
from server.copy_domain import Language
from server.knowledge_domain import Knowledge
from server.pipelines.customer_service.extractive import EVIDENCE, Evidence, Weights, candidates
from server.pipelines.customer_service.finding import Case, Finding
from server.sentence_encoder import SentenceEncoder
from server.support_domain import Role, SupportRequest, Turn

MOST_HITS = 6  # of a question that are learnt from
L2, STEPS, RATE = 1.0, 6_000, 1.5
Rows = list[tuple[Evidence, bool]]


async def evidence(
    encoder: SentenceEncoder | None, knowledge: Knowledge, questions: Sequence[SampleQuestion]
) -> Rows:
    """What speaks for each of the first hits of questions, and whether it answers; those for a person are left out."""
    finding = Finding(encoder, knowledge, lambda _: False, 0.0, time.monotonic)
    rows: Rows = []
    for question in questions:
        if question.kind == "person":
            continue
        turns = (Turn(role=Role.USER, content=question.question),)
        case = Case(
            SupportRequest(turns=turns),
            lambda _: None,
            time.monotonic() + 60.0,
            "",
            Language(question.language),
            (),
        )
        case.asked = question.question
        agreements = await finding.find(case)
        for one in candidates(case.asked, case.hits, agreements)[:MOST_HITS]:
            passage = one.hit.passage
            answers = (
                bool(question.document)
                and passage.document_id.removesuffix(".md") == question.document.removesuffix(".md")
                and bool(passage.headings)
                and passage.headings[-1] == question.heading
            )
            rows.append((one.evidence, answers))
    return rows


def fitted(rows: Rows, parts: Sequence[str]) -> Weights:
    """The weights of some parts of the evidence; those of the others are 0."""
    features_NF = np.array([[_value(one, name) for name in EVIDENCE] for one, _ in rows])
    answers_N = np.array([answers for _, answers in rows], np.float64)
    used_F = np.array([name in parts for name in EVIDENCE], np.float64)
    weights_F: npt.NDArray[np.float64] = np.zeros(len(EVIDENCE))
    bias = 0.0
    for _ in range(STEPS):
        off_N = 1 / (1 + np.exp(-(features_NF @ weights_F + bias))) - answers_N
        slope_F = (features_NF.T @ off_N + L2 * weights_F) / len(rows)
        weights_F = np.maximum(0.0, weights_F - RATE * slope_F * used_F)
        bias -= RATE * float(off_N.mean())
    return Weights(**dict(zip(EVIDENCE, map(float, weights_F), strict=True)), bias=bias)


def _value(one: Evidence, name: str) -> float:
    value = float(getattr(one, name))
    return 0.0 if math.isnan(value) else value
