"""Whether a text is let in: it must fit, and its first token must come in time. Event-loop thread only.

Units: seconds on the batcher's clock, and tokens.
"""

from __future__ import annotations

import itertools

from server.batching.prefix_cache import lookup, shared_prefix
from server.batching.text_call import earliest
from server.batching.text_lane import TextLane
from server.batching.text_model import TextLimits
from server.batching.token_backlog import LOOK_BACK, Backlog, Forecast, TooLate
from server.batching.token_step import TextJob
from server.errors import InvalidRequest, Overloaded
from server.text_domain import GenerateRequest

COMPILE_RETRY_S = 1.0


class TextAdmission:
    """Lets texts in, or says why not.

    Attributes:
        backlog: what is learned from those that were let in.
    """

    def __init__(self, name: str, limits: TextLimits) -> None:
        self._name, self._limits = name, limits
        self._keys = itertools.count()
        self.backlog = Backlog()

    def job(self, request: GenerateRequest, lane: TextLane, now_s: float) -> TextJob:
        """The request as the scheduler sees it.

        Raises:
            InvalidRequest: it does not fit; says what does.
        """
        most, vocab = lane.model.engine.limits.max_context, lane.model.engine.limits.vocab_size
        ids = request.prompt_ids
        if not ids:
            raise InvalidRequest("the prompt is empty; it needs at least one token", field="prompt")
        if len(ids) >= most:
            raise InvalidRequest(
                f"the prompt has {len(ids)} tokens, and {self._name} has room for {most} with the answer; shorten it to "
                f"{most - 1} tokens or fewer",
                field="prompt",
                limit=f"{most - 1} tokens",
            )
        if request.max_tokens < 1:
            raise InvalidRequest(
                f"max_tokens {request.max_tokens} is too small; ask for at least 1",
                field="max_tokens",
                limit="1",
            )
        if min(ids) < 0 or max(ids) >= vocab:
            raise InvalidRequest(
                f"the prompt has token {max(ids) if min(ids) >= 0 else min(ids)}, and {self._name} has tokens "
                f"0..{vocab - 1}",
                field="prompt",
                limit=f"0..{vocab - 1}",
            )
        return TextJob(
            key=next(self._keys),
            tokens=list(ids),
            prompt_tokens=len(ids),
            most_tokens=min(most, len(ids) + request.max_tokens),
            priority=request.priority,
            tenant=request.tenant,
            repeatable=request.sampling.repeatable,
            arrived_s=now_s if request.arrived_at_s is None else min(now_s, request.arrived_at_s),
            first_token_at_s=earliest(request.first_token_at_s, request.deadline_at_s),
        )

    def check_count(self, job: TextJob, lane: TextLane, texts: int, now_s: float) -> None:
        """Refuse with ``Overloaded`` when there are too many texts."""
        if texts >= self._limits.max_texts:
            forecast = self._forecast(job, lane, now_s)
            raise Overloaded(
                self._name, texts, self._limits.max_texts, max(forecast.wait_s, forecast.step_s, 1e-3)
            )

    def check_compiles(self, waiting: int) -> None:
        """Refuse with ``Overloaded`` when too many constraints wait to be compiled."""
        if waiting >= self._limits.max_compiles:
            what = f"{self._name}, constraints to be compiled"
            raise Overloaded(what, waiting, self._limits.max_compiles, COMPILE_RETRY_S)

    def check_backlog(self, job: TextJob, lane: TextLane, now_s: float) -> float:
        """Seconds until its first token would come, behind others; 0 when nobody is before it.

        Raises:
            TooLate: others would make that later than the objective.
        """
        if not lane.texts:
            return 0.0
        newest = list(lane.texts.values())[-LOOK_BACK:]
        hit = lookup(
            lane.scheduler.slots, job.prompt_ids, own=job.repeatable and lane.model.engine.limits.light
        )
        shared = shared_prefix(job.prompt_ids, (text.job.prompt_ids for text in newest))
        job.expected_cached = max(0 if hit is None else hit.tokens, shared)
        forecast = self._forecast(job, lane, now_s)
        objective_s = min(self._limits.first_token_s, job.first_token_at_s - now_s)
        retry_s = forecast.refused(objective_s)
        if retry_s is not None:
            raise TooLate(self._name, forecast.total_s, max(objective_s, 0.0), retry_s)
        return forecast.total_s if forecast.wait_s > 0.0 else 0.0

    def _forecast(self, job: TextJob, lane: TextLane, now_s: float) -> Forecast:
        jobs = [text.job for text in lane.texts.values()]
        pools = lane.model.engine.limits.pools
        return self.backlog.forecast(jobs, job, pools, lane.costs, self._limits, now_s)
