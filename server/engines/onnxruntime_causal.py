"""A causal language model in ONNX Runtime on the CPU; see ``CausalEngine`` for the rules of ``run`` and ``copy``.

Decision not to undo: the graph's ``past`` and ``present`` are bound to the same memory, a slice of the pool that holds the
call's slots. ONNX Runtime then writes new keys and values in place (microseconds), where anything else copies the cache in
every step. A call's rows are therefore neighbours in one pool.

A second, *light* graph of the same model (other precision of the matrices) may be bound to the same pools: what one has
computed the other reads.
"""

from __future__ import annotations

import math
import mmap
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from server.engines.causal import CausalCall, CausalLimits
from server.engines.onnxruntime_session import open_session, session_options

Floats = npt.NDArray[np.float32]

KEPT_BINDINGS = 64  # of slot ranges; binding one anew takes a fraction of a millisecond
MAX_CONTEXT = "vitrine.max_context"  # metadata of the graph: positions it has rotations for
# Metadata: "grouped" attention reads a row as far as it is filled; without it, attention is dense in the slot's capacity.
ATTENTION, GROUPED = "vitrine.attention", "grouped"
FED = ("input_ids", "write_index", "n_new")
# In which the runtime fuses blocks of INT4 weights with the product: 4 multiplies INT8 activations.
INT4_ACCURACY = "4"


