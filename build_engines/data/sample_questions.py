"""The sample shop's labelled questions: what the figures of customer service are measured with, and nothing is learnt from.

Written by hand, in English and Chinese, and kept apart from the templates of ``sample_intents``: 200 that a passage of the
pages answers (``sample_pages``), 60 about nothing the shop does, 60 that need a person, with the reason.

The development questions are others: each section of the pages is asked about twice in each language, and 60 are about nothing
the shop does. Weights and thresholds are fitted on them, and what taught intents too little was found on them; so their own
figures flatter, and none is reported.

The fresh ones are 60 more, written in another style (stories, slang, a few words) by somebody who had seen the pages, ten of the other
questions and none of the rules: 30 that a passage answers, 30 that none does or that need a person; some of these are about topics of
``sample_new_topics``. Half were looked at while rules were mended, the other half was set aside; no threshold was fitted on either.

``sample_new_topics`` holds pages on topics that no intent was taught for, with questions: when a passage is quoted whatever the
intent was chosen on those of ``dev``, with the development questions; those of ``judge`` only judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_engines.data.errors import DataError
from server.support_domain import HandoverReason

QUESTIONS = Path(__file__).with_name("sample_questions.jsonl")
DEVELOPMENT = Path(__file__).with_name("sample_questions_dev.jsonl")
FRESH = Path(__file__).with_name("sample_questions_fresh.jsonl")
Kind = Literal["page", "outside", "person"]
_KINDS: tuple[Kind, ...] = ("page", "outside", "person")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleQuestion:
    """A question, and what should come of it.

    Attributes:
        id: stable name.
        language: "en" or "zh".
        kind: "page": a passage answers it; "outside": nothing should; "person": a person should.
        question: as a shopper wrote it.
        intent: label of the sample shop's intents; "out_of_scope" for "outside", empty for "person".
        document: path below ``sample_pages`` of the page that answers, such as "en/shipping.md"; empty: none does.
        heading: of the section that answers, as it stands in that page; empty: none does.
        reason: why a person takes over; None: nobody needs to for what is said.
    """

    id: str
    language: str
    kind: Kind
    question: str
    intent: str = ""
    document: str = ""
    heading: str = ""
    reason: HandoverReason | None = None


def sample_questions(path: Path = QUESTIONS) -> list[SampleQuestion]:
    """All questions, in the order of the file.

    Raises:
        DataError: a line is no such question; names it.
    """
    questions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            reason = row.pop("reason", None)
            one = SampleQuestion(reason=None if reason is None else HandoverReason(reason), **row)
            _check(one)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(path, f"no question: {error}", hint="correct the line", line=number) from error
        questions.append(one)
    return questions


def of_kind(questions: Iterable[SampleQuestion], kind: Kind) -> list[SampleQuestion]:
    """Those of one kind."""
    return [one for one in questions if one.kind == kind]


def _check(one: SampleQuestion) -> None:
    if one.kind not in _KINDS:
        raise ValueError(f"kind is {one.kind!r}; use one of {', '.join(_KINDS)}")
    if one.kind == "page" and not (one.document and one.heading and one.intent):
        raise ValueError(f"{one.id} has no document, heading or intent")
    if (one.kind == "person") != (one.reason is not None):
        raise ValueError(f"{one.id}: a reason goes with kind person, and with no other")
