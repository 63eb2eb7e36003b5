"""The answer from passages that were found sure enough: quotes, or a language model's sentences that quotes bear out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.copy_domain import Language
from server.errors import ServeError
from server.pipelines.customer_service.extractive import Candidate, extract, source_of
from server.pipelines.customer_service.finding import Case
from server.pipelines.customer_service.generative import Phrasing
from server.sentence_encoder import SentenceEncoder
from server.support_domain import Missing, Source, Tier

if TYPE_CHECKING:
    from server.pipelines.customer_service.pipeline import Thresholds

log = logging.getLogger("vitrine.support")


@dataclass(frozen=True, slots=True)
class Written:
    """What may be released.

    Attributes:
        tier: who wrote it.
        parts: all of them in a row are the text.
        sources: that bear it out, at least one.
        model: name and version of the text model; None: it is quotes.
    """

    tier: Tier
    parts: tuple[str, ...]
    sources: tuple[Source, ...]
    model: tuple[str, str] | None = None


class Writing:
    """Quotes, or phrases them; where the text engine is away that is told in the case, and quotes it is."""

    def __init__(
        self,
        encoder: SentenceEncoder | None,
        phrasing: Phrasing | None,
        thresholds: Thresholds,
        clock: Callable[[], float],
    ) -> None:
        self._encoder = encoder
        self._phrasing = phrasing
        self._thresholds = thresholds
        self._clock = clock

    async def write(self, case: Case, found: list[Candidate], *, generate: bool) -> Written:
        """Write an answer.

        Args:
            case: with its hits.
            found: the surest first, at least one.
            generate: whether a language model may phrase it.
        """
        began_s = self._clock()
        if generate:
            phrased = await self._phrase(case)
            if phrased is not None:
                return phrased
        thresholds = self._thresholds
        least = found[0].logit - thresholds.second_margin
        extracts = [
            extract(case.asked, one.hit.passage, case.language, most_chars=thresholds.quote_chars)
            for one in found[: thresholds.quotes]
            if one.logit >= least
        ]
        case.times_s["answer"] = self._clock() - began_s
        parts = [one.text + "\n\n" for one in extracts[:-1]] + [extracts[-1].text]
        return Written(Tier.EXTRACTIVE, tuple(parts), tuple(one.source for one in extracts))

    async def _phrase(self, case: Case) -> Written | None:
        if self._phrasing is None or self._encoder is None or Missing.ENCODER in case.missing:
            case.missing.append(Missing.TEXT_MODEL)
            return None
        passages = [hit.passage for hit in case.hits]
        began_s = self._clock()
        left_s = case.deadline_at_s - began_s
        try:
            async with asyncio.timeout(max(0.0, 0.9 * left_s)):
                phrased = await self._phrasing.phrase(
                    case.asked,
                    passages,
                    case.language,
                    self._encoder,
                    deadline_at_s=case.deadline_at_s,
                    arrived_at_s=began_s,
                    tenant=case.tenant,
                )
        except (ServeError, TimeoutError) as error:
            log.warning("no language model", extra={"reason": type(error).__name__})
            case.missing.append(Missing.TEXT_MODEL)
            return None
        finally:
            case.times_s["check"] = self._clock() - began_s
        if phrased is None:
            return None
        sources = tuple(dict.fromkeys(source_of(passages[pair.page], pair.unit) for pair in phrased.pairs))
        joint = " " if case.language is Language.EN else ""
        parts = [text + joint for text in phrased.sentences[:-1]] + [phrased.sentences[-1]]
        return Written(Tier.GENERATIVE, tuple(parts), sources, phrased.model)
