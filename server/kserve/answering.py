"""One call on either wire, from its permit to its answer: sent once, logged once, its work let go when the caller leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable

from server.errors import Code, ServeError, shown_as
from server.kserve.model import ENDPOINT, Answer, Inferred, Work
from server.logs import AccessLog, Identified
from server.service import Ticket

log = logging.getLogger("vitrine.kserve")


class Answering:
    """See the module.

    Args:
        caller: for the log.
        ticket: of the permit.
        access: log.
        send: writes an answer; what it raises is told instead of it.
        refuse: writes an error.

    Attributes:
        work: what is under way, once it is.
    """

    __slots__ = ("_access", "_caller", "_refuse", "_send", "_ticket", "work")

    def __init__(
        self,
        caller: Identified,
        ticket: Ticket,
        access: AccessLog,
        *,
        send: Callable[[Inferred], None],
        refuse: Callable[[ServeError], None],
    ) -> None:
        self._caller = caller
        self._ticket = ticket
        self._access = access
        self._send = send
        self._refuse = refuse
        self.work: Work | None = None

    def cancel(self) -> None:
        """The caller left; nobody is there to be told."""
        if self.work is not None:
            self.work.cancel()
        outcome = Code.CANCELLED.value
        self._access.ended(ENDPOINT, outcome, self._caller, self._ticket.end(outcome))

    def done(self, answer: Answer) -> None:
        """Send it."""
        outcome = "ok"
        try:
            if isinstance(answer, ServeError):
                raise answer
            self._send(answer)
        except Exception as error:
            shown = shown_as(error)
            shown.__traceback__ = None
            if shown is not error:
                log.error(
                    "answer could not be written",
                    exc_info=error,
                    extra={"request_id": self._caller.request_id},
                )
            outcome = shown.code.value
            self._refuse(shown)
        self._access.ended(ENDPOINT, outcome, self._caller, self._ticket.end(outcome))
