"""Stage 3 of an encoder: the engine that is to serve, and the FP32 one that it must not be worse than; TensorRT plans too."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from build_engines.encoder.load import CALIBRATION, GATE, ids_path
from build_engines.encoder.recipe_parts import PackageStagePart
from build_engines.encoder.records import EncoderPackageRecord, PackagesRecord
from build_engines.encoder.states import CANDIDATE, PARENT, Headed
from build_engines.encoder.texts import load_ids
from build_engines.errors import TargetError
from build_engines.intents.head import IntentHead, load_head
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.options import Variant
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
    candidate = _packaged(headed, part, work, CANDIDATE, part.package.variant, head, calibration)
    parent = _packaged(whole, part, work, PARENT, "fp32", head_of(whole), []) if compressed else None
    plans, notes = _plans(headed, part, work, head, calibration)
    sizes = [
        f"{record.precision} {record.size_bytes / 1e6:.1f} MB" for record in (candidate, parent) if record
    ]
    return PackagesRecord(
        candidate=candidate,
        parent=parent,
        plans=plans,
        calibration=_calibration(calibration) if quantized else None,
        notes=(", ".join(sizes), *notes),
    )


def head_of(headed: Headed) -> IntentHead | None:
    """The head, where one was trained."""
    return load_head(headed.output.folder) if headed.record.intents is not None else None


def _packaged(
    headed: Headed,
    part: PackageStagePart,
    work: Work,
    which: str,
    variant: Variant,
    head: IntentHead | None,
    calibration: Sequence[Ids],
) -> EncoderPackageRecord:
    work.progress.say(f"  {which}: {variant}")
    package = package_encoder(
        headed.checkpoint,
        work.folder / which,
        options=part.form.options(variant),
        head=head,
        calibration=calibration,
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
    headed: Headed, part: PackageStagePart, work: Work, head: IntentHead | None, calibration: Sequence[Ids]
) -> tuple[tuple[Target, ...], list[str]]:
    plans: list[Target] = []
    notes: list[str] = []
    for kind, capability in part.package.wanted():
        if kind == "onnxruntime":
            continue
        try:
            plans.append(_plan(headed, part, work, head, calibration, kind, capability))
        except TargetError as error:
            if not part.package.skip_missing:
                raise
            notes.append(f"skipped: {error}")
            work.progress.say(f"  {notes[-1]}")
    return tuple(plans), notes


def _plan(
    headed: Headed,
    part: PackageStagePart,
    work: Work,
    head: IntentHead | None,
    calibration: Sequence[Ids],
    kind: str,
    capability: str | None,
) -> Target:
    variant = part.package.variant
    plan = compile_plan(
        headed.checkpoint,
        kind=kind,
        capability=capability,
        options=part.form.options(variant),
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


def _calibration(texts: Sequence[Ids]) -> Calibration:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(ids).tobytes() for ids in texts))
    return Calibration(
        method="least error of each product, over cut-offs and channel scales",
        samples=len(texts),
        seed=0,
        data_sha256=digest.hexdigest(),
    )
