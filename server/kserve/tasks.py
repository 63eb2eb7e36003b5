"""An inference that is a coroutine, with its one outcome however it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from server.errors import Code, shown_as
from server.kserve.model import MODEL_TIER, Done, Inferred
from server.kserve.statistics import ModelStatistics
from server.service import NO_TIER, Ticket
from server.telemetry_interface import OK

log = logging.getLogger("vitrine.kserve")


class TaskWork:
    """Runs it in a task; the ticket ends, and ``done`` is called unless it was cancelled, exactly once."""

    def __init__(
        self,
        running: Coroutine[Any, Any, Inferred],
        ticket: Ticket,
        statistics: ModelStatistics,
        done: Done,
    ) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(running, ticket, statistics, done))
        # Cancelled before it began, it never comes to its ``finally``; ending twice changes nothing.
        self._task.add_done_callback(lambda _: ticket.end(Code.CANCELLED.value))

    def cancel(self) -> None:
        """The caller left."""
        self._task.cancel()

    async def _run(
        self,
        running: Coroutine[Any, Any, Inferred],
        ticket: Ticket,
        statistics: ModelStatistics,
        done: Done,
    ) -> None:
        outcome, tier = Code.CANCELLED.value, NO_TIER
        try:
            answer = await running
            outcome, tier = OK, MODEL_TIER
        except Exception as error:
            fault = shown_as(error)
            if fault is not error:
                log.error("request failed", exc_info=error)
            fault.__traceback__ = None
            outcome = fault.code.value
            statistics.failed(ticket.end(outcome))
            done(fault)
            return
        finally:
            running.close()
            ticket.end(outcome, tier)
        done(answer)
