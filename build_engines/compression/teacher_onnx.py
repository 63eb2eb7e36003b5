"""A teacher that is an ONNX file: a graph of somebody else's, or an engine of ours, asked once for every example.

The graph's inputs are filled by name from what the student's network gets (``GivesInputs``). Of its outputs, one ``[B, E]``
named like an embedding, or scores ``[B, C]`` or ``[B, T, C]`` named like logits, are what a student can learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from build_engines.compression.model import Compressible, Traces
from build_engines.compression.teacher_cache import AnswerCache, Arrays
from build_engines.errors import BuildError

EMBEDDINGS = ("embedding", "embeddings", "sentence_embedding", "vectors", "vector")
LOGITS = ("logits", "scores")
HIDDEN = ("last_hidden_state", "hidden")


@runtime_checkable
class GivesInputs(Protocol):
    """A ``Compressible`` that says what its network gets."""

    def inputs(self, example: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """Arrays of one example by the names that graphs use, each ``[T]`` or a single number: ``input_ids``, ``lengths``."""


class OnnxTeacher:
    """See the module docstring.

    Args:
        path: of the graph.
        student: whose examples it is asked about.
        cache: file of its answers.

    Raises:
        BuildError: the file is no graph, asks for something that nobody has, or says nothing to learn from.
    """

    blocks = 0

    def __init__(self, path: Path, student: Compressible, cache: Path) -> None:
        self.path, self.student, self._kept = path, student, cache
        if not isinstance(student, GivesInputs):
            raise BuildError(
                f"distil: teacher {path}: a {student.family} gives a graph no inputs; name a folder"
            )
        self._inputs = student.inputs
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has an exception for each of its reasons
            raise BuildError(f"distil: teacher {path}: cannot be loaded ({error})") from error
        self._wanted = [one.name for one in self._session.get_inputs()]
        names = [one.name for one in self._session.get_outputs()]
        self._outputs = {
            kind: next((name for name in known if name in names), None)
            for kind, known in (("embedding", EMBEDDINGS), ("logits", LOGITS), ("hidden", HIDDEN))
        }
        if not any(self._outputs.values()):
            known = ", ".join((*EMBEDDINGS, *LOGITS, *HIDDEN))
            raise BuildError(
                f"distil: teacher {path}: outputs are {', '.join(names)}; one must be of {known}"
            )
        self.identity = hashlib.sha256(path.read_bytes()).hexdigest()
        self._cache = AnswerCache(cache, self.identity)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens file and cache itself."""
        return OnnxTeacher, (self.path, self.student, self._kept)

    def traces(self, batch: Sequence[int]) -> Traces:
        """What the graph says of each example; no hidden states of blocks and no relations."""
        given = {example: self._inputs(example) for example in dict.fromkeys(batch)}
        digests = {example: _digest(arrays) for example, arrays in given.items()}
        known = dict(zip(given, self._cache.get([digests[one] for one in given]), strict=True))
        missing = [example for example, found in known.items() if found is None]
        if missing:
            asked = {example: self._ask(given[example]) for example in missing}
            self._cache.put({digests[example]: arrays for example, arrays in asked.items()})
            known |= asked
        answers = [known[example] for example in batch]
        return _together([one for one in answers if one is not None])

    def _ask(self, given: Mapping[str, npt.NDArray[np.int64]]) -> Arrays:
        feed = {name: self._filled(name, given) for name in self._wanted}
        names = {kind: name for kind, name in self._outputs.items() if name is not None}
        try:
            found = self._session.run(list(names.values()), feed)
        except Exception as error:
            raise BuildError(f"distil: teacher {self.path}: refuses an example ({error})") from error
        return dict(zip(names, (np.asarray(one) for one in found), strict=True))

    def _filled(self, name: str, given: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[Any]:
        length = max((one.shape[-1] for one in given.values() if one.ndim), default=1)
        kind = next(one.type for one in self._session.get_inputs() if one.name == name)
        dtype = np.int32 if kind == "tensor(int32)" else np.int64
        if name in given:
            return np.asarray(given[name])[None].astype(dtype)
        if name == "attention_mask":
            return np.ones((1, length), dtype)
        if name in ("token_type_ids", "position_ids"):
            return (np.zeros(length) if name == "token_type_ids" else np.arange(length))[None].astype(dtype)
        raise BuildError(
            f"distil: teacher {self.path}: wants {name!r}; known here are {', '.join(sorted(given))}, attention_mask"
        )


def _digest(arrays: Mapping[str, npt.NDArray[np.int64]]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(
            name.encode() + repr(arrays[name].shape).encode() + np.ascontiguousarray(arrays[name]).tobytes()
        )
    return digest.digest()


def _together(answers: Sequence[Arrays]) -> Traces:
    first = answers[0]
    embedding = logits = None
    if "embedding" in first:
        embedding = torch.from_numpy(np.concatenate([one["embedding"] for one in answers]).astype(np.float32))
    if "logits" in first:  # [1, C] an example, or [1, T, C]: rows in the order of the examples
        rows = [one["logits"].reshape(-1, one["logits"].shape[-1]) for one in answers]
        logits = torch.from_numpy(np.concatenate(rows).astype(np.float32))
    lengths = [one["hidden"].shape[1] if "hidden" in one else 1 for one in answers]
    visible = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    hidden: tuple[torch.Tensor, ...] = ()
    if "hidden" in first:
        padded = np.zeros((len(answers), max(lengths), first["hidden"].shape[-1]), np.float32)
        for row, one in enumerate(answers):
            padded[row, : lengths[row]] = one["hidden"][0]
        hidden = (torch.from_numpy(padded),)
    return Traces(
        logits_PC=logits, embedding_BE=embedding, hidden_BTD=hidden, relations={}, visible_BT=visible
    )
