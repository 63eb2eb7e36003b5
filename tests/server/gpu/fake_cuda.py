"""A CUDA runtime that records: exactly the functions that engines call, on memory of this process, in the streams' order.

Work in a stream is *not* done when it is asked for, but when somebody waits, as late as the rules allow. So a missing event or
wait shows as a wrong answer: the host reads an output that is not there yet, or overwrites an input that was not yet copied.
Every fault of memory is an error at once or at the end: two frees, a use after a free, a leak (``leaks``), a free of memory
that waiting work still names, addresses that no allocation has.

``fail_at`` makes the n-th call fail; ``hurt`` says by which error.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np


class cudaError_t(IntEnum):
    """Those that tests need."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorLaunchFailure = 719


class cudaMemcpyKind(Enum):
    """Directions."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(Enum):
    """How strict a capture is."""

    cudaStreamCaptureModeThreadLocal = 1


@dataclass
class Work:
    """Something in a stream: what it does, what it waits for, and the memory it names."""

    do: Callable[[], None]
    touches: tuple[int, ...] = ()
    needs: Mark | None = None
    mark: Mark | None = None


@dataclass
class Mark:
    """One recording of an event."""

    reached: bool = False
    stream: Any = None


@dataclass(eq=False)
class Stream:
    """A queue."""

    waiting: deque[Work] = field(default_factory=deque)
    capturing: list[Work] | None = None
    alive: bool = True


@dataclass(eq=False)
class Event:
    """Its last recording."""

    mark: Mark | None = None
    alive: bool = True


@dataclass(eq=False)
class Graph:
    """Recorded work."""

    work: list[Work]
    alive: bool = True


class FakeCuda:
    """Stands for ``cuda.bindings.runtime``.

    Attributes:
        total: memory of the device.
        calls: names of all calls, in order.
        faults: what no real device would forgive.
    """

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaHostAllocDefault = 0

    def __init__(self, total: int = 1 << 30, devices: int = 1) -> None:
        self.total, self.devices = total, devices
        self.calls: list[str] = []
        self.faults: list[str] = []
        self.by_itself = (
            False  # whether work is done without anybody waiting, at the latest when it is asked about
        )
        self.fail_at: int | None = None
        self.hurt = cudaError_t.cudaErrorMemoryAllocation
        self._lost: cudaError_t | None = None
        self._next = 1 << 40
        self._device: dict[int, np.ndarray] = {}
        self._host: dict[int, np.ndarray] = {}
        self._freed: set[int] = set()
        self._things: list[Stream | Event | Graph] = []

    # What tests ask

    def leaks(self) -> list[str]:
        """All that was never given back."""
        found = [f"device memory of {len(block)}" for block in self._device.values()]
        found += [f"pinned memory of {len(block)}" for block in self._host.values()]
        return found + [type(one).__name__ for one in self._things if one.alive]

    def device_bytes(self, address: int, size: int) -> np.ndarray:
        """Memory of the device, for a kernel."""
        for start, block in self._device.items():
            if start <= address and address + size <= start + len(block):
                return block[address - start : address - start + size]
        self.faults.append(f"a kernel touched {size} bytes at {address:#x}, which nobody has")
        raise IllegalAddress

    def enqueue(self, stream: Stream, do: Callable[[], None], touches: tuple[int, ...] = ()) -> None:
        """Put a kernel into a stream (or into what it records)."""
        self._put(stream, Work(do, touches))

    # The functions

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        if device >= self.devices:
            return (cudaError_t.cudaErrorInvalidValue,)
        return self._call("cudaSetDevice")

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, error.name.encode()

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        used = sum(len(block) for block in self._device.values())
        return self._call("cudaMemGetInfo", self.total - used, self.total)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        error, *_ = self._call("cudaMalloc")
        if error:
            return error, None
        used = sum(len(block) for block in self._device.values())
        if used + size > self.total:
            return cudaError_t.cudaErrorMemoryAllocation, None
        address, self._next = self._next, self._next + size + 4096
        self._device[address] = np.full(size, 0xA5, np.uint8)  # never zeros: what nobody wrote is no answer
        return error, address

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        return self._free("cudaFree", self._device, devPtr)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        error, *_ = self._call("cudaHostAlloc")
        if error:
            return error, None
        block = np.full(size, 0x5A, np.uint8)
        self._host[block.ctypes.data] = block
        return error, block.ctypes.data

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        return self._free("cudaFreeHost", self._host, ptr)

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: Stream
    ) -> tuple[Any, ...]:
        error, *_ = self._call("cudaMemcpyAsync")
        if error:
            return (error,)
        into, out = (
            kind is not cudaMemcpyKind.cudaMemcpyDeviceToHost,
            kind is not cudaMemcpyKind.cudaMemcpyHostToDevice,
        )

        def do() -> None:
            source = self.device_bytes(src, count) if out else self._any_host(src, count)
            target = self.device_bytes(dst, count) if into else self._any_host(dst, count)
            target[:] = source

        self._put(stream, Work(do, (dst, src)))
        return (error,)

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: Stream) -> tuple[Any, ...]:
        error, *_ = self._call("cudaMemsetAsync")
        if not error:
            self._put(stream, Work(lambda: self.device_bytes(devPtr, count).fill(value), (devPtr,)))
        return (error,)

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[Any, ...]:
        return self._call("cudaDeviceGetStreamPriorityRange", 0, -5)

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[Any, ...]:
        return self._make("cudaStreamCreateWithPriority", Stream())

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        return self._destroy("cudaStreamDestroy", stream)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        error, *_ = self._call("cudaStreamSynchronize")
        return (error,) if error else (self._drain(stream),)

    def cudaStreamWaitEvent(self, stream: Stream, event: Event, flags: int) -> tuple[Any, ...]:
        error, *_ = self._call("cudaStreamWaitEvent")
        if not error and event.mark is not None:
            self._put(stream, Work(lambda: None, needs=event.mark))
        return (error,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._make("cudaEventCreateWithFlags", Event())

    def cudaEventDestroy(self, event: Event) -> tuple[Any, ...]:
        return self._destroy("cudaEventDestroy", event)

    def cudaEventRecord(self, event: Event, stream: Stream) -> tuple[Any, ...]:
        error, *_ = self._call("cudaEventRecord")
        if not error:
            event.mark = Mark(stream=stream)
            self._put(stream, Work(lambda: None, mark=event.mark))
        return (error,)

    def cudaEventSynchronize(self, event: Event) -> tuple[Any, ...]:
        error, *_ = self._call("cudaEventSynchronize")
        if error or event.mark is None:
            return (error,)
        return (self._drain(event.mark.stream, event.mark),)

    def cudaEventQuery(self, event: Event) -> tuple[Any, ...]:
        error, *_ = self._call("cudaEventQuery")
        if not error and self.by_itself and event.mark is not None:
            error = self._drain(event.mark.stream, event.mark)
        if not error and event.mark is not None and not event.mark.reached:
            return (cudaError_t.cudaErrorNotReady,)
        return (error,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
        error, *_ = self._call("cudaStreamBeginCapture")
        if not error:
            stream.capturing = []
        return (error,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        work, stream.capturing = stream.capturing, None
        error, *_ = self._call("cudaStreamEndCapture")
        if error or work is None:
            return error or cudaError_t.cudaErrorInvalidValue, None
        graph = Graph(work)
        self._things.append(graph)
        return error, graph

    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> tuple[Any, ...]:
        return self._make("cudaGraphInstantiate", Graph(graph.work))

    def cudaGraphDestroy(self, graph: Graph) -> tuple[Any, ...]:
        return self._destroy("cudaGraphDestroy", graph)

    def cudaGraphExecDestroy(self, graphExec: Graph) -> tuple[Any, ...]:
        return self._destroy("cudaGraphExecDestroy", graphExec)

    def cudaGraphLaunch(self, graphExec: Graph, stream: Stream) -> tuple[Any, ...]:
        error, *_ = self._call("cudaGraphLaunch")
        if not error:
            if not graphExec.alive:
                self.faults.append("a graph was launched after it was destroyed")
            for one in graphExec.work:
                self._put(stream, Work(one.do, one.touches))
        return (error,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return self._call("cudaGetDeviceProperties", SimpleNamespace(major=9, minor=0))

    # How

    def _call(self, name: str, *values: Any) -> tuple[Any, ...]:
        self.calls.append(name)
        if self._lost is None and self.fail_at is not None and len(self.calls) - 1 == self.fail_at:
            if self.hurt in (cudaError_t.cudaErrorIllegalAddress, cudaError_t.cudaErrorLaunchFailure):
                self._lost = self.hurt
            return self.hurt, *(None for _ in values)
        if self._lost is not None:
            return self._lost, *(None for _ in values)
        return cudaError_t.cudaSuccess, *values

    def _make(self, name: str, thing: Any) -> tuple[Any, ...]:
        error, *_ = self._call(name)
        if error:
            return error, None
        self._things.append(thing)
        return error, thing

    def _destroy(self, name: str, thing: Any) -> tuple[Any, ...]:
        if not thing.alive:
            self.faults.append(f"{name}: twice")
        if isinstance(thing, Stream) and thing.waiting and self._lost is None:
            self._drain(thing)
        thing.alive = False
        self._call(name)
        return (cudaError_t.cudaSuccess,)

    def _free(self, name: str, blocks: dict[int, np.ndarray], address: int) -> tuple[Any, ...]:
        if address not in blocks:
            self.faults.append(
                f"{name}: {address:#x} {'twice' if address in self._freed else 'was never allocated'}"
            )
            return (cudaError_t.cudaErrorInvalidValue,)
        end = address + len(blocks[address])
        for stream in (one for one in self._things if isinstance(one, Stream)):
            if self._lost is None and any(
                address <= at < end for work in stream.waiting for at in work.touches
            ):
                self.faults.append(f"{name}: work that waits in a stream still uses {address:#x}")
        self._freed.add(address)
        del blocks[address]
        self._call(name)
        return (cudaError_t.cudaSuccess,)

    def _any_host(self, address: int, size: int) -> np.ndarray:
        for start, block in self._host.items():
            if start <= address and address + size <= start + len(block):
                return block[address - start : address - start + size]
        if address in self._freed:
            self.faults.append(f"host memory at {address:#x} was used after it was freed")
            raise IllegalAddress
        import ctypes

        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)

    def _put(self, stream: Stream, work: Work) -> None:
        if not stream.alive:
            self.faults.append("work was put into a stream that was destroyed")
        if stream.capturing is not None:
            stream.capturing.append(work)
        else:
            stream.waiting.append(work)

    def _drain(self, stream: Stream, until: Mark | None = None) -> cudaError_t:
        while stream.waiting and not (until is not None and until.reached):
            work = stream.waiting.popleft()
            if work.needs is not None and not work.needs.reached:
                error = self._drain(work.needs.stream, work.needs)
                if error:
                    return error
            try:
                work.do()
            except IllegalAddress:
                self._lost = cudaError_t.cudaErrorIllegalAddress
                return self._lost
            if work.mark is not None:
                work.mark.reached = True
        return cudaError_t.cudaSuccess


class IllegalAddress(Exception):
    """Memory was touched that is nobody's."""


def functions() -> dict[str, inspect.Signature]:
    """All functions of the fake, by name."""
    return {
        name: inspect.signature(getattr(FakeCuda, name))
        for name in dir(FakeCuda)
        if name.startswith("cuda") and inspect.isfunction(getattr(FakeCuda, name))
    }
