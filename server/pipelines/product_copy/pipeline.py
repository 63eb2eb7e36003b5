"""Product copy from a request to an answer: the model writes, everything is held against the record, the floor completes.

Whatever happens to the model (there is none, it is late, it fails, it says nothing that may be said), the answer comes and
is true of the record; ``served_by`` and ``fallback_reason`` tell. Only bulk work would rather wait than get the floor
because the engine is busy: it asks with ``patient`` and gets the error instead.

Checking is plain computation of a few milliseconds a text; it runs on a thread of its own, so that the event loop, which
other products share, goes on. Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from server.copy_domain import CopyAnswer, CopyRequest, CopySource, CopyUsage, CopyVariant
from server.errors import DeadlineExceeded, InvalidRequest, NotReady, Overloaded, ServeError
from server.pipelines.product_copy.asking import Asking, prompt_tokens
from server.pipelines.product_copy.draft import Draft, Judged
from server.pipelines.product_copy.events import Emit, PartReleased, VariantReleased, claims_of
from server.pipelines.product_copy.floor import complete
from server.pipelines.product_copy.ports import CopyRules, CopyTemplates
from server.pipelines.product_copy.prompt import PROMPT_VERSION
from server.pipelines.product_copy.variant import Patience, Spent, VariantWriter
from server.text_generator import TextGenerator

log = logging.getLogger("vitrine.copy")

TEMPLATE_MODEL = "template"
# Kept back from a deadline for answering; and besides, what completing from the floor takes here.
MARGIN_S = 0.03
FLOOR_S, FLOOR_MEMORY = 0.02, 0.9  # a first guess of it; how much of a slow one is remembered at the next
# Why the floor answered; a closed set, for a label and for callers.
NO_MODEL, CONTENT, DEADLINE, OVERLOADED, NOT_READY, TOO_LONG, ENGINE_FAULT = FALLBACK_REASONS = (
    "no_model", "content", "deadline", "overloaded", "not_ready", "too_long", "engine_fault"
)  # fmt: skip
PASSING = frozenset({DEADLINE, OVERLOADED, NOT_READY, ENGINE_FAULT})  # another time the model may answer
_FAULT = "the copy could not be written; the server's log says why"
Out = TypeVar("Out")


class CopyPipeline:
    """Writes copy.

    Attributes:
        generator: the text model; None where there is none.
        rules: what may be said.
        templates: the floor.
    """

    def __init__(
        self,
        generator: TextGenerator | None,
        rules: CopyRules,
        templates: CopyTemplates,
        *,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generator = generator
        self.rules = rules
        self.templates = templates
        self._patience = patience or Patience()
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "vitrine-copy-check")
        self._floor_s = FLOOR_S

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def model(self) -> tuple[str, str]:
        """Name and version of what writes."""
        if self.generator is None:
            return TEMPLATE_MODEL, self.templates.version
        info = self.generator.info()
        return info.name, info.version

    def versions(self) -> tuple[str, ...]:
        """Whatever an answer depends on besides its request."""
        return (*self.model(), self.rules.version, self.templates.version, str(PROMPT_VERSION))

    async def write(
        self,
        request: CopyRequest,
        *,
        emit: Emit,
        deadline_at_s: float = math.inf,
        priority: int = 0,
        tenant: str = "",
        patient: bool = False,
        read_early: Callable[[], bool] = lambda: False,
    ) -> CopyAnswer:
        """Write what is asked for.

        Args:
            request: checked.
            emit: told of each part and variant, in this task.
            deadline_at_s: when the answer is of no use any more.
            priority: of the engine's work; 0 is served first.
            tenant: whose work it is.
            patient: raise what will pass, instead of answering from the floor.
            read_early: whether somebody reads parts as they come; else the headline waits for the description.

        Raises:
            ServeError: only when ``patient``: ``Overloaded``, ``NotReady``, ``DeadlineExceeded`` or an engine's fault.
        """
        job = _Job(self, request, emit, deadline_at_s, priority, tenant, patient, read_early)
        return await job.run()

    @property
    def margin_s(self) -> float:
        """How long before a deadline the model must be done."""
        return MARGIN_S + self._floor_s

    def floor_took(self, seconds: float) -> None:
        """Remember how long completing from the floor took: the slowest of late."""
        self._floor_s = max(FLOOR_MEMORY * self._floor_s, seconds)

    async def off_loop(self, work: Callable[..., Out], *args: object) -> Out:
        """Run plain computation on the checking thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


