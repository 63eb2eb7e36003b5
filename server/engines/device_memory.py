"""Blocks of device and pinned memory that an engine divides among its tensors.

Allocations of CUDA take up to milliseconds and wait for the device; so an engine asks once for each kind of memory, for
all of its tensors, and gives it back in one piece. Units: bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from server.engines.cuda import Bytes, CudaRuntime, host_view

ALIGNMENT = 256  # what TensorRT wants of an address


def aligned(size: int) -> int:
    """The size that a tensor takes in a block; an empty one takes a place too, as it needs an address."""
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


class Block:
    """One allocation, divided: tensors by name.

    Used as a context manager where what follows may fail: leaving it by an exception gives the memory back.
    """

    def __init__(self, cuda: CudaRuntime, sizes: Mapping[str, int], *, pinned: bool = False) -> None:
        """Allocate.

        Args:
            cuda: of the device.
            sizes: of the tensors.
            pinned: of the host, and not of the device.

        Raises:
            CudaError: there is not enough memory.
        """
        self._cuda, self._pinned = cuda, pinned
        self._sizes = dict(sizes)
        self._at: dict[str, int] = {}
        self.size = 0
        for name, size in sizes.items():
            self._at[name] = self.size
            self.size += aligned(size)
        self._base = 0
        if self.size:
            self._base = cuda.allocate_pinned(self.size) if pinned else cuda.allocate(self.size)

    def __enter__(self) -> Block:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.close()

    def address(self, name: str) -> int:
        """Where a tensor begins.

        Raises:
            RuntimeError: the block was given back.
        """
        if not self._base:
            raise RuntimeError(f"{name}: its memory was given back")
        return self._base + self._at[name]

    def view(self, name: str) -> Bytes:
        """A tensor's bytes, of a pinned block."""
        assert self._pinned
        return host_view(self.address(name), self._sizes[name])

    def close(self) -> None:
        """Give the memory back; safe to call twice."""
        base, self._base = self._base, 0
        if base:
            (self._cuda.release_pinned if self._pinned else self._cuda.release)(base)
