"""When a person takes over, in which order reasons count, and what the shopper is told then."""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.copy_domain import Language
from server.pipelines.customer_service.words import content_words
from server.pipelines.product_copy.folding import fold
from server.support_domain import HandoverReason, Role, Signals, Turn

MOST_TURNS = 12  # that are looked at for failures
SAME_WORDS = 0.8  # share of words two questions have in common where they are the same one

# What is dangerous, then what has a deadline in law, then what a person would want to hear first.
_BY_WEIGHT = (
    ("safety", HandoverReason.SAFETY),
    ("vulnerable", HandoverReason.VULNERABLE),
    ("legal", HandoverReason.LEGAL),
    ("payment_dispute", HandoverReason.PAYMENT_DISPUTE),
    ("asked_for_person", HandoverReason.ASKED_FOR_PERSON),
    ("angry", HandoverReason.ANGRY),
)

TOLD: dict[Language, dict[HandoverReason, str]] = {
    Language.EN: {
        HandoverReason.ASKED_FOR_PERSON: "I am passing this on to a colleague, who will take over from here.",
        HandoverReason.OUT_OF_SCOPE: "I have no answer to this in our pages, so a colleague will take over.",
        HandoverReason.LOW_CONFIDENCE: "I am not sure enough of an answer to this, so a colleague will take over.",
        HandoverReason.REPEATED_FAILURE: "I could not settle this for you, so a colleague will take over.",
        HandoverReason.ANGRY: "I am sorry that this went wrong. A colleague will take over and look at it.",
        HandoverReason.VULNERABLE: "Thank you for telling us. A colleague will take over and speak with you in person.",
        HandoverReason.LEGAL: "I am passing this on to a colleague who deals with legal matters.",
        HandoverReason.PAYMENT_DISPUTE: "I am passing this on to a colleague who deals with disputed payments and deliveries.",
        HandoverReason.SAFETY: (
            "Please stop using the product for now. A colleague will take over at once. In an emergency, call the local emergency number."
        ),
    },
    Language.ZH: {
        HandoverReason.ASKED_FOR_PERSON: "我已为您转接同事，接下来由同事为您服务。",
        HandoverReason.OUT_OF_SCOPE: "我们的页面里没有这个问题的答案，我已为您转接同事。",
        HandoverReason.LOW_CONFIDENCE: "这个问题我没有足够的把握，我已为您转接同事。",
        HandoverReason.REPEATED_FAILURE: "很抱歉没能为您解决，我已为您转接同事。",
        HandoverReason.ANGRY: "很抱歉出了这样的问题，我已为您转接同事来处理。",
        HandoverReason.VULNERABLE: "谢谢您告诉我们，我已为您转接同事，由同事亲自与您沟通。",
        HandoverReason.LEGAL: "我已为您转接负责法律事务的同事。",
        HandoverReason.PAYMENT_DISPUTE: "我已为您转接负责支付和配送争议的同事。",
        HandoverReason.SAFETY: "请先停止使用该商品。我已为您转接同事，如遇紧急情况请拨打当地急救电话。",
    },
}
_NOT_HELPED = re.compile(
    r"\b(?:that|this|it|which|you) (?:does not|doesn't|did not|didn't|is not|isn't|was not|wasn't) (?:really )?(?:help|helpful|answer|an answer|what i (?:asked|meant)|my question)"
    r"|\bnot what i (?:asked|meant|wanted to know)\b|\byou (?:already|just) (?:said|told me) that\b|\bstill (?:no|not an?|haven't got an?) answer\b|\byou keep saying\b"
    r"|\b(?:wrong|useless|unhelpful) answer\b|没有?(?:回答|解决)|答非所问|不是我(?:想)?(?:问|要)的|我问的不是|还是(?:没|不)(?:懂|明白|解决)|重复(?:回答|同样的话)"
)
_FAILED = frozenset(
    fold(told[reason])
    for told in TOLD.values()
    for reason in (
        HandoverReason.OUT_OF_SCOPE,
        HandoverReason.LOW_CONFIDENCE,
        HandoverReason.REPEATED_FAILURE,
    )
)


def person_needed(signals: Signals) -> HandoverReason | None:
    """Why a person must hear this before anything is looked up; None: nothing says so."""
    return next((reason for name, reason in _BY_WEIGHT if getattr(signals, name)), None)


def times_asked(turns: Sequence[Turn]) -> int:
    """How often the newest question has been asked in this conversation with an answer in between, itself included."""
    newest = _words(turns[-1].content)
    if not newest:
        return 1
    count, answered = 1, False
    for turn in reversed(turns[-1 - MOST_TURNS : -1]):
        if turn.role is Role.ASSISTANT:
            answered = answered or bool(turn.content.strip())
        elif answered:
            words = _words(turn.content)
            if words and len(words & newest) >= SAME_WORDS * len(words | newest):
                count, answered = count + 1, False
    return count


def not_helped(turns: Sequence[Turn]) -> bool:
    """Whether the newest message says that the answer before it was none."""
    before = turns[:-1]
    if not before or before[-1].role is not Role.ASSISTANT:
        return False
    return _NOT_HELPED.search(fold(turns[-1].content[:400])) is not None


def failures(turns: Sequence[Turn]) -> int:
    """How often this conversation was told that there is no answer."""
    return sum(
        1
        for turn in turns[-1 - MOST_TURNS : -1]
        if turn.role is Role.ASSISTANT and fold(turn.content[:400]).strip() in _FAILED
    )


def _words(text: str) -> frozenset[str]:
    return content_words(text[:400])
