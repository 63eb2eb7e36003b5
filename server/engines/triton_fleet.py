"""Requests to a fleet of Triton servers: hosts, health, deadlines, cancellation, retries and hedges, on an event loop of its own.

**What is asked again, and what is not.** A request is sent to another host only where nothing of it ran: the host could not be
reached, refused it unread, or has not the version. A connection that breaks while an answer is awaited may have computed: that
request ends, and its caller's fallback answers. A hedge is the one exception, chosen by a setting, and what it asks twice is
a pure function.

The loop has a thread of its own, so that a busy server's event loop and the fleet's do not wait for each other; engines block
on it from theirs.

Units: seconds on the monotonic clock; Triton's time-outs are microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from server.engines.base import Arrays, Waiters
from server.engines.triton_hosts import Host, Hosts
from server.errors import DeadlineExceeded, NotReady

log = logging.getLogger("vitrine.triton")

Model = tuple[str, str]

_LARGEST_MESSAGE = 2**31 - 1
_CHANNEL = [
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
]
_ABANDONED_EVERY_S = 0.005  # how soon a request is dropped for which nobody waits any more
_LONGEST_S = 60.0  # of a request for which nobody in particular waits
_LATENCIES = 256
_FEWEST_LATENCIES = 32  # before a 95th percentile means something
# What grpc says where no byte of the request has left.
_NOT_SENT = (
    "failed to connect",
    "connection refused",
    "connection attempt",
    "name resolution",
    "no route to host",
    "dns",
)
_NOT_RUN = ("exceeds maximum queue size", "is not found", "not ready", "unknown model", "is unloading")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """How the fleet is asked.

    Attributes:
        look_every_s: how often each host is looked at (> 0).
        look_timeout_s: a host that does not answer a look within this is away (> 0).
        hedge: ask a second host where the first is slower than 95 in 100 of the last answers.
    """

    look_every_s: float = 0.5
    look_timeout_s: float = 0.5
    hedge: bool = False


class TritonFleet:
    """The fleet, from ``start`` to ``close``; ``infer`` may be called from any thread.

    Args:
        addresses: HOST:PORT of each host's gRPC port; at least one.
        options: how.

    Attributes:
        hosts: who is in; to be read only.
        hedged, retried: how often.
    """

    def __init__(self, addresses: Sequence[str], options: FleetOptions | None = None) -> None:
        self.hosts = Hosts(addresses)
        self.hedged = self.retried = 0
        self._options = options or FleetOptions()
        self._wanted: set[Model] = set()
        self._took_s: deque[float] = deque(maxlen=_LATENCIES)
        self._clients: dict[str, InferenceServerClient] = {}
        self._loop = asyncio.new_event_loop()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._main, name="triton-fleet", daemon=True)
        self._started = False

    def start(self) -> None:
        """Begin to look at the hosts; a second call changes nothing."""
        if not self._started:
            self._started = True
            self._thread.start()

    def close(self) -> None:
        """Stop; what is on its way is dropped."""
        if self._started and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)

    def want(self, model: Model, wait_s: float) -> None:
        """Keep an eye on a model and version, and return once a host has it ready.

        Raises:
            NotReady: none has it within ``wait_s``; says what each host said.
        """
        self.start()
        with self._changed:
            self._wanted.add(model)
            self._loop.call_soon_threadsafe(self._look_now)
            if not self._changed.wait_for(lambda: self.hosts.pick(model) is not None, wait_s):
                raise NotReady(self.hosts.why_none(model))

    def forget(self, model: Model) -> None:
        """Nobody asks for it any more."""
        with self._changed:
            self._wanted.discard(model)

    def infer(
        self, model: Model, inputs: Arrays, outputs: Sequence[str], waiters: Waiters | None
    ) -> dict[str, npt.NDArray[Any]]:
        """Ask, and block until the answer is there.

        Args:
            model: name and version.
            inputs: by tensor name.
            outputs: that are wanted.
            waiters: who waits: its latest deadline is Triton's time-out, and when all have left the request is cancelled.

        Raises:
            NotReady: no host can be asked, or the one that was went away.
            DeadlineExceeded: nobody can use an answer any more.
            RuntimeError: the model failed there; holds what it said.
        """
        asking = self._asking(model, inputs, outputs, waiters)
        return asyncio.run_coroutine_threadsafe(asking, self._loop).result()

    # --- on the fleet's loop ---

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._look = asyncio.Event()
        looking = self._loop.create_task(self._look_on())
        try:
            self._loop.run_forever()
        finally:
            looking.cancel()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        await asyncio.sleep(0)
        await asyncio.gather(*(client.close() for client in self._clients.values()), return_exceptions=True)

    def _look_now(self) -> None:
        self._look.set()

    async def _look_on(self) -> None:
        while True:
            self._look.clear()
            await asyncio.gather(*(self._look_at(host) for host in self.hosts.all))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.look_every_s):
                    await self._look.wait()

    async def _look_at(self, host: Host) -> None:
        client, limit_s = self._client(host), self._options.look_timeout_s
        ready: list[Model] = []
        why = "it has none of the models ready"
        with self._changed:
            wanted = sorted(self._wanted)
        try:
            for name, version in wanted:
                if await client.is_model_ready(name, version, client_timeout=limit_s):
                    ready.append((name, version))
        except InferenceServerException as error:
            why = _first_line(error)
        except Exception as error:  # a look must not end the looking
            why = repr(error)
        was_out = host.out
        with self._changed:
            back = self.hosts.seen(host, ready, why)
            self._changed.notify_all()
        if back:
            log.info("host is in", extra={"host": host.address})
        elif host.out and not was_out:
            log.warning("host is out", extra={"host": host.address, "reason": why})

    async def _asking(
        self, model: Model, inputs: Arrays, outputs: Sequence[str], waiters: Waiters | None
    ) -> dict[str, npt.NDArray[Any]]:
        until_s = time.monotonic() + _LONGEST_S
        if waiters is not None and waiters.latest_s < until_s:
            until_s = waiters.latest_s
        tensors = [_input(name, array) for name, array in inputs.items()]
        wanted = [InferRequestedOutput(name) for name in outputs]
        tried: list[Host] = []
        while True:
            host = self.hosts.pick(model, tried)
            if host is None:
                raise NotReady(self.hosts.why_none(model))
            tried.append(host)
            try:
                result = await self._watched(
                    self._hedging(host, tried, model, tensors, wanted, until_s), waiters, until_s
                )
            except _NothingRan as error:
                self.retried += 1
                log.info("asking another host", extra={"host": host.address, "reason": str(error)})
                continue
            return {name: _output(result, name) for name in outputs}

    async def _watched(
        self, asking: Coroutine[Any, Any, InferResult], waiters: Waiters | None, until_s: float
    ) -> InferResult:
        """The answer, unless nobody can use it any more: then the request is cancelled, there as well."""
        task = asyncio.ensure_future(asking)
        try:
            while True:
                left_s = until_s - time.monotonic()
                pause_s = left_s if waiters is None else min(left_s, _ABANDONED_EVERY_S)
                done, _ = await asyncio.wait((task,), timeout=max(0.0, pause_s))
                if done:
                    return task.result()
                if time.monotonic() >= until_s or (waiters is not None and waiters.abandoned()):
                    raise DeadlineExceeded("Triton did not answer in time", stage="engine")
        finally:
            task.cancel()
            if task.done() and not task.cancelled():
                task.exception()  # looked at, or asyncio logs that nobody did

    async def _hedging(
        self,
        host: Host,
        tried: list[Host],
        model: Model,
        tensors: list[InferInput],
        wanted: list[InferRequestedOutput],
        until_s: float,
    ) -> InferResult:
        first = asyncio.ensure_future(self._once(host, model, tensors, wanted, until_s))
        racing = {first}
        try:
            if self._options.hedge and len(self._took_s) >= _FEWEST_LATENCIES:
                slow_s = sorted(self._took_s)[int(0.95 * len(self._took_s))]
                done, _ = await asyncio.wait(racing, timeout=slow_s)
                other = None if done else self.hosts.pick(model, tried)
                if other is not None:
                    self.hedged += 1
                    racing.add(asyncio.ensure_future(self._once(other, model, tensors, wanted, until_s)))
            while True:
                done, racing = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None or not racing:
                        return task.result()
        finally:
            for task in (first, *racing):
                task.cancel()

    async def _once(
        self,
        host: Host,
        model: Model,
        tensors: list[InferInput],
        wanted: list[InferRequestedOutput],
        until_s: float,
    ) -> InferResult:
        left_s = until_s - time.monotonic()
        if left_s <= 0.0:
            raise DeadlineExceeded("nobody can use an answer any more", stage="engine")
        # In whole milliseconds, as gRPC writes it down; left to itself it rounds up, and the host would work for nobody.
        left_s = math.floor(left_s * 1e3) / 1e3 or left_s
        began_s = time.monotonic()
        self.hosts.begin(host)
        try:
            result = await self._client(host).infer(
                model[0],
                tensors,
                model_version=model[1],
                outputs=wanted,
                timeout=max(1, math.ceil(left_s * 1e6)),
                client_timeout=left_s,
            )
        except InferenceServerException as error:
            raise self._judged(host, model, error) from error
        finally:
            self.hosts.end(host)
        self.hosts.succeeded(host)
        self._took_s.append(time.monotonic() - began_s)
        return result

    def _judged(self, host: Host, model: Model, error: InferenceServerException) -> Exception:
        """What an error of a host means: for the host, and for the request."""
        status, text = str(error.status() or ""), str(error.message() or "")
        lowered = text.lower()
        if "CANCELLED" in status:
            return NotReady("the request was cancelled on its way to Triton")
        if "DEADLINE_EXCEEDED" in status:
            self._out(host, f"it did not answer in time: {_line(text)}", away=False)
            return DeadlineExceeded("Triton did not answer in time", stage="engine")
        if "UNAVAILABLE" in status and any(words in lowered for words in _NOT_SENT):
            self._out(host, _line(text), away=True)
            return _NothingRan(_line(text))
        if "NOT_FOUND" in status or (
            "UNAVAILABLE" in status and any(words in lowered for words in _NOT_RUN[1:])
        ):
            self.hosts.lost(host, model)
            return _NothingRan(_line(text))
        if "RESOURCE_EXHAUSTED" in status or _NOT_RUN[0] in lowered:
            return _NothingRan(_line(text))  # full, and well
        if (
            "UNAVAILABLE" in status and "timeout" in lowered
        ):  # Triton's queue policy: it waited too long there
            return DeadlineExceeded(
                "the request waited in Triton's queue beyond its deadline", stage="engine"
            )
        if "UNAVAILABLE" in status:
            self._out(host, _line(text), away=True)
            return NotReady(f"the Triton host {host.address} went away while it was computing")
        self._out(host, _line(text), away=False)
        return RuntimeError(f"{host.address}: {status}: {text}")

    def _out(self, host: Host, why: str, *, away: bool) -> None:
        with self._changed:
            out = self.hosts.failed(host, why, away=away)
        if out:
            log.warning("host is out", extra={"host": host.address, "reason": why})
            self._look_now()

    def _client(self, host: Host) -> InferenceServerClient:
        client = self._clients.get(host.address)
        if client is None:
            client = self._clients[host.address] = InferenceServerClient(host.address, channel_args=_CHANNEL)
        return client


class _NothingRan(Exception):
    """A host has not begun with the request, so that another may be asked."""


def _input(name: str, array: npt.NDArray[Any]) -> InferInput:
    from tritonclient.utils import np_to_triton_dtype

    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


def _output(result: InferResult, name: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] | None = result.as_numpy(name)
    if array is None:
        raise RuntimeError(f"Triton's answer has no output {name!r}")
    return array


def _first_line(error: InferenceServerException) -> str:
    return _line(str(error.message() or error))


def _line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:200]
