"""One question on its way, and the finding of passages for it: one call of the encoder, one search, what the hits are about.

Whatever is away is told in the case and costs no more than its part: without the encoder words find passages, without the
knowledge base there are none.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.copy_domain import Language
from server.encoder_domain import EncodeRequest, InputKind, Truncate
from server.errors import DeadlineExceeded, InvalidRequest, ServeError
from server.knowledge_domain import Hit, Knowledge, Passage, SearchAsked
from server.pipelines.customer_service.events import Emit
from server.pipelines.customer_service.intents import intent_of, intent_probabilities
from server.pipelines.customer_service.page_trust import PageTrust
from server.pipelines.customer_service.passage_intents import PassageIntents
from server.sentence_encoder import SentenceEncoder
from server.support_domain import Entity, Intent, Missing, SupportRequest

log = logging.getLogger("vitrine.support")

MOST_CANDIDATES = (
    6  # hits of which it is asked what they are about; the right one is among them in 19 of 20 questions
)
ENCODER_SHARE = 0.5  # of the time left; an encoder that hangs leaves the rest to a search by words
LEAST_KNOWN = 0.7  # share of a question's tokens that the encoder has; below, words alone find better (MiniLM on Chinese: 0.3)
NOTHING_HEARD = Intent(label="", confidence=0.0)


@dataclass(slots=True)
class Case:
    """One question on its way: what is known of it so far.

    Attributes:
        request: as it came.
        emit: told of each part as it is released.
        deadline_at_s: by when.
        tenant: whose it is.
        language: of the answer.
        entities: that the message names.
        intent: what it is about; ``intents_C`` are the probabilities of all of them, None: there is no head.
        asked: the whole question, with what it leans on.
        hits: passages that were found, best first; those that may not be quoted are among them until they are weighed.
        epoch: of the knowledge base, where ``searched``.
        missing: what was away.
        confidence: of the best passage.
        strong: whether that is quoted whatever the question's intent.
        times_s: by stage.
    """

    request: SupportRequest
    emit: Emit
    deadline_at_s: float
    tenant: str
    language: Language
    entities: tuple[Entity, ...]
    intent: Intent = NOTHING_HEARD
    asked: str = ""
    intents_C: npt.NDArray[np.float32] | None = None
    hits: tuple[Hit, ...] = ()
    epoch: int = 0
    searched: bool = False
    confidence: float = 0.0
    strong: bool = False
    missing: list[Missing] = field(default_factory=list)
    times_s: dict[str, float] = field(default_factory=dict)


class Finding:
    """The finding of passages, with what there is."""

    def __init__(
        self,
        encoder: SentenceEncoder | None,
        knowledge: Knowledge | None,
        suspicious: Callable[[str], bool],
        intent_threshold: float | None,
        clock: Callable[[], float],
    ) -> None:
        """Bind.

        Args:
            encoder: None: there is none.
            knowledge: None: there is none.
            suspicious: whether a text gives instructions; then its page is not quoted.
            intent_threshold: least probability of an intent; None: the model's own.
            clock: monotonic seconds.
        """
        self._encoder = encoder
        self._knowledge = knowledge
        self._trust = PageTrust(suspicious)
        self._intent_threshold = intent_threshold
        self._clock = clock
        self._about = None if encoder is None else PassageIntents(encoder)

    async def learn(self, passages: Sequence[Passage]) -> None:
        """Read what passages are about, behind all that is live; raises ``ServeError`` where the encoder is away."""
        for passage in passages:
            self._trust.may_quote(passage)
            await asyncio.sleep(0)  # half a millisecond each, and somebody may be asking
        if self._about is not None:
            await self._about.learn(passages)

    def may_quote(self, passage: Passage) -> bool:
        """Whether a passage may be quoted; see ``PageTrust``."""
        return self._trust.may_quote(passage)

    async def find(self, case: Case) -> list[float]:
        """Fill the case's intent and hits.

        Returns:
            Of each hit how likely it is about what the question is about; NaN where that cannot be said.

        Raises:
            DeadlineExceeded: the search took too long.
        """
        vector_D = await self._encode(case)
        await self._search(case, vector_D)
        return await self._agreements(case)

    async def _agreements(self, case: Case) -> list[float]:
        known = [float("nan")] * len(case.hits)
        if self._about is None or case.intents_C is None or not case.hits:
            return known
        first = case.hits[:MOST_CANDIDATES]
        said = await self._about.agreements(case.intents_C, first, case.deadline_at_s)
        # Of the rest nothing is known, and nothing is said for them.
        return said + [0.0 if not np.isnan(said[0]) else float("nan")] * (len(known) - len(said))

    async def _encode(self, case: Case) -> npt.NDArray[np.float32] | None:
        """The question's vector; its intent on the way. None, and told so, where the encoder is away."""
        if self._encoder is None:
            case.missing.append(Missing.ENCODER)
            return None
        began_s = self._clock()
        left_s = case.deadline_at_s - began_s
        request = EncodeRequest(
            inputs=(case.asked,),
            kind=InputKind.QUERY,
            truncate=Truncate.END,
            deadline_s=began_s + ENCODER_SHARE * left_s,
        )
        try:
            async with asyncio.timeout(max(0.0, ENCODER_SHARE * left_s)):
                encoded = await self._encoder.encode(request)
            case.times_s["queue"] = encoded.queue_s
            if (
                encoded.known_N and encoded.known_N[0] < LEAST_KNOWN
            ):  # neither vector nor intent mean anything
                return None
            info = self._encoder.info()
            found_NC = intent_probabilities(info, encoded.logits_NC)
            case.intents_C = None if found_NC is None else found_NC[0]
            case.intent = intent_of(info, case.intents_C, self._intent_threshold)
            vector_D: npt.NDArray[np.float32] = encoded.vectors_ND[0]
            return vector_D
        except InvalidRequest:  # no characters that it can read; words may find it all the same
            return None
        except (ServeError, TimeoutError) as error:
            log.warning("searching by words alone", extra={"reason": type(error).__name__})
            case.missing.append(Missing.ENCODER)
            return None
        finally:
            case.times_s["encode"] = self._clock() - began_s

    async def _search(self, case: Case, vector_D: npt.NDArray[np.float32] | None) -> None:
        if self._knowledge is None:
            case.missing.append(Missing.KNOWLEDGE)
            return
        began_s = self._clock()
        asked = SearchAsked(text=case.asked, vector_D=vector_D, language=case.language.value)
        try:
            async with asyncio.timeout(max(0.0, case.deadline_at_s - began_s)):
                found = await self._knowledge.search(asked)
        except TimeoutError:
            raise DeadlineExceeded(
                "the shop's pages could not be searched within the deadline", stage="retrieve"
            ) from None
        except ServeError as error:
            log.warning("the pages cannot be searched", extra={"reason": error.message})
            case.missing.append(Missing.KNOWLEDGE)
            return
        finally:
            case.times_s["retrieve"] = self._clock() - began_s
        case.hits = found.hits
        case.epoch = found.epoch
        case.searched = True
