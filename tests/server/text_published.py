"""A published text version of a few thousand random weights: real tokenizer, graph, engine and golden texts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import CHECKPOINT_FILES, package_text
from build_engines.version_files import with_files
from server.artifacts.golden import GOLDEN_FILE, write_golden
from server.artifacts.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest, Target, Tolerance
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.encoding.text import load_codec
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from server.pipelines.text_golden import record_golden
from tests.build_engines.tiny_text import save_tiny_checkpoint
from tests.server.artifact_cases import PASSED, make_manifest

MODEL = "tiny-writer"
CONTEXT = 512
TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE = (
    "{%- if tools %}Call a tool as <tool_call>{\"name\": ..., \"arguments\": ...}</tool_call>. Tools: {{ tools | tojson }}\n{% endif -%}"
    "{%- for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor -%}"
    "{%- if add_generation_prompt %}assistant:{% endif -%}"
)  # fmt: skip
PROMPTS = ("user: a blue mug\nassistant:", "x", "一个蓝色的杯子，" * 12, "a" * 90)


@dataclass(frozen=True, slots=True)
class TinyText:
    """A repository with one text version, and the folder it was published from."""

    repository: Path
    staging: Path
    opened: OpenedVersion


def publish_tiny_text(folder: Path, repository: Path) -> TinyText:
    """Make a checkpoint, package it, record its golden texts, publish it."""
    checkpoint = save_tiny_checkpoint(folder / "checkpoint").folder
    (checkpoint / TEMPLATE_FILE).write_text(TEMPLATE, encoding="utf-8")
    staging = folder / "staging"
    options = TextOptions(variant="fp32", max_context=CONTEXT, max_chunk=32)
    package = package_text(checkpoint, staging, options=options)
    for name in (*CHECKPOINT_FILES, TEMPLATE_FILE):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, staging / name)
    codec = load_codec(staging, max_vocab=package.limits["vocab_size"])
    engine = OnnxRuntimeCausal(staging / package.graph, pools={CONTEXT: 1}, threads=1, max_chunk=32)
    prompts = [codec.encode(text) for text in PROMPTS]
    write_golden(staging / GOLDEN_FILE, record_golden(engine, prompts, tokens=16, eos_ids=codec.eos_ids))
    engine.close()
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model=MODEL,
        version="0",
        task="text_generation",
        created_unix_s=0.0,
        graph=package.graph,
        files=(),
        inputs=package.inputs,
        outputs=package.outputs,
        constants=(),
        limits=package.limits,
        parameters={},
        targets=(Target(kind="onnxruntime", file=package.graph, precision=package.precisions[0]),),
        parity=Tolerance(score_abs=1e-2),
        evidence=(PASSED,),
        figures={},
        provenance=make_manifest(folder / "empty").provenance,
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))
    return TinyText(repository, staging, Releases(repository=repository).publish(staging, MODEL))


def change_manifest(staging: Path, **changes: object) -> None:
    """Change fields of a manifest on disk, files hashed anew."""
    path = staging / MANIFEST_FILE
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    changed = msgspec.structs.replace(with_files(manifest, staging), **changes)
    path.write_bytes(encode_manifest(changed))
