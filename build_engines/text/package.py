"""Stage 3 of a text model: the engine that is to serve, and the FP32 one that it must not be worse than.

Quantizing and writing the graph are one step here, because weights are streamed from the checkpoint into the packaged form.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from build_engines.compression.step_records import StepRecord
from build_engines.errors import TargetError
from build_engines.models.causal.options import GRAPHS, Ids, TextOptions
from build_engines.models.causal.package import TextPackage, compile_plan, package_text
from build_engines.proof.leak import digests_of, refuse_leak
from build_engines.stage import Work
from build_engines.targets import tensorrt_plan
from build_engines.text.pair_arrays import load_pairs, pairs_path
from build_engines.text.pairs import EncodedPair
from build_engines.text.recipe_parts import PackagePart, PackageTextPart
from build_engines.text.records import PackagedRecord, PackageRecord
from build_engines.text.states import CANDIDATE, PARENT, Tuned
from server.artifacts.manifest import Calibration, Target


def run(tuned: Tuned, asked: PackageTextPart, work: Work) -> PackageRecord:
    """Package the candidate, for GPUs as well where that is asked for, and its parent where they differ.

    Raises:
        BuildError: the checkpoint is not supported, or the runtime fell back; says where.
        TargetError: a plan cannot be built here and may not be skipped.
    """
    part = asked.package
    options = TextOptions(
        variant=part.variant,
        max_context=part.max_context,
        max_chunk=part.max_chunk,
        awq=part.awq,
        block=part.block,
        rounding=part.rounding,
        calibrator=part.calibrator,
        percentile=part.percentile,
        smooth=part.smooth,
    )
    calibrated = (
        "int8" in GRAPHS[part.variant] or part.awq or part.rounding == "gptq" or part.mixed is not None
    )
    pairs = load_pairs(pairs_path(tuned.loaded.output.folder, "calibration")) if calibrated else []
    if calibrated:
        refuse_leak(
            "package",
            digests_of(pair.ids for pair in pairs),
            digests_of(pair.ids for pair in load_pairs(pairs_path(tuned.loaded.output.folder, "gate"))),
            what="calibration pairs",
            advice='give pairs that are the same under one "id", so that the split keeps them together',
        )
    calibration = [pair.ids[None, :] for pair in pairs]
    mixed: StepRecord | None = None
    if part.mixed is not None:
        # Here and not above: torch is only wanted where something is measured.
        from build_engines.models.causal.mixed import choose_products

        precisions, chosen = choose_products(
            tuned.checkpoint, options, calibration, part.mixed, work.progress
        )
        options, mixed = dataclasses.replace(options, precisions=precisions), chosen.record
        work.progress.say(f"  mixed precision: {mixed.said}")
    candidate = _packaged(tuned.checkpoint, work, CANDIDATE, options, calibration)
    plans, skipped = _plans(tuned.checkpoint, asked, options, calibration, work)
    candidate = msgspec.structs.replace(candidate, plans=plans)
    parent = None
    whole = tuned.uncompressed
    if part.variant != "fp32" or whole is not tuned:
        plain = dataclasses.replace(options, variant="fp32", awq=False, rounding="nearest", precisions={})
        parent = _packaged(whole.checkpoint, work, PARENT, plain, [])
    sizes = [f"{_name(record)} {record.size_bytes / 1e6:.1f} MB" for record in (candidate, parent) if record]
    return PackageRecord(
        candidate=candidate,
        parent=parent,
        calibration=_calibration(pairs, part) if calibrated else None,
        mixed=mixed,
        notes=(", ".join(sizes), *([mixed.said] if mixed is not None else []), *skipped),
    )


def _plans(
    checkpoint: Path, asked: PackageTextPart, options: TextOptions, calibration: Sequence[Ids], work: Work
) -> tuple[tuple[Target, ...], list[str]]:
    plans: list[Target] = []
    skipped: list[str] = []
    precision = GRAPHS[options.variant][0]
    for kind, capability in asked.compile.wanted():
        if kind == "onnxruntime":
            continue
        work.progress.say(f"  {CANDIDATE}: {kind} {capability or 'this GPU'}")
        try:
            plan = compile_plan(
                checkpoint,
                kind=kind,
                capability=capability,
                options=options,
                max_batch=asked.package.plan_batch,
                calibration=calibration,
            )
            capability = capability or tensorrt_plan.this_gpu()
        except TargetError as error:
            if not asked.compile.skip_missing:
                raise
            skipped.append(f"skipped: {error}")
            work.progress.say(f"  skipped: {error}")
            continue
        path = work.folder / CANDIDATE / kind / f"{precision}.{capability}.plan"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plan)
        plans.append(
            Target(
                kind=kind,
                file=path.relative_to(work.folder / CANDIDATE).as_posix(),
                precision=precision,
                capability=capability,
                built_with=tensorrt_plan.versions(kind),
            )
        )
    return tuple(plans), skipped


def _name(record: PackagedRecord) -> str:
    return record.precision if record.light is None else f"{record.precision}+{record.light}"


def _packaged(
    checkpoint: Path, work: Work, which: str, options: TextOptions, calibration: Sequence[Ids]
) -> PackagedRecord:
    work.progress.say(f"  {which}: {options.variant}")
    package: TextPackage = package_text(
        checkpoint, work.folder / which, options=options, calibration=calibration
    )
    return PackagedRecord(
        precision=package.precisions[0],
        light=package.precisions[1] if package.light else None,
        inputs=package.inputs,
        outputs=package.outputs,
        limits=package.limits,
        kernels=package.kernels,
        eos_ids=package.eos_ids,
        size_bytes=sum(package.files.values()),
    )


def _calibration(pairs: Sequence[EncodedPair], part: PackagePart) -> Calibration:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(pair.ids).tobytes() for pair in pairs))
    method = (
        "activation ranges" if part.calibrator == "product" else f"activation ranges by {part.calibrator}"
    )
    if part.rounding == "gptq":
        method = (
            f"{method} and weights rounded by gptq" if part.variant != "int4" else "weights rounded by gptq"
        )
    if part.awq:
        method = (
            "activation-aware scales"
            if part.variant == "int4"
            else "activation ranges and activation-aware scales"
        )
    return Calibration(method=method, samples=len(pairs), seed=0, data_sha256=digest.hexdigest())
