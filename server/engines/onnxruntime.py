"""ONNX Runtime on the CPU: the embedded default, and the answer of last resort for every other runner.

The decision not to undo: tables that are multiplied by (the scoring table) are given to the session as *external
initializers*, tables that are only looked up in are inputs of every run. As an input, MLAS packs the scoring table anew in
each call (measured at 50,000 x 64: 1.3 ms a batch of 8 in FP32, 0.2 ms in INT8); as an initializer, ONNX Runtime copies the
table once for each session (measured: 52 MB more for lookup tables that two sessions share). A new catalogue is a ``bind``
and never a rebuild of the engine.

One intra-op thread is the default: on two cores the other one parses and answers requests, and a second engine thread
buys less than it costs (an answer takes 0.30 CPU-ms with one thread, 0.35 with two).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from server.engines.base import Arrays, TensorSpec
from server.engines.onnxruntime_session import open_session, session_options


class OnnxRuntimeEngine:
    """One graph in one ONNX Runtime session; see ``Engine`` for the thread rules.

    Args:
        path: the packaged graph (``.onnx``).
        inputs: what changes from run to run.
        outputs: what ``run`` returns.
        packed: tables that ``bind`` must bring and the graph declares as external initializers.
        fed: tables that ``bind`` must bring and the graph takes as inputs.
        threads: intra-op threads (>= 1); with more than one they spin between runs only if ``spin``.
        spin: whether idle intra-op threads spin.

    Raises:
        RuntimeError: the runtime refuses the graph (at ``bind``, where the session is made); names the file.
    """

    kind = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        packed: tuple[str, ...] = (),
        fed: tuple[str, ...] = (),
        threads: int = 1,
        spin: bool = False,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._path = path
        self._packed = packed
        self._fed = fed
        self._threads = threads
        self._spin = spin
        self._output_names = [spec.name for spec in outputs]
        self._session: ort.InferenceSession | None = None
        self._bound: list[ort.OrtValue] = []
        self._tables: dict[str, npt.NDArray[Any]] = {}
        if not packed and not fed:
            self.bind({})

    def bind(self, constants: Arrays) -> None:
        """Make the session around these tables; the old session serves until the new one stands.

        Raises:
            ValueError: a table is missing; lists what was given.
            RuntimeError: the runtime refuses the graph or a table's shape.
        """
        missing = [name for name in (*self._packed, *self._fed) if name not in constants]
        if missing:
            raise ValueError(f"{self._path.name}: tables {missing} are missing, got {sorted(constants)}")
        tables = {name: np.ascontiguousarray(constants[name]) for name in (*self._packed, *self._fed)}
        values = [ort.OrtValue.ortvalue_from_numpy(tables[name]) for name in self._packed]
        options = session_options(self._threads, spin=self._spin)
        if values:
            options.add_external_initializers(list(self._packed), values)
        session = open_session(self._path, options, mapped=False)
        self._session, self._bound = session, values
        self._tables = {name: tables[name] for name in self._fed}

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; see ``Engine.run``."""
        session = self._session
        if session is None:
            raise RuntimeError(f"{self._path.name}: closed, or its tables were never bound")
        symbols: dict[str, int] = {}
        feed = dict(self._tables)
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None:
                raise ValueError(f"{spec.name}: missing, got {sorted(inputs)}")
            spec.check(array, symbols)
            feed[spec.name] = array
        try:
            results = session.run(self._output_names, feed)
        except Exception as error:
            raise RuntimeError(f"{self._path.name}: {error}") from error
        return dict(zip(self._output_names, results, strict=True))

    def close(self) -> None:
        """Drop the session and its tables."""
        self._session = None
        self._bound = []
        self._tables = {}
