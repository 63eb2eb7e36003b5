"""The one door of this room: a checkpoint folder in, a served folder (graph, tokenizer, descriptions) or a TensorRT plan out.

python -m build_engines.models.encoder.package CHECKPOINT OUT [--variant int8] [--calibration TEXTS.txt]
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from build_engines.compression.mixed_parts import check_gpus_of_fp8
from build_engines.errors import BuildError, TargetError
from build_engines.intents.head import INTENTS_FILE, IntentHead
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.encoder.architecture import EncoderArchitecture, read_architecture
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.graph import INPUT_IDS, LENGTHS, EncoderForm, build_graph
from build_engines.models.encoder.kernels import check_kernels
from build_engines.models.encoder.layout import BUFFERS, find_layout
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.sentence import SentenceForm, read_sentence_form, weights_folder
from build_engines.onnx_writer import model_bytes
from build_engines.targets.shared_constants import share_constants
from build_engines.targets.tensorrt_plan import PlanRefused, Range, TensorRTUnavailable, build_plan
from server.artifacts.manifest import TensorInfo

GRAPH_FILE, ENCODER_FILE = "model.onnx", "encoder.json"
TOKENIZER_FILE, TOKENIZER_CONFIG, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json", "config.json"
COPIED_FILES = (CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPackage:
    """What ``package_encoder`` wrote.

    Attributes:
        graph: path of the graph inside the folder.
        files: size in bytes by path inside the folder.
        inputs, outputs: tensors of the graph, as the manifest lists them.
        limits: "max_tokens", "vocab_size", "dim".
        precision: of the products, for the manifest's target.
        kernels: node counts by operator after the runtime's own optimization.
        parameters: weights that the graph uses.
        family: of the architecture.
    """

    graph: str
    files: dict[str, int]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    limits: dict[str, int]
    precision: str
    kernels: dict[str, int]
    parameters: int
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """On what, and for which runtime, inputs are measured.

    Attributes:
        texts: token ids.
        unsigned: see ``calibrate``.
        threads: of the runtime that measures.
    """

    texts: Sequence[Ids]
    unsigned: bool
    threads: int = 1


def package_encoder(
    checkpoint: Path,
    folder: Path,
    *,
    options: EncoderOptions,
    head: IntentHead | None = None,
    calibration: Sequence[Ids] = (),
    threads: int = 1,
) -> EncoderPackage:
    """Write what a version needs but its golden vectors, evidence and manifest; check the kernels that the graph loads with.

    Args:
        checkpoint: in Hugging Face form (config.json, safetensors, tokenizer.json), or of sentence-transformers.
        folder: where to write; made if missing.
        options: what to write.
        head: of intents; adds the output ``logits``.
        calibration: token ids of texts that the gate never sees, special tokens included; "int8" needs some.
        threads: of the runtime, for calibration.

    Raises:
        BuildError: the checkpoint is broken or not supported (names file, tensor or field), or the runtime fell back.
    """
    if options.variant == "fp8":
        raise BuildError(
            'variant "fp8" is for TensorRT plans on GPUs that have it; ONNX Runtime on the CPU multiplies no FP8: use "int8"'
        )
    calibrated = Calibrated(texts=calibration, unsigned=True, threads=threads)
    arch, sentence, model = _written(checkpoint, options, head, calibrated)
    graph = _shared(model_bytes(model))
    kernels = check_kernels(graph, arch, options.variant, checkpoint, kept=options.kept)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH_FILE).write_bytes(graph)
    _describe(folder, sentence, options, head)
    _copy_files(weights_folder(checkpoint), folder)
    return EncoderPackage(
        graph=GRAPH_FILE,
        files={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        inputs=_tensors(model.graph.inputs),
        outputs=_tensors(model.graph.outputs),
        limits={"max_tokens": sentence.max_tokens, "vocab_size": arch.vocab_size, "dim": sentence.dim},
        precision=options.variant,
        kernels=kernels,
        parameters=_parameters(arch),
        family=arch.family,
    )


def compile_plan(
    checkpoint: Path,
    *,
    kind: str,
    capability: str | None,
    options: EncoderOptions,
    max_batch: int,
    max_tokens: int | None = None,
    head: IntentHead | None = None,
    calibration: Sequence[Ids] = (),
) -> bytes:
    """Build a TensorRT plan of the same graph for every batch up to ``max_batch`` and every length up to ``max_tokens``.

    Args:
        checkpoint: as ``package_encoder``.
        kind: "tensorrt_rtx" or "tensorrt".
        capability: as ``build_plan`` takes it.
        options: what to write.
        max_batch: most texts of a batch.
        max_tokens: longest text of the profile; None: the encoder's own.
        head: as ``package_encoder``.
        calibration: as ``package_encoder``.

    Raises:
        BuildError: as ``package_encoder``.
        TargetError: the target's libraries are missing or it refuses the graph.
    """
    if max_batch < 1:
        raise BuildError(f"max_batch {max_batch}: must be at least 1")
    try:
        check_gpus_of_fp8(options.variant, [(kind, capability)])
    except ValueError as error:
        raise TargetError(str(error)) from error
    arch, sentence, model = _written(checkpoint, options, head, Calibrated(texts=calibration, unsigned=False))
    longest = min(max_tokens or sentence.max_tokens, sentence.max_tokens)
    usual = min(32, longest)
    profile = {
        INPUT_IDS: Range(low=(1, 1), usual=(max_batch, usual), high=(max_batch, longest)),
        LENGTHS: Range(low=(1,), usual=(max_batch,), high=(max_batch,)),
    }
    try:
        return build_plan(kind, model_bytes(model), profile, attention=arch.layers, capability=capability)
    except (TensorRTUnavailable, PlanRefused) as error:
        raise TargetError(f"{checkpoint}: {error}") from error


def resolved_form(checkpoint: Path, options: EncoderOptions) -> tuple[EncoderArchitecture, SentenceForm]:
    """What the checkpoint's files say, and the options over it.

    Raises:
        BuildError: they do not go together; names the field and its limit.
    """
    arch = read_architecture(weights_folder(checkpoint))
    form = read_sentence_form(checkpoint, arch)
    dim = options.dim or form.dim
    if dim > arch.dim or max(options.dims, default=0) > dim:
        raise BuildError(
            f"dim {dim} and dims {list(options.dims)}: the encoder is {arch.dim} wide, and no dims may be above dim"
        )
    max_tokens = options.max_tokens or form.max_tokens
    if max_tokens > arch.max_tokens:
        raise BuildError(
            f"max_tokens {max_tokens}: {checkpoint / CONFIG_FILE} has positions for {arch.max_tokens} tokens"
        )
    return arch, replace(
        form,
        pooling=options.pooling or form.pooling,
        normalize=form.normalize if options.normalize is None else options.normalize,
        dim=dim,
        max_tokens=max_tokens,
        prefixes={**form.prefixes, **options.prefixes},
    )


def _written(
    checkpoint: Path,
    options: EncoderOptions,
    head: IntentHead | None,
    calibrated: Calibrated,
) -> tuple[EncoderArchitecture, SentenceForm, ir.Model]:
    arch, sentence = resolved_form(checkpoint, options)
    if head is not None and head.weights_CD.shape[1] != sentence.dim:
        raise BuildError(
            f"the intent head reads vectors of {head.weights_CD.shape[1]}, the encoder's have {sentence.dim}; train the "
            "head on this encoder"
        )
    with Checkpoint(weights_folder(checkpoint), left_out=BUFFERS) as tensors:
        layout = find_layout(arch, tensors)
        roundings = {}
        if options.variant == "int8":
            # Here and not above: torch is only wanted where something is calibrated.
            from build_engines.models.encoder.calibrate import RangeSearch, calibrate

            roundings = calibrate(
                arch,
                layout,
                tensors,
                calibrated.texts,
                unsigned=calibrated.unsigned,
                threads=calibrated.threads,
                search=RangeSearch(
                    calibrator=options.calibrator, percentile=options.percentile, smooth=options.smooth
                ),
            )
            _check_kept(checkpoint, options, roundings)
            roundings = {name: one for name, one in roundings.items() if name not in options.kept}
        fp8_inputs: dict[str, float] = {}
        if options.variant == "fp8":
            from build_engines.models.encoder.calibrate import RangeSearch, calibrate

            widest = RangeSearch(
                calibrator="minmax"
            )  # a float's step grows with its size: nothing is gained by a cut
            seen = calibrate(arch, layout, tensors, calibrated.texts, unsigned=False, search=widest)
            fp8_inputs = {name: one.scale * 127 for name, one in seen.items()}
        form = EncoderForm(
            fp8_inputs=fp8_inputs,
            pooling=sentence.pooling,
            normalize=sentence.normalize,
            dim=sentence.dim,
            roundings=roundings,
            # TensorRT takes an INT8 constant in front of a DequantizeLinear only, and there it would be computed whole.
            int8_words=options.variant == "int8" and calibrated.unsigned,
            head=head,
            max_tokens=sentence.max_tokens,
        )
        return arch, sentence, build_graph(arch, layout, tensors, form)


def _check_kept(checkpoint: Path, options: EncoderOptions, roundings: Mapping[str, object]) -> None:
    unknown = sorted(set(options.kept) - set(roundings))
    if unknown:
        raise BuildError(
            f"{checkpoint}: {unknown[0]!r} is to stay in float32 and is no product of this encoder; there are "
            f"{', '.join(list(roundings)[:4])} ..."
        )


def _shared(graph: bytes) -> bytes:
    # Weights that share few values (``compression.share_weights``) are stored as codes.
    proto = onnx.ModelProto.FromString(graph)
    return proto.SerializeToString() if share_constants(proto.graph) else graph


def _describe(folder: Path, sentence: SentenceForm, options: EncoderOptions, head: IntentHead | None) -> None:
    described = {
        "pooling": sentence.pooling,
        "normalize": sentence.normalize,
        "dim": sentence.dim,
        "dims": sorted({sentence.dim, *options.dims}, reverse=True),
        "max_tokens": sentence.max_tokens,
        "prefixes": dict(sentence.prefixes),
    }
    _write_json(folder / ENCODER_FILE, described)
    if head is not None:
        _write_json(folder / INTENTS_FILE, head.described())


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _copy_files(source: Path, folder: Path) -> None:
    for name in COPIED_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
        elif name == TOKENIZER_FILE:
            raise BuildError(
                f"{source / name}: is missing; save the checkpoint's tokenizer in its fast form (tokenizer.json)"
            )


def _parameters(arch: EncoderArchitecture) -> int:
    width = arch.heads * arch.head_dim
    attention = 4 * arch.dim * width + 3 * width + arch.dim
    block = attention + arch.hidden * (2 * arch.dim + 1) + arch.dim + 4 * arch.dim
    tables = arch.table_rows + arch.positions + arch.token_types + 2
    return arch.layers * block + tables * arch.dim


def _tensors(values: Sequence[ir.Value]) -> tuple[TensorInfo, ...]:
    found = []
    for value in values:
        assert value.name is not None and value.dtype is not None and value.shape is not None, "written so"
        shape = tuple(one if isinstance(one, int) else str(one.value) for one in value.shape)
        found.append(TensorInfo(name=value.name, dtype=value.dtype.numpy().name, shape=shape))
    return tuple(found)
