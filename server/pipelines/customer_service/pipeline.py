"""From a shopper's message to an answer that cites, an answer from the order, or a person. The order of the steps is the point.

What must be heard by a person is heard first, before anything is looked up. What gives instructions is cut out of what is asked,
so that nothing is searched, matched or prompted with it; what stands beside it is answered as ever. Then the order that the caller passed in is asked,
if the question is about it; then the pages, by one call of the encoder and one search. A passage is quoted only above the
shop's threshold, and a language model's text stands only where a page bears out every sentence of it. Whatever is away is told
and costs no more than its part. Nothing is kept between two calls: there is no state here but what serves.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.knowledge_domain import Knowledge, Passage
from server.pipelines.customer_service.courtesies import COURTESIES, courtesy_of
from server.pipelines.customer_service.events import AnswerPart, Emit, IntentHeard, SourcesFound
from server.pipelines.customer_service.extractive import Candidate, candidates, source_of
from server.pipelines.customer_service.finding import Case, Finding
from server.pipelines.customer_service.generative import Phrasing
from server.pipelines.customer_service.handover import TOLD, failures, not_helped, person_needed, times_asked
from server.pipelines.customer_service.intents import OUT_OF_SCOPE
from server.pipelines.customer_service.order_answers import is_delivered, order_answer
from server.pipelines.customer_service.order_asking import order_doubt, topic_of
from server.pipelines.customer_service.ports import Hearing
from server.pipelines.customer_service.rewriting import newly_asked, whole_question
from server.pipelines.customer_service.summary import handover_summary
from server.pipelines.customer_service.support_check import SupportLimits
from server.pipelines.customer_service.words import has_words
from server.pipelines.customer_service.writing import Writing
from server.sentence_encoder import SentenceEncoder
from server.support_domain import (
    Handover,
    HandoverReason,
    Intent,
    Source,
    SupportAnswer,
    SupportRequest,
    Tier,
)
from server.text_generator import TextGenerator

MOST_EVIDENCE = 3
MOST_TOPIC_CHARS = 400  # of a message are looked at for what it asks of an order
MOST_HEARD_CHARS = 4_000  # of a message are listened to for signals and entities: from both of its ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a shop would rather have a person answer.

    Attributes:
        answer: least confidence of a passage that is quoted, a probability.
        answer_by_words: the same where there is no vector.
        intent: least probability of an intent; None: the model's own.
        times_asked: the same question asked so often is a failure (>= 2).
        quote_chars: longest quote (> 0).
        quotes: passages quoted in one answer at most (>= 1).
        second_margin: a further passage is quoted where its odds are at least the best one's times ``exp(-second_margin)``.
        person_intents: labels of the classifier that mean a person is asked for.
        support: of sentences that a language model wrote.
    """

    answer: float = 0.28
    answer_by_words: float = 0.84
    intent: float | None = None
    times_asked: int = 2
    quote_chars: int = 480
    quotes: int = 2
    second_margin: float = 1.0
    person_intents: frozenset[str] = frozenset({"talk_to_person"})
    support: SupportLimits = field(default_factory=SupportLimits)


