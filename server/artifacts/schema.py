"""Manifest bytes to a checked ``Manifest`` and back; every refusal is a sentence that names the place.

Decoding finds what is malformed, ``manifest_problems`` what is inconsistent: a path that leaves the folder, a
target whose file is not listed, evidence that failed without a flag that says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from server.artifacts.errors import ArtifactError, CorruptFile, NewerSchema
from server.artifacts.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest

# A task that is missing here has no limits of its own to keep: it can be listed, and whoever serves it checks
# them.
REQUIRED_LIMITS = {
    "recommendation": ("max_batch", "max_history", "max_k", "max_exclude"),
    "text_generation": ("max_context", "vocab_size", "max_chunk"),
    "sentence_encoding": ("max_tokens", "vocab_size", "dim"),
    "tensor_inference": ("max_batch",),
    "reranking": ("max_batch", "max_candidates", "max_history"),
}

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Peek(msgspec.Struct):
    schema_version: int


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``: indented, so that people and ``diff`` can read it."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes, where: Path | str = MANIFEST_FILE) -> Manifest:
    """Read a manifest and check that it holds together.

    Args:
        data: bytes of ``manifest.json``.
        where: the file, for messages.

    Raises:
        NewerSchema: written by a newer builder.
        CorruptFile: not JSON, cut short, a wrong type, or an unknown key (named with its path).
        ArtifactError: inconsistent; lists what.
    """
    try:
        found = msgspec.json.decode(data, type=_Peek).schema_version
        if found > SCHEMA_VERSION:
            raise NewerSchema(where, found, SCHEMA_VERSION)
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise CorruptFile(where, f"not a manifest of schema {SCHEMA_VERSION} ({error})") from error
    except UnicodeDecodeError as error:
        raise CorruptFile(where, f"not UTF-8 ({error.reason} at byte {error.start})") from error
    problems = manifest_problems(manifest)
    if problems:
        raise ArtifactError(f"{where}: {'; '.join(problems)}; publish the version again")
    return manifest


def check_model_name(name: str) -> str:
    """Return ``name`` if it is fit to be a folder name.

    Raises:
        ArtifactError: it is not.
    """
    if not _MODEL_NAME.fullmatch(name):
        raise ArtifactError(
            f"model name {name!r}: use up to 100 letters, digits, '.', '_', '-', a letter or digit first"
        )
    return name


def manifest_problems(manifest: Manifest) -> list[str]:
    """What does not hold together in a manifest, one sentence each; empty when all does."""
    return [
        *_identity(manifest),
        *_files(manifest),
        *_tensors(manifest),
        *_limits(manifest),
        *_targets(manifest),
        *_evidence(manifest),
    ]


def _identity(manifest: Manifest) -> Iterator[str]:
    if manifest.schema_version < 1:
        yield f"schema_version is {manifest.schema_version}, must be at least 1"
    if not _MODEL_NAME.fullmatch(manifest.model):
        yield f"model name {manifest.model!r} is not fit for a folder"
    if not manifest.version.isascii() or not manifest.version.isdecimal():
        yield f"version {manifest.version!r} is not a number"
    if not manifest.task:
        yield "task is empty"


def _files(manifest: Manifest) -> Iterator[str]:
    seen: set[str] = set()
    for entry in manifest.files:
        path = PurePosixPath(entry.path)
        plain = str(path) == entry.path and entry.path != "." and "\\" not in entry.path
        if path.is_absolute() or ".." in path.parts or not plain:
            yield f"file {entry.path!r} is not a plain path inside the version"
        if entry.path == MANIFEST_FILE:
            yield "the manifest lists itself"
        if entry.path in seen:
            yield f"file {entry.path!r} is listed twice"
        seen.add(entry.path)
        if not _SHA256.fullmatch(entry.sha256):
            yield f"file {entry.path!r}: sha256 {entry.sha256!r} is not 64 hex digits"
        if entry.size_bytes < 0:
            yield f"file {entry.path!r}: size is {entry.size_bytes} bytes"
    if manifest.graph not in seen:
        yield f"graph {manifest.graph!r} is not among the files"


def _tensors(manifest: Manifest) -> Iterator[str]:
    listed = {entry.path for entry in manifest.files}
    names: set[str] = set()
    for tensor in (*manifest.inputs, *manifest.outputs):
        yield from _dtype(tensor.name, tensor.dtype)
        if tensor.name in names:
            yield f"tensor {tensor.name!r} is listed twice"
        names.add(tensor.name)
    for constant in manifest.constants:
        yield from _dtype(constant.tensor, constant.dtype)
        if constant.tensor in names:
            yield f"tensor {constant.tensor!r} is listed twice"
        names.add(constant.tensor)
        if constant.file not in listed:
            yield f"constant {constant.tensor!r}: {constant.file!r} is not among the files"
    if not manifest.inputs or not manifest.outputs:
        yield "the graph has no inputs or no outputs"


def _dtype(name: str, dtype: str) -> Iterator[str]:
    try:
        np.dtype(dtype)
    except TypeError:
        yield f"tensor {name!r}: dtype {dtype!r} is unknown"


def _limits(manifest: Manifest) -> Iterator[str]:
    for name in REQUIRED_LIMITS.get(manifest.task, ()):
        if name not in manifest.limits:
            yield f"limit {name!r} is missing for task {manifest.task!r}"
    for name, limit in manifest.limits.items():
        if limit < 0 or (limit == 0 and name != "max_exclude"):
            yield f"limit {name!r} is {limit}"


def _targets(manifest: Manifest) -> Iterator[str]:
    listed = {entry.path for entry in manifest.files}
    if not manifest.targets:
        yield "no targets: nothing was compiled"
    for target in manifest.targets:
        if target.file not in listed:
            yield f"target {target.kind}: {target.file!r} is not among the files"
        if target.kind.startswith("tensorrt") and target.capability is None:
            yield f"target {target.kind} {target.file!r} does not say its GPU (capability)"
        cost = target.cost
        if cost is not None and not (_is_time(cost.base_s) and _is_time(cost.per_item_s)):
            yield f"target {target.kind}: cost {cost.base_s} + {cost.per_item_s} * n is not a time"
        if target.proven == "gated" and cost is None:
            yield f"target {target.kind}: gated, but without a measured cost"


def _is_time(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _evidence(manifest: Manifest) -> Iterator[str]:
    if not manifest.evidence:
        yield "no evidence: nothing was measured"
    for item in manifest.evidence:
        if not item.holds(manifest.flags):
            yield f"evidence failed: {item.sentence()}"