class _Job:
    def __init__(
        self,
        pipeline: CopyPipeline,
        request: CopyRequest,
        emit: Emit,
        deadline_at_s: float,
        priority: int,
        tenant: str,
        patient: bool,
        read_early: Callable[[], bool],
    ) -> None:
        self._pipeline = pipeline
        self._request = request
        self._emit = emit
        self._deadline_at_s = deadline_at_s
        self._priority = priority
        self._tenant = tenant
        self._patient = patient
        self._read_early = read_early
        self._spent = Spent()
        self._reasons: list[str | None] = []
        self._began_s = pipeline._clock()

    async def run(self) -> CopyAnswer:
        pipeline, request = self._pipeline, self._request
        check = await pipeline.off_loop(pipeline.rules.open, request)
        drafts = [Draft(request, check) for _ in range(request.variants)]
        model = pipeline.model()
        asking, reason = self._asking()
        if asking is None:
            self._reasons = [reason] * len(drafts)
            variants = [await self._complete(index, draft) for index, draft in enumerate(drafts)]
        else:
            self._reasons = [None] * len(drafts)
            variants = await self._all(drafts, asking)
        by_model = any(variant.served_by is CopySource.MODEL for variant in variants)
        why = None if by_model else next((r for r in self._reasons if r is not None), CONTENT)
        if not by_model:
            model = TEMPLATE_MODEL, pipeline.templates.version
        spent = self._spent
        return CopyAnswer(
            variants=tuple(variants),
            served_by=CopySource.MODEL if by_model else CopySource.FALLBACK,
            model=model,
            usage=CopyUsage(
                prompt_tokens=spent.prompt_tokens,
                completion_tokens=spent.completion_tokens,
                cached_tokens=spent.cached_tokens,
            ),
            timings_s={
                "queue": spent.queue_s,
                "engine": spent.engine_s,
                "check": spent.check_s,
                "total": pipeline._clock() - self._began_s,
            },
            fallback_reason=why,
            lasting=PASSING.isdisjoint(self._reasons),
        )

    def _asking(self) -> tuple[Asking | None, str]:
        generator, request = self._pipeline.generator, self._request
        if generator is None:
            return None, NO_MODEL
        info = generator.info()
        try:
            prompt_ids = prompt_tokens(generator.codec, info, request)
        except InvalidRequest as error:
            log.warning("product copy from the template: %s", error.message)
            return None, TOO_LONG
        asking = Asking(
            request=request,
            prompt_ids=prompt_ids,
            max_context=info.max_context,
            counts_tokens=info.counts_tokens,
            deadline_at_s=self._deadline_at_s - self._pipeline.margin_s,
            arrived_at_s=self._began_s,
            priority=self._priority,
            tenant=self._tenant,
        )
        return asking, ""

    async def _all(self, drafts: list[Draft], asking: Asking) -> list[CopyVariant]:
        if len(drafts) == 1:
            return [await self._one(0, drafts[0], asking)]
        tasks = [asyncio.ensure_future(self._one(index, draft, asking)) for index, draft in enumerate(drafts)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, index: int, draft: Draft, asking: Asking) -> CopyVariant:
        generator = self._pipeline.generator
        assert generator is not None
        writer = VariantWriter(
            index,
            draft,
            asking,
            generator,
            patience=self._pipeline._patience,
            spent=self._spent,
            examiner=self,
            emit=self._emit,
            time_left_s=self._time_left_s,
            read_early=self._read_early,
        )
        left_s = self._time_left_s()
        try:
            async with asyncio.timeout(left_s if math.isfinite(left_s) else None) as limit:
                await writer.write()
        except TimeoutError as error:
            if limit.expired():
                late = DeadlineExceeded("the copy was not whole in time", stage="engine")
                self._failed(index, DEADLINE, late, error)
            else:
                self._failed(index, ENGINE_FAULT, ServeError(_FAULT), error)
        except ServeError as error:
            self._failed(index, _reason(error), error, None)
        except Exception as error:
            self._failed(index, ENGINE_FAULT, ServeError(_FAULT), error)
        return await self._complete(index, draft)

    def _time_left_s(self) -> float:
        return self._deadline_at_s - self._pipeline.margin_s - self._pipeline._clock()

    def _failed(self, index: int, reason: str, error: ServeError, cause: BaseException | None) -> None:
        self._reasons[index] = reason
        if reason == ENGINE_FAULT:
            log.error("the text model failed on product copy", exc_info=cause or error)
        if self._patient and reason in PASSING:
            raise error from cause

    async def _complete(self, index: int, draft: Draft) -> CopyVariant:
        before = set(draft.texts) if draft.told or "description" in draft.texts else set()
        if draft.missing():
            began_s = self._pipeline._clock()
            await self._timed(complete, draft, self._pipeline.templates, index)
            self._pipeline.floor_took(self._pipeline._clock() - began_s)
        variant = draft.variant()
        for name, text in variant.text.parts():
            if name not in before:
                self._emit(PartReleased(index, name, text, claims_of(variant.claims, name)))
        self._emit(VariantReleased(index, variant))
        return variant

    async def judge(self, draft: Draft, name: str, text: str) -> Judged:
        return await self._timed(draft.judge, name, text)

    async def cut(self, draft: Draft, name: str, judged: Judged) -> Judged:
        return await self._timed(draft.without_refused, name, judged)

    async def _timed(self, work: Callable[..., Out], *args: object) -> Out:
        began_s = self._pipeline._clock()
        try:
            return await self._pipeline.off_loop(work, *args)
        finally:
            self._spent.check_s += self._pipeline._clock() - began_s


def _reason(error: ServeError) -> str:
    if isinstance(error, DeadlineExceeded):
        return DEADLINE
    if isinstance(error, Overloaded):
        return OVERLOADED
    if isinstance(error, NotReady):
        return NOT_READY
    if isinstance(error, InvalidRequest):
        return TOO_LONG
    return ENGINE_FAULT
