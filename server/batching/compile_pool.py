"""Compiles constraints on threads of its own, a bounded number at a time, so that neither loop nor engine waits.

Units: none.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from server.sampling.base import ConstraintCompiler, Mask
from server.text_domain import GenerateRequest

Compiled = Callable[[Mask | None, BaseException | None], None]


class CompilePool:
    """A few daemon threads: a compiler that never returns must not keep the process from exiting.

    Attributes:
        waiting: constraints that are not compiled yet.
    """

    def __init__(self, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._work: SimpleQueue[tuple[ConstraintCompiler, GenerateRequest, Compiled] | None] = SimpleQueue()
        self._count = threads
        self._threads: list[threading.Thread] = []
        self.waiting = 0

    def put(self, compiler: ConstraintCompiler, request: GenerateRequest, compiled: Compiled) -> None:
        """Compile; ``compiled`` is called on the loop with the mask, or with what went wrong."""
        if len(self._threads) < self._count and self.waiting >= len(self._threads):
            thread = threading.Thread(target=self._main, name="compile-constraints", daemon=True)
            self._threads.append(thread)
            thread.start()
        self.waiting += 1
        self._work.put((compiler, request, compiled))

    def stop(self) -> None:
        """Exit when what was put is done."""
        for _ in self._threads:
            self._work.put(None)

    def _main(self) -> None:
        while (work := self._work.get()) is not None:
            compiler, request, compiled = work
            mask: Mask | None = None
            fault: BaseException | None = None
            try:
                mask = compiler.compile(request)
            except BaseException as error:  # whatever it is, it is this text's
                fault = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._done, compiled, mask, fault)
            del work, compiler, request, compiled, mask, fault

    def _done(self, compiled: Compiled, mask: Any, fault: BaseException | None) -> None:
        self.waiting -= 1
        compiled(mask, fault)
