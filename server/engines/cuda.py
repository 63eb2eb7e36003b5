"""The calls of CUDA's runtime that engines make, each checked: what is not a success is an exception that says which call.

One place, so that everything an engine does on a GPU can be recorded, reordered and made to fail in tests: those give a
module of their own with the same functions, whose signatures are held against the real package's.

Addresses and handles are integers or opaque objects; sizes are bytes.

Source: CUDA Runtime API, by NVIDIA's ``cuda-python`` (no torch, no pycuda).
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Handle = Any  # of a stream, an event, a graph
Bytes = npt.NDArray[np.uint8]

# After these the context is lost: every later call fails too, and only a new process gets the device back.
STICKY = frozenset(
    (
        "cudaErrorIllegalAddress",
        "cudaErrorLaunchTimeout",
        "cudaErrorLaunchFailure",
        "cudaErrorAssert",
        "cudaErrorHardwareStackError",
        "cudaErrorIllegalInstruction",
        "cudaErrorMisalignedAddress",
        "cudaErrorInvalidAddressSpace",
        "cudaErrorInvalidPc",
        "cudaErrorECCUncorrectable",
        "cudaErrorContextIsDestroyed",
    )
)


class CudaUnavailable(RuntimeError):
    """There is no CUDA here, or no device; says what is missing."""


class DeviceLost(RuntimeError):
    """The device will not come back in this process: it is no use to try again."""


class CudaError(RuntimeError):
    """A call failed.

    Attributes:
        call: the function.
        name: of the error ("cudaErrorMemoryAllocation").
        sticky: the process cannot use the device any more.
    """

    def __init__(self, call: str, name: str, text: str) -> None:
        self.call, self.name, self.sticky = call, name, name in STICKY
        end = "; the device is lost for this process" if self.sticky else ""
        super().__init__(f"{call}: {name} ({text}){end}")


def is_lost(error: BaseException) -> bool:
    """Whether an error means that the device is gone for this process."""
    return isinstance(error, DeviceLost | CudaUnavailable) or (isinstance(error, CudaError) and error.sticky)


class CudaRuntime:
    """CUDA on one device; every method raises ``CudaError`` where the call fails."""

    def __init__(self, device: int = 0, api: Any = None) -> None:
        """Choose the device.

        Args:
            device: its number.
            api: ``cuda.bindings.runtime`` or what stands for it in tests; None: import it.

        Raises:
            CudaUnavailable: the package, the driver or the device is missing.
        """
        if api is None:
            try:
                api = importlib.import_module("cuda.bindings.runtime")
            except ImportError as error:
                raise CudaUnavailable(
                    f"cuda-python cannot be loaded ({error}); install '.[tensorrt-rtx]' or '.[tensorrt]'"
                ) from error
        self._api = api
        self.device = device
        try:
            self._do("cudaSetDevice", device)
        except CudaError as error:
            raise CudaUnavailable(
                f"device {device} cannot be used: {error}; a GPU and its driver are needed"
            ) from error

    def use(self) -> None:
        """Make the device current in the calling thread; each thread that makes calls needs it once."""
        self._do("cudaSetDevice", self.device)

    def free_bytes(self) -> tuple[int, int]:
        """Free and total memory of the device."""
        free, total = self._do("cudaMemGetInfo")
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        """Memory of the device; the address."""
        return int(self._do("cudaMalloc", size)[0])

    def release(self, address: int) -> None:
        """Give memory of the device back; nothing may be using it any more."""
        self._do("cudaFree", address)

    def allocate_pinned(self, size: int) -> int:
        """Memory of the host that the device can copy from and to by itself; the address."""
        return int(self._do("cudaHostAlloc", size, self._api.cudaHostAllocDefault)[0])

    def release_pinned(self, address: int) -> None:
        """Give it back."""
        self._do("cudaFreeHost", address)

    def copy_in(self, device: int, host: int, size: int, stream: Handle) -> None:
        """Copy host memory to the device, in the order of the stream; the host's must stay as it is until then."""
        self._do(
            "cudaMemcpyAsync", device, host, size, self._api.cudaMemcpyKind.cudaMemcpyHostToDevice, stream
        )

    def copy_out(self, host: int, device: int, size: int, stream: Handle) -> None:
        """Copy device memory to the host, in the order of the stream."""
        self._do(
            "cudaMemcpyAsync", host, device, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream
        )

    def copy_inside(self, target: int, source: int, size: int, stream: Handle) -> None:
        """Copy device memory to other device memory, in the order of the stream."""
        self._do(
            "cudaMemcpyAsync", target, source, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream
        )

    def clear(self, device: int, size: int, stream: Handle) -> None:
        """Fill with zeros, in the order of the stream."""
        self._do("cudaMemsetAsync", device, 0, size, stream)

    def stream(self, *, urgent: bool = False) -> Handle:
        """Make a stream that waits for no other; the device runs urgent ones first."""
        least, greatest = self._do("cudaDeviceGetStreamPriorityRange")
        return self._do(
            "cudaStreamCreateWithPriority", self._api.cudaStreamNonBlocking, greatest if urgent else least
        )[0]

    def end_stream(self, stream: Handle) -> None:
        """Destroy a stream."""
        self._do("cudaStreamDestroy", stream)

    def wait(self, stream: Handle) -> None:
        """Block until all of a stream is done; the interpreter lock is free meanwhile."""
        self._do("cudaStreamSynchronize", stream)

    def event(self) -> Handle:
        """Make an event; it takes no time stamps."""
        return self._do("cudaEventCreateWithFlags", self._api.cudaEventDisableTiming)[0]

    def end_event(self, event: Handle) -> None:
        """Destroy an event."""
        self._do("cudaEventDestroy", event)

    def record(self, event: Handle, stream: Handle) -> None:
        """Let the event be reached when all that is in the stream until now is done."""
        self._do("cudaEventRecord", event, stream)

    def wait_event(self, event: Handle) -> None:
        """Block until the event is reached."""
        self._do("cudaEventSynchronize", event)

    def reached(self, event: Handle) -> bool:
        """Whether the event is reached; does not block."""
        error = self._api.cudaEventQuery(event)[0]
        if error == self._api.cudaError_t.cudaErrorNotReady:
            return False
        self._check("cudaEventQuery", error)
        return True

    def after(self, stream: Handle, event: Handle) -> None:
        """Let what comes into the stream from now on wait for the event."""
        self._do("cudaStreamWaitEvent", stream, event, 0)

    @contextmanager
    def captured(self, stream: Handle, found: list[Handle]) -> Iterator[None]:
        """Record what goes into the stream instead of doing it; ``found`` gets a graph to ``launch`` and ``end_graph``.

        Where the block raises, the capture is ended all the same and nothing is kept.
        """
        self._do(
            "cudaStreamBeginCapture", stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            yield
        except BaseException:
            # The capture may be broken by what failed: ending it then says so, and that is no news.
            graph = self._api.cudaStreamEndCapture(stream)[-1]
            if graph is not None:
                self._api.cudaGraphDestroy(graph)
            raise
        graph = self._do("cudaStreamEndCapture", stream)[0]
        try:
            found.append(self._do("cudaGraphInstantiate", graph, 0)[0])
        finally:
            self._do("cudaGraphDestroy", graph)

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Do what was recorded, in the order of the stream."""
        self._do("cudaGraphLaunch", graph, stream)

    def end_graph(self, graph: Handle) -> None:
        """Destroy a graph."""
        self._do("cudaGraphExecDestroy", graph)

    def capability(self) -> str:
        """Of the device, as "sm90"."""
        properties = self._do("cudaGetDeviceProperties", self.device)[0]
        return f"sm{properties.major}{properties.minor}"

    def _do(self, call: str, *arguments: Any) -> tuple[Any, ...]:
        error, *values = getattr(self._api, call)(*arguments)
        self._check(call, error)
        return tuple(values)

    def _check(self, call: str, error: Any) -> None:
        if error == self._api.cudaError_t.cudaSuccess:
            return
        text = self._api.cudaGetErrorString(error)[1]
        raise CudaError(
            call, str(getattr(error, "name", error)), text.decode() if isinstance(text, bytes) else str(text)
        )


def host_view(address: int, size: int) -> Bytes:
    """Host memory that somebody else keeps, as an array."""
    return np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)
