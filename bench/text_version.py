"""A published text version of half a billion random weights: what a speed is measured on when nothing may be downloaded.

The tokenizer has every token of the vocabulary as a word of its own, so that whatever the model chooses is text and is told at
once. The version is marked a demonstration and proves nothing but that its golden texts come back.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.text_engine import CHUNK, SHAPE, make_checkpoint
from build_engines.models.causal.options import TextOptions, Variant
from build_engines.models.causal.package import CHECKPOINT_FILES, LIGHT_FILE, package_text
from build_engines.version_files import with_files
from server.artifacts.golden import GOLDEN_FILE, write_golden
from server.artifacts.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Manifest,
    Measurement,
    Provenance,
    Target,
    Tolerance,
)
from server.artifacts.releases import Releases
from server.artifacts.schema import encode_manifest
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from server.pipelines.text_golden import record_golden
from server.text_domain import TEXT_TASK

MODEL = "random-text"
CONTEXT = 2048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EVIDENCE = Measurement(
    kind="parity",
    name="random weights, for measuring speed alone: nothing is claimed of its texts",
    value=0.0,
    unit="",
    limit=0.0,
    sense="at_most",
    verdict="pass",
    sample_size=1,
)


@dataclass(frozen=True)
class RandomVersion:
    """Where it is, and how long packaging took (0: it was there)."""

    repository: Path
    package_s: float


def publish_random(
    folder: Path,
    *,
    variant: str = "int8+int4",
    block: int = 128,
    threads: int = 2,
    shape: dict[str, Any] | None = None,
) -> RandomVersion:
    """Make the checkpoint, package it and publish it, unless that was done."""
    repository = folder / f"repository-{variant}-{block}"
    if (repository / MODEL / "CURRENT").exists():
        return RandomVersion(repository, 0.0)
    checkpoint = make_checkpoint(folder / "checkpoint", shape or SHAPE)
    save_tokenizer(checkpoint)
    vocab_size = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    staging = folder / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    began = time.perf_counter()
    options = TextOptions(variant=cast("Variant", variant), block=block, max_context=CONTEXT, max_chunk=CHUNK)
    calibration = [np.random.default_rng(seed).integers(0, vocab_size, (2, 128)) for seed in range(2)]
    package = package_text(checkpoint, staging, options=options, calibration=calibration)
    package_s = time.perf_counter() - began
    for name in CHECKPOINT_FILES:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, staging / name)
    light = staging / LIGHT_FILE if package.light else None
    engine = OnnxRuntimeCausal(
        staging / package.graph, pools={512: 1}, threads=threads, max_chunk=CHUNK, light=light
    )
    prompts = [np.random.default_rng(seed).integers(300, vocab_size, 16).tolist() for seed in range(4)]
    write_golden(staging / GOLDEN_FILE, record_golden(engine, prompts, tokens=8))
    engine.close()
    targets = [Target(kind="onnxruntime", file=package.graph, precision=package.precisions[0])]
    if package.light:
        targets.append(
            Target(kind="onnxruntime", file=package.light, precision=package.precisions[1], entry="light")
        )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model=MODEL,
        version="0",
        task=TEXT_TASK,
        created_unix_s=0.0,
        graph=package.graph,
        files=(),
        inputs=package.inputs,
        outputs=package.outputs,
        constants=(),
        limits=package.limits,
        parameters={},
        targets=tuple(targets),
        # Random logits lie close together: rounding may well turn the greedy token.
        parity=Tolerance(score_abs=0.25, min_overlap=0.5),
        evidence=(EVIDENCE,),
        figures={
            "parameters": float(sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")) // 2)
        },
        provenance=Provenance(recipe="bench.text_version", recipe_sha256=""),
        flags=("demonstration",),
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))
    Releases(repository=repository).publish(staging, MODEL)
    return RandomVersion(repository, package_s)


def save_tokenizer(checkpoint: Path) -> None:
    """Write tokenizer.json with a word for every token, and what names the ends of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab_size = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"w{at}" for at in range(len(names), vocab_size)]
    tokenizer = Tokenizer(models.BPE(vocab={name: at for at, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(said))
