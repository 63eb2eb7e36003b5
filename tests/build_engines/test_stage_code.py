"""A stage's cache key knows every module that its result is made with."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from build_engines import pipeline
from build_engines.encoder import line as encoder_line
from build_engines.own_model import line as own_line
from build_engines.rerank import line as rerank_line
from build_engines.text import line

ROOT = Path(__file__).parents[2]
ENTRY = {
    "load": "build_engines.load",
    "train": "build_engines.train",
    "quantize": "build_engines.graph_stages",
    "export": "build_engines.graph_stages",
    "compile": "build_engines.graph_stages",
    "verify": "build_engines.verify",
    "text-load": "build_engines.text.load",
    "finetune": "build_engines.text.finetune",
    "package": "build_engines.text.package",
    "text-verify": "build_engines.text.verify",
    "encoder-load": "build_engines.encoder.load",
    "intents": "build_engines.intents.train",
    "encoder-package": "build_engines.encoder.package",
    "encoder-verify": "build_engines.encoder.verify",
    "own-load": "build_engines.own_model.load",
    "own-quantize": "build_engines.own_model.quantize_stage",
    "own-compile": "build_engines.own_model.compile",
    "own-verify": "build_engines.own_model.verify",
    "rerank-candidates": "build_engines.rerank.candidates",
    "rerank-train": "build_engines.rerank.train",
    "rerank-quantize": "build_engines.own_model.quantize_stage",
    "rerank-compile": "build_engines.own_model.compile",
    "rerank-verify": "build_engines.rerank.verify",
}
# The frame that stages hang in: what they say, and what shape records have. The values that a recipe part holds are in
# the key themselves.
FRAME = {
    "build_engines.compression.records",
    "build_engines.compression.step_records",
    *(
        f"build_engines.{name}"
        for name in ("errors", "progress", "records", "recipe_parts", "stage", "stage_parts")
    ),
    *(f"build_engines.{name}" for name in ("states", "fingerprint", "hardware")),
    *(f"server.artifacts.{name}" for name in ("errors", "manifest", "repository", "schema", "signatures")),
    *(f"build_engines.text.{name}" for name in ("records", "recipe_parts", "states", "tuning_parts")),
    *(f"build_engines.encoder.{name}" for name in ("records", "recipe_parts", "states")),
    *(f"build_engines.own_model.{name}" for name in ("records", "recipe_parts", "states", "metric_names")),
    *(f"build_engines.rerank.{name}" for name in ("records", "recipe_parts", "states", "shape")),
    "build_engines.models.causal.options",
    "build_engines.compression.calibrator_names",
    "build_engines.compression.mixed_parts",
    *(f"build_engines.proof.{name}" for name in ("records", "fairness_part")),
    *(f"server.{name}" for name in ("domain", "tensor_domain", "text_domain", "text_generator", "errors")),
}
CODEC = {
    f"server.encoding.{name}"
    for name in ("text", "token_bytes", "tokenizer_files", "chat_template", "template_sandbox", "surrogates")
}
# Readers of raw logs and item files: later stages import them for their types, and read what ``load`` made of the files.
RAW = {
    f"build_engines.data.{name}"
    for name in (
        "bad_rows", "errors", "item_records", "items", "log_report", "log_rows", "sample_catalogue", "sample_clicks",
        "sample_shop", "sample_taxonomy", "sample_text_en", "sample_text_zh", "timestamps",
    )
}  # fmt: skip
TRAINING = {
    "build_engines.evaluation.metrics",
    *(f"build_engines.models.{n}" for n in ("mix", "popularity", "transitions")),
}
SPLIT = {f"build_engines.data.{name}" for name in ("interactions", "sequences", "splits")}
COMPILING = {
    "build_engines.compile",
    "build_engines.targets.onnxruntime_cpu",
    "build_engines.targets.sparse_matmuls",
    "build_engines.targets.tensorrt_plan",
    "build_engines.targets.shared_constants",
}
ANSWERS = {"server.copy_domain", "server.support_domain"}
# How a small encoder learns: what it became is in the files of ``encoder-load``, which later stages depend on.
LEARNING = {
    "build_engines.encoder.small",
    "build_engines.encoder.small_texts",
    "build_engines.models.bfloat16",
    "build_engines.tuning_loop",
    *(
        f"build_engines.tuning_loop.{n}"
        for n in ("crew", "learner", "loop", "options", "plan", "precision", "state", "stops")
    ),
}
TEACHING = {
    f"build_engines.intents.{n}" for n in ("examples", "linear_parts", "recipe_parts", "sources", "split")
}
# What a process that holds an engine knows of the other families.
OTHER_ENGINES = {
    f"server.{name}"
    for name in (
        "batching.cost", "batching.policy", "pipelines.explain", "pipelines.fallback", "pipelines.loading",
        "pipelines.recommend",
    )
}  # fmt: skip
# Imported by a module that the stage shares with others, or for a type; not used for its result.
ONLY_IMPORTED: dict[str, set[str]] = {
    "load": TRAINING,
    "train": RAW | {"build_engines.evaluation.metrics"},
    "quantize": RAW | COMPILING | {"build_engines.evaluation.metrics"},
    "export": RAW | COMPILING | SPLIT | {"build_engines.evaluation.metrics", "build_engines.proof.leak"},
    "compile": RAW
    | SPLIT
    | TRAINING
    | {f"build_engines.{n}" for n in ("shop_files", "trained_files", "proof.leak")},
    "verify": RAW,
    # Recipe parts and records are typed by the recommender's; pairs are tokens by then.
    "text-load": TRAINING,
    "finetune": RAW | SPLIT | TRAINING | CODEC,
    "package": RAW | SPLIT | TRAINING,
    "text-verify": RAW | SPLIT | TRAINING | OTHER_ENGINES,
    # Recipe parts are typed by the recommender's, pages and questions by what the server answers with.
    "encoder-load": TRAINING | {"server.copy_domain"},
    "intents": TRAINING | {"server.copy_domain"},
    "encoder-package": TRAINING | ANSWERS | LEARNING | TEACHING | {"build_engines.intents.records"},
    "encoder-verify": TRAINING | ANSWERS | LEARNING | OTHER_ENGINES,
    # Recipe parts and records are typed by the recommender's.
    "own-load": RAW | SPLIT | TRAINING,
    "own-quantize": RAW | SPLIT | TRAINING,
    "own-compile": RAW | SPLIT | TRAINING | {"server.encoding.packed_tables", "server.encoding.tables"},
    "own-verify": RAW | SPLIT | TRAINING,
    "rerank-candidates": TRAINING,
    "rerank-train": TRAINING,
    "rerank-quantize": RAW | SPLIT | TRAINING,
    "rerank-compile": RAW | SPLIT | TRAINING | {"server.encoding.packed_tables", "server.encoding.tables"},
    "rerank-verify": TRAINING,
}
STAGES: list[Any] = [
    pipeline.LOAD,
    pipeline.TRAIN,
    pipeline.QUANTIZE,
    pipeline.EXPORT,
    pipeline.COMPILE,
    pipeline.VERIFY,
    line.LOAD,
    line.FINETUNE,
    line.PACKAGE,
    line.VERIFY,
    encoder_line.LOAD,
    encoder_line.INTENTS,
    encoder_line.PACKAGE,
    encoder_line.VERIFY,
    own_line.LOAD,
    own_line.QUANTIZE,
    own_line.COMPILE,
    own_line.VERIFY,
    rerank_line.CANDIDATES,
    rerank_line.TRAIN,
    rerank_line.QUANTIZE,
    rerank_line.COMPILE,
    rerank_line.VERIFY,
]


def source(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.exists()), None)


def imported(module: str) -> set[str]:
    path = source(module)
    assert path is not None
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.update(
                f"{base}.{alias.name}" if source(f"{base}.{alias.name}") else base for alias in node.names
            )
    return {name for name in names if name.startswith(("build_engines", "server")) and source(name)}


def closure(module: str) -> set[str]:
    seen, todo = set[str](), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(imported(name))
    return seen


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: str(stage.name))
def test_a_change_of_code_makes_every_result_stale_that_it_made(stage: Any) -> None:
    """Each module that a stage reaches by imports is in its list, or is named here with the reason why not."""
    reached = closure(ENTRY[stage.name])
    covered = {
        name for name in reached if any(name == one or name.startswith(f"{one}.") for one in stage.code)
    }

    assert not reached - covered - FRAME - ONLY_IMPORTED[stage.name]
    assert not (ONLY_IMPORTED[stage.name] - reached), "an exception that nothing needs any more"
