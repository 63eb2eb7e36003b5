"""The one door of this room: a checkpoint folder in, a served folder (graph and weights) or a TensorRT plan out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from build_engines.errors import BuildError, TargetError
from build_engines.models.causal.architecture import Architecture, read_architecture
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.causal.graph import GraphForm, build_graph
from build_engines.models.causal.kernels import check_kernels
from build_engines.models.causal.layout import check_tensors
from build_engines.models.causal.matrices import Folding
from build_engines.models.causal.options import GRAPHS, Ids, Precision, TextOptions
from build_engines.models.causal.store import SUFFIX, WEIGHTS_FILE, WeightFile
from build_engines.onnx_writer import OPSET
from build_engines.targets.onnxruntime_cpu import shift_zero_points
from build_engines.targets.tensorrt_plan import PlanRefused, Range, TensorRTUnavailable, build_plan
from server.artifacts.manifest import TensorInfo
from server.engines.onnxruntime_causal import ATTENTION, GROUPED, MAX_CONTEXT

GRAPH_FILE, LIGHT_FILE = "model.onnx", "light.onnx"
TABLES = ("embedding", "rope.cosine", "rope.sine")  # what two graphs look up in one file
CHECKPOINT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
FUSED = {"MatMulNBits", "GroupQueryAttention"}
LARGEST_PROTO = 2_000_000_000  # bytes that a parser takes in one message


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPackage:
    """What ``package_text`` wrote.

    Attributes:
        graph: path of the graph inside the folder.
        light: path of the second graph; None: there is none.
        files: size in bytes by path inside the folder, graph and weights.
        inputs, outputs: tensors of the graph, as the manifest lists them.
        limits: "max_context", "vocab_size", "max_chunk".
        precisions: of the matrices of graph and light graph, for the manifest's targets.
        kernels: of the graph, node counts by operator after the runtime's own optimization.
        eos_ids: tokens that end a text.
    """

    graph: str
    light: str | None
    files: dict[str, int]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    limits: dict[str, int]
    precisions: tuple[Precision, ...]
    kernels: dict[str, int]
    eos_ids: tuple[int, ...]


def package_text(
    checkpoint: Path, folder: Path, *, options: TextOptions, calibration: Sequence[Ids] = ()
) -> TextPackage:
    """Write ``model.onnx``, and ``light.onnx`` where there are two graphs, with their weights for ONNX Runtime.

    The kernels that each loads with are checked.

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
    folder.mkdir(parents=True, exist_ok=True)
    arch = read_architecture(checkpoint)
    _check_options(checkpoint, arch, options)
    precisions = GRAPHS[options.variant]
    names = (GRAPH_FILE, LIGHT_FILE)[: len(precisions)]
    tables: dict[str, ir.ExternalTensor] = {}
    kernels: list[dict[str, int]] = []
    protos: list[onnx.ModelProto] = []
    for name, precision in zip(names, precisions, strict=True):
        graph = folder / name
        form = GraphForm(
            precision=precision,
            precisions=options.precisions,
            max_context=options.max_context,
            block=options.block,
            fused=True,
        )
        with WeightFile(folder, graph.with_suffix(SUFFIX).name, tables) as store:
            proto = _write(checkpoint, arch, store, form, options, calibration)
        tables = {table: store.written[table] for table in TABLES if table in store.written}
        shift_zero_points(proto.graph)
        graph.write_bytes(proto.SerializeToString())
        _check_graph(graph, proto)
        kernels.append(check_kernels(graph, arch, precision, options.precisions))
        protos.append(proto)
    proto = protos[0]
    files = [file for name in names for file in (name, Path(name).with_suffix(SUFFIX).name)]
    return TextPackage(
        graph=GRAPH_FILE,
        light=names[1] if len(names) > 1 else None,
        files={name: (folder / name).stat().st_size for name in files},
        inputs=_tensors(proto.graph.input),
        outputs=_tensors(proto.graph.output),
        limits={
            "max_context": options.max_context,
            "vocab_size": arch.vocab_size,
            "max_chunk": options.max_chunk,
        },
        precisions=precisions,
        kernels=kernels[0],
        eos_ids=arch.eos_ids,
    )


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
        checkpoint: as ``package_text``.
        kind: "tensorrt_rtx" or "tensorrt".
        capability: as ``build_plan`` takes it.
        options: what to write.
        max_batch: largest batch of the profile.
        calibration: as ``package_text``.

    Raises:
        BuildError: as ``package_text``.
        TargetError: the target's libraries are missing or it refuses the graph.
    """
    if max_batch < 1:
        raise BuildError(f"max_batch {max_batch}: must be at least 1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arch = read_architecture(checkpoint)
        _check_options(checkpoint, arch, options)
        form = GraphForm(
            precision=GRAPHS[options.variant][0],
            precisions=options.precisions,
            max_context=options.max_context,
            capacity=options.max_context,
            block=options.block,
        )
        with WeightFile(folder) as store:
            proto = _write(checkpoint, arch, store, form, options, calibration)
        size = (folder / WEIGHTS_FILE).stat().st_size
        if size > LARGEST_PROTO:
            raise BuildError(
                f"{checkpoint}: {options.variant} weights are {size} bytes, TensorRT's parser takes {LARGEST_PROTO} from "
                "memory; choose int8 or int4"
            )
        onnx.load_external_data_for_model(proto, str(folder))
        model_bytes = proto.SerializeToString()
    del proto
    try:
        return build_plan(
            kind,
            model_bytes,
            _profile(arch, options, max_batch),
            attention=arch.layers,
            capability=capability,
        )
    except (TensorRTUnavailable, PlanRefused) as error:
        raise TargetError(f"{checkpoint}: {error}") from error


def _write(
    checkpoint: Path,
    arch: Architecture,
    store: WeightFile,
    form: GraphForm,
    options: TextOptions,
    calibration: Sequence[Ids],
) -> onnx.ModelProto:
    with Checkpoint(checkpoint) as tensors:
        check_tensors(arch, tensors)
        folding = _calibrate(arch, tensors, form.precision, options, calibration)
        model = build_graph(arch, tensors, store, form, folding)
    model.metadata_props[MAX_CONTEXT] = str(options.max_context)
    if form.fused:
        model.metadata_props[ATTENTION] = GROUPED
    return ir.to_proto(model)


def _calibrate(
    arch: Architecture,
    tensors: Checkpoint,
    precision: Precision,
    options: TextOptions,
    calibration: Sequence[Ids],
) -> Folding:
    if (
        "int8" in options.precisions.values()
    ):  # INT8 inputs need scales; what is INT4 beside them goes by the same ones
        precision = "int8"
    if precision == "fp32" or (precision == "int4" and not options.awq and options.rounding == "nearest"):
        return Folding()
    # Here and not above: torch is only wanted where something is calibrated.
    from build_engines.models.causal.calibrate import calibrate

    return calibrate(tensors.folder, arch, tensors, options, calibration, precision)


def _check_options(checkpoint: Path, arch: Architecture, options: TextOptions) -> None:
    if options.max_context > arch.max_positions:
        raise BuildError(
            f"max_context {options.max_context}: {checkpoint / 'config.json'} says max_position_embeddings = "
            f"{arch.max_positions}; give at most that"
        )
    if "int4" in GRAPHS[options.variant]:
        sizes = {
            "hidden_size": arch.dim,
            "intermediate_size": arch.hidden,
            "num_attention_heads * head_dim": arch.heads * arch.head_dim,
        }
        for name, size in sizes.items():
            if size % options.block:
                raise BuildError(
                    f"{checkpoint / 'config.json'}: {name} = {size}: int4 needs a multiple of {options.block} (block); "
                    "choose a smaller block, int8 or fp32"
                )


def _check_graph(graph: Path, proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(str(graph), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"{graph}: the ONNX checker refuses the graph: {error}") from error
    imports = {entry.domain: entry.version for entry in proto.opset_import}
    # ONNX Runtime's own operators are for these and nothing else.
    own = {node.op_type for node in proto.graph.node if node.domain}
    if imports.pop("com.microsoft", 1) != 1 or imports != {"": OPSET} or own - FUSED:
        raise BuildError(
            f"{graph}: opsets {imports} and {own}, must be ai.onnx {OPSET} and {', '.join(sorted(FUSED))} at most"
        )


def _tensors(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            name=value.name,
            dtype=onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=tuple(one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def _profile(arch: Architecture, options: TextOptions, max_batch: int) -> dict[str, Range]:
    def rows(*rest: int) -> Range:
        return Range(low=(1, *rest), usual=(max_batch, *rest), high=(max_batch, *rest))

    cache = rows(arch.kv_heads, options.max_context, arch.head_dim)
    ids = Range(low=(1, 1), usual=(max_batch, 1), high=(max_batch, options.max_chunk))
    profile = {"input_ids": ids, "write_index": rows(), "n_new": rows()}
    for index in range(arch.layers):
        profile[f"past.{index}.k"] = profile[f"past.{index}.v"] = cache
    return profile
