"""The one door of this room: a checkpoint folder in, a served folder (graph and weights) or a TensorRT plan out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build_engines.errors import BuildError
from build_engines.models.causal.options import Ids, TextOptions
from server.artifacts.manifest import TensorInfo

GRAPH_FILE = "model.onnx"
CHECKPOINT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPackage:
    """What ``package_text`` wrote.

    Attributes:
        graph: path of the graph inside the folder.
        files: size in bytes by path inside the folder, graph and weights.
        inputs, outputs: tensors of the graph, as the manifest lists them.
        limits: "max_context", "vocab_size", "max_chunk".
        precision: of the matrices, for the manifest's target.
        kernels: node counts by operator after the runtime's own optimization.
        eos_ids: tokens that end a text.
    """

    graph: str
    files: dict[str, int]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    limits: dict[str, int]
    precision: str
    kernels: dict[str, int]
    eos_ids: tuple[int, ...]


def package_text(
    checkpoint: Path, folder: Path, *, options: TextOptions, calibration: Sequence[Ids] = ()
) -> TextPackage:
    """Write ``model.onnx`` and its weights for ONNX Runtime, and check the kernels it loads with.

    Args:
        checkpoint: a folder in Hugging Face form (config.json, safetensors).
        folder: where to write; made if missing. Tokenizer and configuration files are the caller's to copy
            (``CHECKPOINT_FILES``).
        options: what to write.
        calibration: batches of token ids ``[B, T]`` (int64, no padding) that the gate never sees; "int8" and ``awq``
            need at least one.

    Raises:
        BuildError: the checkpoint is broken or not supported (names file, tensor or field), or the runtime fell back.
    """
    raise BuildError("not written yet")


def compile_plan(
    checkpoint: Path,
    *,
    kind: str,
    capability: str | None,
    options: TextOptions,
    max_batch: int,
    calibration: Sequence[Ids] = (),
) -> bytes:
    """Build a TensorRT plan of the same graph, its KV length fixed at ``options.max_context``.

    Args:
        kind: "tensorrt_rtx" or "tensorrt".
        capability: as ``build_plan`` takes it.
        max_batch: largest batch of the profile.

    Raises:
        BuildError: as ``package_text``.
        TargetError: the target's libraries are missing or it refuses the graph.
    """
    raise BuildError("not written yet")