class OnnxRuntimeCausal:
    """One graph or two, their weights, and a KV cache of its own.

    Args:
        path: the packaged graph ("model.onnx", its weights beside it).
        pools: capacity in tokens to number of slots, or a function that says it, given whether attention is dense in the
            capacity; allocated here, once (memory is touched as slots fill).
        threads: intra-op threads (>= 1).
        spin: whether idle intra-op threads spin.
        max_chunk: prompt tokens a call may hold in one row.
        light: a second graph of the same inputs and outputs; None: there is none.

    Raises:
        ValueError: a pool or the thread count is out of range.
        RuntimeError: the runtime refuses the graph; names the file.
    """

    kind = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        pools: Mapping[int, int] | Callable[[bool], Mapping[int, int]],
        threads: int = 2,
        spin: bool = False,
        max_chunk: int = 256,
        light: Path | None = None,
    ) -> None:
        self._path = path
        session = _open(path, threads, spin)
        self._dense = session.get_modelmeta().custom_metadata_map.get(ATTENTION) != GROUPED
        if not isinstance(pools, Mapping):
            pools = pools(self._dense)
        _check(pools, threads, max_chunk)
        self._sessions: dict[bool, ort.InferenceSession] = {False: session}  # by ``CausalCall.light``
        shapes, outputs = _shapes(session)
        if light is not None:
            self._sessions[True] = _open(light, threads, spin)
            if _shapes(self._sessions[True]) != (shapes, outputs):
                raise RuntimeError(f"{light}: has other inputs or outputs than {path.name}; build it again")
        self._caches = tuple(name.removeprefix("past.") for name in shapes if name.startswith("past."))
        wanted = {"logits", *(f"present.{name}" for name in self._caches)}
        if not self._caches or set(FED) - set(shapes) or wanted != set(outputs):
            raise RuntimeError(
                f"{path}: is no causal language model: inputs {sorted(shapes)}, outputs {sorted(outputs)}"
            )
        for one in self._sessions.values():
            _check_context(one, pools)
        vocab_size = outputs["logits"][1]
        heads, head_dim = {
            (shapes[f"past.{name}"][1], shapes[f"past.{name}"][3]) for name in self._caches
        }.pop()
        self.limits = CausalLimits(
            vocab_size=vocab_size,
            pools=dict(sorted(pools.items())),
            max_chunk=max_chunk,
            light=light is not None,
        )
        # One block a pool, [caches, slots, heads, capacity, head_dim]. Zeros, not anything: a masked place counts with
        # weight 0, and 0 times NaN is NaN.
        self._pools: dict[int, Floats] = {
            capacity: _zeros((len(self._caches), slots, heads, capacity, head_dim))
            for capacity, slots in self.limits.pools.items()
        }
        self._bindings: OrderedDict[tuple[bool, int, int, int], Any] = OrderedDict()

    def run(self, call: CausalCall) -> Floats:
        """Compute one call; see ``CausalEngine.run``."""
        if not self._sessions:
            raise RuntimeError(f"{self._path}: closed")
        self._check_call(call)
        rows, width = call.input_ids_BT.shape
        if not self._dense and rows > 1 and width > 1 and call.write_index_B.any():
            return self._run_apart(call)
        return self._run(call)

    def _run_apart(self, call: CausalCall) -> Floats:
        # Grouped attention continues one row at a time; only beginnings and single tokens of several go together.
        logits_BV = np.zeros((len(call.write_index_B), self.limits.vocab_size), np.float32)
        for row in np.flatnonzero(call.n_new_B):
            new = slice(row, row + 1)
            one = CausalCall(
                capacity=call.capacity,
                first_slot=call.first_slot + int(row),
                input_ids_BT=call.input_ids_BT[new, : call.n_new_B[row]],
                write_index_B=call.write_index_B[new],
                n_new_B=call.n_new_B[new],
                light=call.light,
            )
            logits_BV[row] = self._run(one)[0]
        return logits_BV

    def _run(self, call: CausalCall) -> Floats:
        session = self._sessions[call.light]
        rows = len(call.write_index_B)
        binding = self._binding(session, call)
        logits_BV = np.empty((rows, self.limits.vocab_size), np.float32)
        fed = (
            np.ascontiguousarray(call.input_ids_BT),
            np.ascontiguousarray(call.write_index_B),
            np.ascontiguousarray(call.n_new_B),
        )
        for name, array in zip(FED, fed, strict=True):
            binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits_BV.shape, logits_BV.ctypes.data)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime raises a class per status, none with a common base
            self._forget(call, np.ones(rows, np.bool_))
            raise RuntimeError(f"{self._path.name}: {error}") from error
        bad_B = ~np.isfinite(logits_BV.max(axis=1)) & (call.n_new_B > 0)
        if bad_B.any():
            self._forget(call, bad_B)
        return logits_BV

    def copy(self, source: tuple[int, int], target: tuple[int, int], tokens: int) -> None:
        """Copy the first ``tokens`` of one slot's cache to another slot (capacity, index)."""
        for capacity, slot in (source, target):
            if not 0 <= slot < self.limits.pools.get(capacity, 0) or not 0 <= tokens <= capacity:
                raise ValueError(
                    f"{tokens} tokens of slot {slot} of {capacity}: pools (capacity: slots) are {self.limits.pools}"
                )
        taken = self._pools[source[0]][:, source[1], :, :tokens]
        self._pools[target[0]][:, target[1], :, :tokens] = taken

    def close(self) -> None:
        """Let go of memory."""
        self._bindings.clear()
        self._sessions.clear()
        self._pools = {}

    def _binding(self, session: ort.InferenceSession, call: CausalCall) -> Any:
        capacity, first, rows = call.capacity, call.first_slot, len(call.write_index_B)
        key = (call.light, capacity, first, rows)
        binding = self._bindings.get(key)
        if binding is not None:
            self._bindings.move_to_end(key)
            return binding
        binding = session.io_binding()
        for name, cache in zip(self._caches, self._pools[capacity], strict=True):
            part = cache[first : first + rows]
            binding.bind_input(f"past.{name}", "cpu", 0, np.float32, part.shape, part.ctypes.data)
            binding.bind_output(f"present.{name}", "cpu", 0, np.float32, part.shape, part.ctypes.data)
        self._bindings[key] = binding
        if len(self._bindings) > KEPT_BINDINGS:
            self._bindings.popitem(last=False)
        return binding

    def _forget(self, call: CausalCall, bad_B: npt.NDArray[np.bool_]) -> None:
        # What a failed call wrote may be NaN, and would spoil every later text in the slot: see the zeros above.
        for row in np.flatnonzero(bad_B):
            start = int(call.write_index_B[row])
            self._pools[call.capacity][:, call.first_slot + row, :, start:] = 0.0

    def _check_call(self, call: CausalCall) -> None:
        slots = self.limits.pools.get(call.capacity)
        if slots is None:
            raise ValueError(f"capacity {call.capacity}: there are pools of {list(self.limits.pools)}")
        if call.light and not self.limits.light:
            raise ValueError("a call for the light graph, there is none")
        ids, write_index, n_new = call.input_ids_BT, call.write_index_B, call.n_new_B
        for name, array in (("input_ids", ids), ("write_index", write_index), ("n_new", n_new)):
            if array.dtype != np.int64:
                raise ValueError(f"{name}: {array.dtype}, must be int64")
        if (
            ids.ndim != 2
            or ids.size == 0
            or write_index.shape != ids.shape[:1]
            or n_new.shape != ids.shape[:1]
        ):
            raise ValueError(
                f"input_ids {ids.shape}, write_index {write_index.shape}, n_new {n_new.shape}: must be [B, T], [B], [B]"
            )
        rows, width = ids.shape
        if call.first_slot < 0 or call.first_slot + rows > slots:
            raise ValueError(f"slots {call.first_slot}..{call.first_slot + rows}: the pool has {slots}")
        if width > self.limits.max_chunk:
            raise ValueError(f"{width} tokens in a row, limit is {self.limits.max_chunk}")
        if write_index.min() < 0 or int(write_index.max()) + width > call.capacity:
            raise ValueError(
                f"write_index {write_index.tolist()} and {width} tokens: a slot holds {call.capacity}"
            )
        if n_new.min() < 0 or n_new.max() > width:
            raise ValueError(f"n_new {n_new.tolist()}: must be in 0..{width}")
        if ids.min() < 0 or ids.max() >= self.limits.vocab_size:
            raise ValueError(
                f"token {ids.min() if ids.min() < 0 else ids.max()}: must be in 0..{self.limits.vocab_size - 1}"
            )


