"""Stage 3 of somebody's own model: the graph as each target wants it, and what ONNX Runtime made of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from build_engines.compile import TargetSpec
from build_engines.errors import BuildError, TargetError
from build_engines.own_model.declared import BATCH
from build_engines.own_model.graph_facts import nodes_of, write_graph
from build_engines.own_model.quantize import tables_for_plans
from build_engines.own_model.recipe_parts import OwnCompilePart, ServePart
from build_engines.own_model.records import OwnCompileRecord
from build_engines.own_model.states import CANDIDATE, GRAPH_FILE, PARENT, OwnQuantized
from build_engines.stage import Work
from build_engines.targets import onnxruntime_cpu, tensorrt_plan
from build_engines.targets.tensorrt_plan import PlanRefused, Range, TensorRTUnavailable
from server.artifacts.manifest import Target, TensorInfo

FUSED = (
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QLinearMatMul",
    "QGemm",
    "QLinearConv",
    "QAttention",
)
ENGINE_FILE = "model.onnx"  # what ONNX Runtime reads, in each folder
SOURCE_FILE = "source.onnx"  # what plans were built from, where that is another graph


def run(quantized: OwnQuantized, part: OwnCompilePart, work: Work) -> OwnCompileRecord:
    """Package the candidate for every target, and its parent for the one that the gate measures on.

    Raises:
        TargetError: a target cannot be built here and may not be skipped.
    """
    precision = quantized.record.precision
    shown = quantized.source.graph.precision if precision == "fp32" else precision
    source = onnx.load(str(quantized.graph_file))
    folder = work.folder / CANDIDATE
    folder.mkdir()
    fused = _package(source, folder / ENGINE_FILE)
    notes = _fused_notes(quantized, fused)
    targets = [_onnxruntime(shown)]
    specs = [TargetSpec.parse(text) for text in part.compile.targets]
    plans = [spec for spec in specs if spec.kind != "onnxruntime"]
    for_plans = onnx.ModelProto()
    for_plans.CopyFrom(source)
    if quantized.record.tables:
        tables_for_plans(for_plans)
    for spec in plans:
        for capability in spec.capabilities or (None,):
            try:
                targets.append(_plan(folder, for_plans, quantized, part.serve, spec.kind, capability, shown))
                work.progress.say(f"  {spec.kind} {capability or 'this GPU'}: {targets[-1].file}")
            except TargetError as error:
                if not part.compile.skip_missing:
                    raise
                notes.append(f"skipped: {error}")
    if len(targets) > 1:
        write_graph(folder / SOURCE_FILE, for_plans)
    parent = None
    sizes = {CANDIDATE: (folder / ENGINE_FILE).stat().st_size}
    if quantized.compressed:
        (work.folder / PARENT).mkdir()
        parent_model = onnx.load(str(quantized.source.output.folder / GRAPH_FILE))
        _package(parent_model, work.folder / PARENT / ENGINE_FILE)
        parent = _onnxruntime(quantized.source.graph.precision)
        sizes[PARENT] = (work.folder / PARENT / ENGINE_FILE).stat().st_size
    for note in notes:
        work.progress.say(f"  {note}")
    return OwnCompileRecord(
        targets=tuple(targets), parent=parent, fused=fused, sizes_bytes=sizes, notes=tuple(notes)
    )


def profile(inputs: tuple[TensorInfo, ...], serve: ServePart) -> dict[str, Range]:
    """The shapes that a TensorRT engine must take: any batch and size within the limits."""
    most = {BATCH: serve.max_batch, **serve.dims}

    def shape(one: TensorInfo, pick: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(dim if isinstance(dim, int) else pick[dim] for dim in one.shape)

    least = dict.fromkeys(most, 1)
    usual = {**most, BATCH: min(8, serve.max_batch)}
    return {
        one.name: Range(low=shape(one, least), usual=shape(one, usual), high=shape(one, most))
        for one in inputs
    }


def _package(source: onnx.ModelProto, file: Path) -> dict[str, int]:
    model = onnx.ModelProto()
    model.CopyFrom(source)
    if _symmetric(model):
        onnxruntime_cpu.shift_zero_points(model.graph)
    write_graph(file, model)
    return _kernels(file)


def _symmetric(model: onnx.ModelProto) -> bool:
    """Whether rounding is our own: s8 around zero. What a source brought along itself stays as it is."""
    zeros = {
        node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2
    }
    return zeros == {"activation_zero_s8"}


def _kernels(file: Path) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 4
        try:
            ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common base for its errors
            raise BuildError(
                f"ONNX Runtime {ort.__version__} refuses the packaged graph: {str(error).splitlines()[0][:400]}"
            ) from error
        graph = onnx.load(str(optimized), load_external_data=False).graph
        return {
            kind: count
            for kind, count in Counter(node.op_type for node in nodes_of(graph)).items()
            if kind in FUSED
        }


def _fused_notes(quantized: OwnQuantized, fused: Mapping[str, int]) -> list[str]:
    wanted = len(quantized.record.products)
    have = sum(fused.values())
    if not wanted or have >= wanted:
        return []
    return [
        f"ONNX Runtime fused {have} of {wanted} INT8 products; the others are restored to float in every run and gain nothing"
    ]


def _onnxruntime(precision: str) -> Target:
    return Target(
        kind="onnxruntime",
        file=ENGINE_FILE,
        precision=precision,
        built_with={"onnxruntime": ort.__version__},
    )


def _plan(
    folder: Path,
    source: onnx.ModelProto,
    quantized: OwnQuantized,
    serve: ServePart,
    kind: str,
    capability: str | None,
    precision: str,
) -> Target:
    attention = sum(node.op_type == "Attention" for node in source.graph.node)
    try:
        plan = tensorrt_plan.build_plan(
            kind,
            source.SerializeToString(),
            profile(quantized.source.graph.inputs, serve),
            attention=attention,
            capability=capability,
        )
        built_with = tensorrt_plan.versions(kind)
        capability = capability or tensorrt_plan.this_gpu()
    except TensorRTUnavailable as error:
        raise TargetError(f"target {kind}: {error}") from error
    except PlanRefused as error:
        raise TargetError(f"target {kind} ({capability or 'this GPU'}): {error}") from error
    file = f"{kind}/{precision}.{capability}.plan"
    (folder / kind).mkdir(exist_ok=True)
    (folder / file).write_bytes(plan)
    return Target(
        kind=kind,
        file=file,
        precision=precision,
        capability=capability,
        built_with=built_with,
        built_from=SOURCE_FILE,
    )
