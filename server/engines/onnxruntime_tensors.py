"""A model of named tensors in ONNX Runtime on the CPU; see ``TensorEngine`` for the rules.

The graph is opened by its path and not by its bytes, so that weights beside it (external data) are found and mapped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from server.engines.base import Arrays, TensorSpec
from server.engines.onnxruntime_session import open_session, session_options
from server.engines.tensors import check_tensors

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}


class OnnxRuntimeTensors:
    """One graph in one session.

    Args:
        path: the packaged graph; its weights inside, or beside it.
        inputs: as the manifest declares them.
        outputs: as the manifest declares them.
        max_batch: most rows of one run.
        max_dims: largest size of each other bounded symbol.
        threads: intra-op threads (>= 1); they do not spin between runs.

    Raises:
        ValueError: a number is out of range, or the declaration is not the graph's; names the tensor.
        RuntimeError: the runtime refuses the graph; names the file.
    """

    kind = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        max_batch: int,
        max_dims: dict[str, int] | None = None,
        threads: int = 1,
    ) -> None:
        if threads < 1 or max_batch < 1:
            raise ValueError(f"threads = {threads} and max_batch = {max_batch} must be >= 1")
        session = open_session(path, session_options(threads))
        _hold_against(path, "input", inputs, session.get_inputs())
        _hold_against(path, "output", outputs, session.get_outputs())
        self.inputs = inputs
        self.outputs = outputs
        self.max_batch = max_batch
        self.max_dims = dict(max_dims or {})
        self._path = path
        self._names = [spec.name for spec in outputs]
        self._session: ort.InferenceSession | None = session

    def check(self, inputs: Arrays) -> int:
        """Hold arrays against the declaration; see ``TensorEngine.check``."""
        return check_tensors(self.inputs, inputs, max_batch=self.max_batch, max_dims=self.max_dims)

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; see ``TensorEngine.run``."""
        session = self._session
        if session is None:
            raise RuntimeError(f"{self._path.name}: closed")
        self.check(inputs)
        try:
            results = session.run(self._names, {name: np.ascontiguousarray(a) for name, a in inputs.items()})
        except Exception as error:
            raise RuntimeError(f"{self._path.name}: {error}") from error
        return dict(zip(self._names, results, strict=True))

    def close(self) -> None:
        """Drop the session and its weights."""
        self._session = None


def _hold_against(path: Path, what: str, declared: tuple[TensorSpec, ...], found: list[Any]) -> None:
    have = {value.name: value for value in found}
    wanted = {spec.name for spec in declared}
    missing = wanted - have.keys() if what == "output" else wanted ^ have.keys()
    if missing:
        raise ValueError(f"{path.name}: {what}s are {sorted(have)}, declared are {sorted(wanted)}")
    for spec in declared:
        value = have[spec.name]
        dtype = _DTYPES.get(value.type, value.type)
        if dtype != spec.dtype:
            raise ValueError(f"{path.name}: {what} {spec.name} is {dtype}, declared is {spec.dtype}")
        fixed = [
            (one, two)
            for one, two in zip(value.shape, spec.shape, strict=False)
            if isinstance(one, int) and isinstance(two, int) and one != two
        ]
        if len(value.shape) != len(spec.shape) or fixed:
            raise ValueError(
                f"{path.name}: {what} {spec.name} has shape {value.shape}, declared is {spec.shape}"
            )