def _zeros(shape: tuple[int, ...]) -> Floats:
    """Zeros whose memory is taken page by page as it is written.

    In small pages: a text writes a few kilobytes in each of a hundred places, and with large ones that would take (and
    clear, in one call) the whole pool.
    """
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.zeros(shape, np.float32)
    memory = mmap.mmap(-1, 4 * math.prod(shape), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.float32).reshape(shape)


def _shapes(session: ort.InferenceSession) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = {value.name: value.shape for value in session.get_inputs()}
    return inputs, {value.name: value.shape for value in session.get_outputs()}


def _check(pools: Mapping[int, int], threads: int, max_chunk: int) -> None:
    if not pools:
        raise ValueError("pools: none given, the engine needs at least one")
    for capacity, slots in pools.items():
        if capacity < 1 or slots < 1:
            raise ValueError(f"pools: {slots} slots of {capacity} tokens, both must be at least 1")
    if threads < 1:
        raise ValueError(f"threads = {threads}, must be at least 1")
    if max_chunk < 1:
        raise ValueError(f"max_chunk = {max_chunk}, must be at least 1")


def _check_context(session: ort.InferenceSession, pools: Mapping[int, int]) -> None:
    written = session.get_modelmeta().custom_metadata_map.get(MAX_CONTEXT)
    if written is not None and max(pools) > int(written):
        raise ValueError(
            f"pools: slots of {max(pools)} tokens, the graph was packaged for {written} (max_context)"
        )


def _open(path: Path, threads: int, spin: bool) -> ort.InferenceSession:
    options = session_options(threads, spin=spin)
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", INT4_ACCURACY)
    return open_session(path, options)
