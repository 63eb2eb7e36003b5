"""What an engine costs where it serves: asked of a process of its own, so that the builder's memory is not in the figure.

Units: seconds, bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from build_engines.errors import BuildError
from build_engines.proof.records import Footprint
from build_engines.proof.served_process import Ask
from server.artifacts.manifest import Manifest

TIMEOUT_S = 600.0
MODULE = "build_engines.proof.served_process"


def measured(ask: Ask, *, timeout_s: float = TIMEOUT_S) -> Footprint:
    """Start the process, ask, and read what it found.

    Args:
        ask: what to hold and how to ask it.
        timeout_s: after this it is ended.

    Raises:
        BuildError: it ended without an answer; says its last words.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", MODULE],
            input=msgspec.json.encode(ask),
            capture_output=True,
            timeout=timeout_s,
            env=_environment(os.environ),
            cwd=Path(__file__).parents[2],
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"measuring {ask.folder}: no answer after {timeout_s:g} s; ask for fewer batches"
        ) from error
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no word"]
        raise BuildError(f"measuring {ask.folder}: the process ended with {done.returncode}: {last[0]}")
    return msgspec.json.decode(done.stdout, type=Footprint)


def ask_of_version(
    folder: Path,
    manifest: Manifest,
    *,
    batch_sizes: tuple[int, ...],
    rate_per_s: float | None = None,
    rate_seconds: float = 4.0,
    tokens: int = 32,
    seed: int = 0,
) -> Ask:
    """The question for a version that is laid out in a folder.

    Args:
        folder: of the version.
        manifest: of it.
        batch_sizes: requests, texts, or decode steps at once.
        rate_per_s: requests a second; None: not asked.
        rate_seconds: how long they come.
        tokens: of each text of an encoder; tokens that a text model's texts hold already.
        seed: of arrivals and tokens.
    """
    target = manifest.target("onnxruntime")
    light = manifest.target("onnxruntime", entry="light")
    limits = manifest.limits
    return Ask(
        task=manifest.task,
        folder=str(folder),
        graph=target.file if target is not None else manifest.graph,
        light=light.file if light is not None else None,
        manifest=manifest if manifest.task == "recommendation" else None,
        batch_sizes=tuple(size for size in batch_sizes if size <= limits.get("max_batch", size)),
        tokens=min(
            tokens, limits.get("max_tokens", tokens), max(1, limits.get("max_context", tokens + 64) - 64)
        ),
        vocab_size=limits.get("vocab_size", 0),
        max_chunk=limits.get("max_chunk", 64),
        rate_per_s=rate_per_s,
        rate_seconds=rate_seconds,
        seed=seed,
        disk_bytes=served_bytes(manifest),
    )


def served_bytes(manifest: Manifest) -> int:
    """What one server holds of a version: its engine for the CPU and its tables, not plans for other machines and reports."""
    held = {target.file for target in manifest.targets if target.kind == "onnxruntime"}
    held |= {constant.file for constant in manifest.constants}
    for name in tuple(held):  # weights beside a graph
        held |= {f"{name}.data", str(PurePosixPath(name).with_suffix(".weights"))}
    return sum(entry.size_bytes for entry in manifest.files if entry.path in held)


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    return {**inherited, "OMP_NUM_THREADS": inherited.get("OMP_NUM_THREADS", "1")}