class SupportPipeline:
    """The answer.

    Attributes:
        encoder: of texts; None: there is none.
        knowledge: the pages; None: there are none.
        generator: of texts; None: there is none.
    """

    def __init__(
        self,
        encoder: SentenceEncoder | None,
        knowledge: Knowledge | None,
        generator: TextGenerator | None,
        hearing: Hearing,
        thresholds: Thresholds,
        *,
        generate: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put together.

        Args:
            encoder: see above.
            knowledge: see above.
            generator: see above.
            hearing: language, signals, entities, masking.
            thresholds: when a person answers instead.
            generate: whether a language model phrases answers where a request does not say.
            clock: monotonic seconds.
        """
        self.encoder = encoder
        self.knowledge = knowledge
        self.generator = generator
        self._hearing = hearing
        self._thresholds = thresholds
        self._generate = generate
        self._clock = clock
        self._finding = Finding(encoder, knowledge, self._suspicious, thresholds.intent, clock)
        phrasing = None if generator is None else Phrasing(generator, hearing.masked, thresholds.support)
        self._writing = Writing(encoder, phrasing, thresholds, clock)

    async def answer(
        self, request: SupportRequest, *, emit: Emit, deadline_at_s: float, tenant: str = ""
    ) -> SupportAnswer:
        """Answer one question.

        Args:
            request: within the limits of ``support_limits``.
            emit: told of each part as it is released.
            deadline_at_s: by when.
            tenant: whose it is, for the text engine's fairness.

        Raises:
            DeadlineExceeded: neither an answer nor a reason for a person was found in time.
        """
        began_s = self._clock()
        message = request.turns[-1].content
        heard_text = _both_ends(message)
        language = self._hearing.language(heard_text, request.turns[:-1], request.locale)
        entities = self._hearing.entities(heard_text)
        case = Case(request, emit, deadline_at_s, tenant, language, entities)
        signals = self._hearing.signals(heard_text)
        reason = person_needed(signals)
        try:
            if reason is not None:
                return self._hand_over(case, reason, heard=getattr(signals, reason.value))
            if not has_words(message):
                return self._hand_over(case, HandoverReason.LOW_CONFIDENCE)
            courtesy = courtesy_of(message)
            if courtesy is not None:
                told = COURTESIES[language][courtesy]
                return self._answered(case, Tier.COURTESY, (told,), (), ("", ""))
            again = times_asked(request.turns) >= self._thresholds.times_asked
            if again or not_helped(request.turns):
                return self._hand_over(case, HandoverReason.REPEATED_FAILURE)
            return await self._look_up(case, self._without_attempts(message, heard=bool(signals.injection)))
        finally:
            case.times_s["total"] = self._clock() - began_s

    async def learn(self, passages: Sequence[Passage]) -> None:
        """Read pages before anyone asks for them, behind all that is live; raises ``ServeError`` where the encoder is away."""
        await self._finding.learn(passages)

    def _without_attempts(self, message: str, *, heard: bool) -> Callable[[str], str]:
        """What takes instructions out of texts; out of the message nothing, where none were heard in it."""
        if heard or len(message) > MOST_TOPIC_CHARS:
            return self._hearing.without_attempts
        return lambda text: (
            text.strip() if text.strip() == message.strip() else self._hearing.without_attempts(text)
        )

    async def _look_up(self, case: Case, without: Callable[[str], str]) -> SupportAnswer:
        message = without(case.request.turns[-1].content[:MOST_TOPIC_CHARS])
        case.asked = whole_question(case.request.turns, without)
        if not has_words(case.asked):  # there was nothing in it but instructions
            return self._hand_over(case, HandoverReason.OUT_OF_SCOPE)
        topic = topic_of(message) or topic_of(case.asked)
        order = case.request.order
        delivered = order is not None and is_delivered(order)
        doubt = order_doubt(order, message, topic, case.entities, delivered=delivered)
        if doubt is not None:
            return self._hand_over(case, doubt)
        if order is not None and topic is not None:
            answered = order_answer(order, topic, case.language, self._suspicious)
            if answered is None:
                return self._hand_over(case, HandoverReason.LOW_CONFIDENCE)
            case.intent = Intent(label=topic.label, confidence=1.0)
            case.confidence = 1.0
            return self._answered(case, Tier.ORDER, (answered.text,), answered.sources, ("", ""))
        agreements = await self._finding.find(case)
        new = newly_asked(message, case.asked)
        weighed = [one for one in candidates(case.asked, case.hits, agreements) if one.covers(new)]
        found = [one for one in weighed if self._finding.may_quote(one.hit.passage)]
        case.hits = tuple(one.hit for one in found) or tuple(
            hit for hit in case.hits if self._finding.may_quote(hit.passage)
        )
        if found:
            case.confidence, case.strong = found[0].confidence, found[0].strong
        reason = self._doubt(case, found)
        if reason is None and weighed[0] is not found[0]:
            reason = (
                HandoverReason.LOW_CONFIDENCE
            )  # what answers best may not be quoted, and the next best answers something else
        if reason is not None:
            return self._hand_over(case, reason)
        asked_for = case.request.generate
        generate = self._generate if asked_for is None else asked_for
        written = await self._writing.write(case, found, generate=generate)
        model = self._encoder_model() if written.model is None else written.model
        return self._answered(case, written.tier, written.parts, written.sources, model)

    def _doubt(self, case: Case, found: Sequence[Candidate]) -> HandoverReason | None:
        thresholds = self._thresholds
        if case.intent.label in thresholds.person_intents:
            return HandoverReason.ASKED_FOR_PERSON
        if not found:
            nothing = case.searched and not case.hits
            return HandoverReason.OUT_OF_SCOPE if nothing else HandoverReason.LOW_CONFIDENCE
        best = found[0]
        if best.strong:
            return None
        if case.intent.label == OUT_OF_SCOPE:
            return HandoverReason.OUT_OF_SCOPE
        if best.confidence >= (thresholds.answer_by_words if best.by_words else thresholds.answer):
            return None
        return HandoverReason.LOW_CONFIDENCE if case.intent.label else HandoverReason.OUT_OF_SCOPE

    def _hand_over(self, case: Case, reason: HandoverReason, heard: str = "") -> SupportAnswer:
        request = case.request
        doubtful = reason in (HandoverReason.OUT_OF_SCOPE, HandoverReason.LOW_CONFIDENCE)
        if doubtful and failures(request.turns):
            reason = HandoverReason.REPEATED_FAILURE
        evidence = tuple(source_of(hit.passage, hit.passage.text) for hit in case.hits[:MOST_EVIDENCE])
        summary = handover_summary(
            request.turns,
            case.language,
            self._hearing.masked,
            heard=heard,
            intent=case.intent,
            entities=case.entities,
            evidence=evidence,
            searched=case.searched,
        )
        handover = Handover(reason=reason, summary=summary, evidence=evidence)
        text = TOLD[case.language][reason]
        return self._answered(case, Tier.HANDOVER, (text,), (), self._encoder_model(), handover)

    def _answered(
        self,
        case: Case,
        tier: Tier,
        parts: tuple[str, ...],
        sources: tuple[Source, ...],
        model: tuple[str, str],
        handover: Handover | None = None,
    ) -> SupportAnswer:
        case.emit(IntentHeard(case.intent, case.language, case.entities))
        case.emit(SourcesFound(sources, case.epoch))
        for part in parts:
            case.emit(AnswerPart(part))
        return SupportAnswer(
            text="".join(parts),
            language=case.language,
            intent=case.intent,
            sources=sources,
            handover=handover,
            served_by=tier,
            model=model,
            knowledge_epoch=case.epoch,
            entities=case.entities,
            missing=tuple(case.missing),
            confidence=case.confidence,
            strong=case.strong,
            timings_s=case.times_s,
        )

    def _encoder_model(self) -> tuple[str, str]:
        if self.encoder is None:
            return "", ""
        info = self.encoder.info()
        return info.name, info.version

    def _suspicious(self, text: str) -> bool:
        return self._hearing.instructs(text)


def _both_ends(text: str) -> str:
    half = MOST_HEARD_CHARS // 2
    return text if len(text) <= MOST_HEARD_CHARS else f"{text[:half]}\n{text[-half:]}"
