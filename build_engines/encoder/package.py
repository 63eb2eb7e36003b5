"""Stage 3 of an encoder: the engine that is to serve, and the FP32 one that it must not be worse than; TensorRT plans too."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from build_engines.compression.step_records import StepRecord
from build_engines.encoder.load import CALIBRATION, GATE, ids_path
from build_engines.encoder.recipe_parts import PackageStagePart
from build_engines.encoder.records import EncoderPackageRecord, PackagesRecord
from build_engines.encoder.states import CANDIDATE, PARENT, Headed
from build_engines.encoder.texts import load_ids
from build_engines.errors import TargetError
from build_engines.intents.head import IntentHead, load_head
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import GRAPH_FILE, compile_plan, package_encoder
from build_engines.proof.leak import digests_of, refuse_leak
from build_engines.stage import Work
from build_engines.targets import tensorrt_plan
from build_engines.targets.tensorrt_plan import TensorRTUnavailable
from server.artifacts.manifest import Calibration, Target


def run(headed: Headed, part: PackageStagePart, work: Work) -> PackagesRecord:
    """Package the candidate, its parent where they differ, and a plan for each other target.

    Raises:
        BuildError: the checkpoint is not supported, or the runtime fell back; says where.
        TargetError: a target cannot be built here and may not be skipped.
    """
    texts = headed.loaded.uncompressed.output.folder
    calibration = load_ids(ids_path(texts, CALIBRATION))
    refuse_leak(
        "encoder-package",
        digests_of(calibration),
        digests_of(load_ids(ids_path(texts, GATE))),
        what="calibration texts",
        advice="give texts that are told apart by more than capitals and spaces, or another texts.seed",
    )
    head = head_of(headed)
    whole = headed.uncompressed
    quantized = part.package.variant != "fp32"
    compressed = quantized or whole is not headed
    options = _options(part)
    mixed: StepRecord | None = None
    if part.package.mixed is not None:
        # Here and not above: torch is only wanted where something is measured.
        from build_engines.models.encoder.mixed import choose_products

        kept, chosen = choose_products(
            headed.checkpoint, options, calibration, part.package.mixed, work.progress
        )
        options, mixed = dataclasses.replace(options, kept=kept), chosen.record
        work.progress.say(f"  mixed precision: {mixed.said}")
    candidate = _packaged(headed, work, CANDIDATE, options, head, calibration)
    plain = part.form.options("fp32")
    parent = _packaged(whole, work, PARENT, plain, head_of(whole), []) if compressed else None
    plans, notes = _plans(headed, part, options, work, head, calibration)
    sizes = [
        f"{record.precision} {record.size_bytes / 1e6:.1f} MB" for record in (candidate, parent) if record
    ]
    return PackagesRecord(
        candidate=candidate,
        parent=parent,
        plans=plans,
        calibration=_calibration(calibration, part) if quantized else None,
        mixed=mixed,
        notes=(", ".join(sizes), *([mixed.said] if mixed is not None else []), *notes),
    )


def _options(part: PackageStagePart) -> EncoderOptions:
    package = part.package
    return dataclasses.replace(
        part.form.options(package.variant),
        calibrator=package.calibrator,
        percentile=package.percentile,
        smooth=package.smooth,
    )


def head_of(headed: Headed) -> IntentHead | None:
    """The head, where one was trained."""
    return load_head(headed.output.folder) if headed.record.intents is not None else None


def _packaged(
    headed: Headed,
    work: Work,
    which: str,
    options: EncoderOptions,
    head: IntentHead | None,
    calibration: Sequence[Ids],
) -> EncoderPackageRecord:
    work.progress.say(f"  {which}: {options.variant}")
    package = package_encoder(
        headed.checkpoint, work.folder / which, options=options, head=head, calibration=calibration
    )
    return EncoderPackageRecord(
        precision=package.precision,
        inputs=package.inputs,
        outputs=package.outputs,
        limits=package.limits,
        kernels=package.kernels,
        parameters=package.parameters,
        size_bytes=sum(package.files.values()),
    )


def _plans(
    headed: Headed,
    part: PackageStagePart,
    options: EncoderOptions,
    work: Work,
    head: IntentHead | None,
    calibration: Sequence[Ids],
) -> tuple[tuple[Target, ...], list[str]]:
    wanted = part.package.plan_variant
    if wanted != "same":
        options = dataclasses.replace(options, variant=wanted, kept=())
    plans: list[Target] = []
    notes: list[str] = []
    for kind, capability in part.package.wanted():
        if kind == "onnxruntime":
            continue
        try:
            plans.append(_plan(headed, part, options, work, head, calibration, kind, capability))
        except TargetError as error:
            if not part.package.skip_missing:
                raise
            notes.append(f"skipped: {error}")
            work.progress.say(f"  {notes[-1]}")
    return tuple(plans), notes


def _plan(
    headed: Headed,
    part: PackageStagePart,
    options: EncoderOptions,
    work: Work,
    head: IntentHead | None,
    calibration: Sequence[Ids],
    kind: str,
    capability: str | None,
) -> Target:
    variant = options.variant
    plan = compile_plan(
        headed.checkpoint,
        kind=kind,
        capability=capability,
        options=options,
        max_batch=part.package.max_batch,
        max_tokens=part.package.max_batch_tokens,
        head=head,
        calibration=calibration,
    )
    try:
        gpu = capability or tensorrt_plan.this_gpu()
    except TensorRTUnavailable as error:
        raise TargetError(f"target {kind}: {error}") from error
    file = f"{kind}/{variant}.{gpu}.plan"
    path = work.folder / CANDIDATE / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(plan)
    work.progress.say(f"  {kind} {gpu}: {len(plan) / 1e6:.1f} MB")
    return Target(
        kind=kind,
        file=file,
        precision=variant,
        capability=gpu,
        built_with=tensorrt_plan.versions(kind),
        built_from=GRAPH_FILE,
    )


def _calibration(texts: Sequence[Ids], part: PackageStagePart) -> Calibration:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(ids).tobytes() for ids in texts))
    package = part.package
    method = "least error of each product, over cut-offs and channel scales"
    if package.calibrator != "product":
        method = package.calibrator
        if package.calibrator == "percentile":
            method += f" {package.percentile:g} of absolute values"
    if package.smooth is not None:
        method += f", channel scales with alpha {package.smooth:g}"
    return Calibration(
        method=method,
        samples=len(texts),
        seed=0,
        data_sha256=digest.hexdigest(),
    )
