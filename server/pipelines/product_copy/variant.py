"""One piece of copy by the model: its parts as they come, each checked, written again, cut, or left to the floor.

Parts are settled in reading order, because what is written again goes on from what stands. Meanwhile the first text is
written on: its pieces wait in its stream. How often a variant may be written again is bounded in all, so that a model that
says nothing true costs no more than a few short texts. When its headline or its description cannot be had, the template writes
all that does not stand yet, and with the description the headline as well: beside a template's text, what such a model wrote
would be no better than its text was. So a headline is told only when the description stands, but to a
stream, which is promised it at once: there it stays.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from server.copy_domain import Effort
from server.pipelines.product_copy.asking import Asking, text_written_again
from server.pipelines.product_copy.draft import BULLETS, Draft, Judged
from server.pipelines.product_copy.events import Emit, PartReleased
from server.pipelines.product_copy.parts import PartReader
from server.pipelines.product_copy.streaming import TextStream
from server.text_domain import GenerateRequest
from server.text_generator import TextGenerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much may be tried.

    Attributes:
        tries: how often one part is written again (>= 0).
        rewrites: how often parts of one variant are written again, in all (>= 0).
    """

    tries: int = 2
    rewrites: int = 4


@dataclass(slots=True)
class Spent:
    """What one request has cost so far; shared by its variants. Times of variants side by side are added up."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_s: float = 0.0
    engine_s: float = 0.0
    check_s: float = 0.0

    def add(self, stream: TextStream) -> None:
        """Add a text that has ended."""
        self.prompt_tokens += stream.usage.prompt_tokens
        self.completion_tokens += stream.usage.completion_tokens
        self.cached_tokens += stream.usage.cached_tokens
        if stream.finished is not None:
            self.queue_s += stream.finished.queue_s
            self.engine_s += stream.finished.total_s - stream.finished.queue_s


class Examiner(Protocol):
    """``Draft.judge`` and ``Draft.without_refused``, wherever they run."""

    def judge(self, draft: Draft, name: str, text: str) -> Awaitable[Judged]:
        """Look at a text."""
        ...

    def cut(self, draft: Draft, name: str, judged: Judged) -> Awaitable[Judged]:
        """Cut what was refused."""
        ...


class _GivenUp(Exception):
    """A part without which there is no copy cannot be had from the model."""


class VariantWriter:
    """Writes one variant into its draft."""

    def __init__(
        self,
        index: int,
        draft: Draft,
        asking: Asking,
        generator: TextGenerator,
        *,
        patience: Patience,
        spent: Spent,
        examiner: Examiner,
        emit: Emit,
        time_left_s: Callable[[], float],
        read_early: Callable[[], bool],
    ) -> None:
        """Bind.

        Args:
            index: of the variant.
            draft: what is filled.
            asking: how texts are asked for.
            generator: who writes them.
            patience: how much may be tried.
            spent: where tokens and times are added.
            examiner: who looks at texts.
            emit: told of each part that was released.
            time_left_s: until it must be whole.
            read_early: whether somebody reads parts as they come.
        """
        self._index = index
        self._draft = draft
        self._asking = asking
        self._generator = generator
        self._patience = patience
        self._left = patience.rewrites
        self._spent = spent
        self._examiner = examiner
        self._emit = emit
        self._time_left_s = time_left_s
        self._read_early = read_early
        self._had_s = time_left_s()
        self._held: list[PartReleased] = []

    async def write(self) -> None:
        """Fill the draft as far as the model's text may be released; the rest stays missing.

        Raises:
            ServeError: the model could not write.
        """
        try:
            await self._whole()
            for name in self._draft.missing():  # cut off, or no JSON
                await self._settle(name, "")
        except _GivenUp:  # a model that cannot write the headline or the text is not asked for more
            pass

    async def _whole(self) -> None:
        reader = PartReader()
        stream = TextStream(self._generator, self._asking.whole(self._index))
        try:
            async with stream:
                async for piece in stream:
                    for part in reader.feed(piece):
                        await self._settle(part.name, part.text)
                    if reader.broken:
                        break
        finally:
            self._spent.add(stream)

    async def _settle(self, name: str, text: str) -> None:
        draft, examiner = self._draft, self._examiner
        if name.startswith(BULLETS):
            name = draft.next_bullet
        if draft.room(name)[1] < 1:
            draft.took(Effort.EDITED)
            return
        tried = [await examiner.judge(draft, name, text)] if text else []
        if tried and tried[0].good:
            self._release(name, tried[0], Effort.EDITED if tried[0].cut else Effort.FIRST_TRY)
            return
        if tried and tried[0].repeated:
            draft.took(Effort.EDITED)
            return
        for attempt in range(1, self._patience.tries + 1):
            if self._left < 1 or self._too_late():
                break
            self._left -= 1
            judged = await examiner.judge(draft, name, await self._again(name, attempt))
            if judged.good:
                draft.refuse(claim for other in tried for claim in other.reasons(name))
                self._release(name, judged, Effort.REGENERATED)
                return
            tried.append(judged)
        draft.refuse(claim for other in tried for claim in other.reasons(name))
        left = [await examiner.cut(draft, name, judged) for judged in tried]
        best = max(left, key=lambda judged: len(judged.text), default=None)
        if best is not None and best.good:
            self._release(name, best, Effort.EDITED)
        elif name.startswith(BULLETS):
            draft.took(Effort.EDITED)
        else:
            raise _GivenUp

    def _too_late(self) -> bool:
        """Whether a part written again could come too late; what has been written so far took about as long, or longer."""
        left_s = self._time_left_s()
        return math.isfinite(left_s) and left_s < self._had_s - left_s

    async def _again(self, name: str, attempt: int) -> str:
        chars, _ = self._draft.room(name)
        request: GenerateRequest = self._asking.again(
            self._generator.codec, self._index, name, self._draft.standing(), attempt, chars
        )
        stream = TextStream(self._generator, request)
        try:
            async with stream:
                text = "".join([piece async for piece in stream])
        finally:
            self._spent.add(stream)
        return text_written_again(text)

    def _release(self, name: str, judged: Judged, effort: Effort) -> None:
        self._draft.release(name, judged, effort)
        self._held.append(PartReleased(self._index, name, judged.text, judged.claims))
        if self._read_early():
            self._draft.told = True
        if self._draft.told or "description" in self._draft.texts:
            for part in self._held:
                self._emit(part)
            self._held.clear()
