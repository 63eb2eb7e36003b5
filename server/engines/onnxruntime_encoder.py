"""A sentence encoder in ONNX Runtime on the CPU; see ``EncoderEngine`` for the rules.

Few threads on purpose: a short question is some hundred microseconds of work in each product, and more threads than one
meet at every one of them. The other core parses, tokenizes and answers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from server.engines.encoder import EncoderOutput, Ids
from server.engines.onnxruntime_session import open_session, session_options

INPUT_IDS, LENGTHS, EMBEDDING, LOGITS = "input_ids", "lengths", "embedding", "logits"


class OnnxRuntimeEncoder:
    """One graph in one session.

    Args:
        path: the packaged graph ("model.onnx"; its weights inside, or beside it).
        threads: intra-op threads (>= 1); they do not spin between runs.

    Raises:
        ValueError: the thread count is out of range.
        RuntimeError: the runtime refuses the graph, or it is no encoder; names the file.
    """

    kind = "onnxruntime"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads = {threads}, must be >= 1")
        session = open_session(path, session_options(threads))
        inputs = {value.name for value in session.get_inputs()}
        outputs = {value.name: value.shape for value in session.get_outputs()}
        if inputs != {INPUT_IDS, LENGTHS} or EMBEDDING not in outputs:
            raise RuntimeError(
                f"{path}: is no sentence encoder: inputs {sorted(inputs)}, outputs {sorted(outputs)}"
            )
        self._path = path
        self._session: ort.InferenceSession | None = session
        self._names = [EMBEDDING, LOGITS] if LOGITS in outputs else [EMBEDDING]
        self.dim = _width(path, EMBEDDING, outputs[EMBEDDING])
        self.intents = _width(path, LOGITS, outputs[LOGITS]) if LOGITS in outputs else 0

    def run(self, input_ids_BT: Ids, lengths_B: Ids) -> EncoderOutput:
        """Encode one batch; see ``EncoderEngine.run``."""
        session = self._session
        if session is None:
            raise RuntimeError(f"{self._path.name}: closed")
        batch, longest = input_ids_BT.shape
        if lengths_B.shape != (batch,) or not batch or lengths_B.min() < 1 or lengths_B.max() > longest:
            raise ValueError(f"lengths {lengths_B.tolist()[:8]} do not fit ids of shape {input_ids_BT.shape}")
        try:
            results = session.run(self._names, {INPUT_IDS: input_ids_BT, LENGTHS: lengths_B})
        except Exception as error:
            raise RuntimeError(f"{self._path.name}: {error}") from error
        return EncoderOutput(results[0], results[1] if self.intents else None)

    def close(self) -> None:
        """Drop the session and its weights."""
        self._session = None


def _width(path: Path, name: str, shape: list[object]) -> int:
    width = shape[-1] if len(shape) == 2 else None
    if not isinstance(width, int):
        raise RuntimeError(f"{path}: output {name} has shape {shape}, must be a number wide")
    return width


def padded(texts: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> tuple[Ids, Ids]:
    """Ids of texts, padded on the right to the longest, and their lengths."""
    lengths_B = np.fromiter(map(len, texts), np.int64, len(texts))
    input_ids_BT = np.zeros((len(texts), int(lengths_B.max())), np.int64)
    for row, ids in enumerate(texts):
        input_ids_BT[row, : len(ids)] = ids
    return input_ids_BT, lengths_B
