"""From source graphs to what a server loads: one compiled file for each target and entry.

Targets are named in a recipe as ``onnxruntime``, ``tensorrt_rtx:sm86,sm89`` or ``tensorrt``. The TensorRT flavours are
imported only when they are asked for; where one is missing the error says what to install, and nothing is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from build_engines.errors import TargetError
from build_engines.records import GraphRecord
from build_engines.targets import onnxruntime_cpu, tensorrt_plan
from build_engines.targets.tensorrt_plan import PlanRefused, Range, TensorRTUnavailable
from server.artifacts.manifest import Target
from server.encoding import tables

KINDS = ("onnxruntime", "tensorrt_rtx", "tensorrt")
Entry = Literal["masked", "unmasked"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One target of a recipe.

    Attributes:
        kind: one of ``KINDS``.
        capabilities: GPUs to build for ("sm86"); empty: the CPU, or the GPU that is here.
    """

    kind: str
    capabilities: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> TargetSpec:
        """Read ``kind[:capability,capability]``.

        Raises:
            ValueError: an unknown kind, or capabilities where there can be none; says what there is.
        """
        kind, _, listed = text.partition(":")
        if kind not in KINDS:
            raise ValueError(f"unknown target {kind!r}; there are {', '.join(KINDS)}")
        capabilities = tuple(part.strip().lower() for part in listed.split(",") if part.strip())
        if kind == "onnxruntime" and capabilities:
            raise ValueError(f"target {text!r}: onnxruntime runs on the CPU and takes no GPU names")
        if kind == "tensorrt_rtx" and not capabilities:
            raise ValueError(
                "target 'tensorrt_rtx' builds ahead of time: name the GPUs, as in 'tensorrt_rtx:sm86,sm89'"
            )
        return cls(kind=kind, capabilities=capabilities)


def compile_graph(
    folder: Path,
    source: Path,
    record: GraphRecord,
    targets: Sequence[TargetSpec],
    *,
    say: Say = lambda text: None,
) -> tuple[Target, ...]:
    """Compile one exported graph for every target.

    Args:
        folder: where compiled files go.
        source: the export stage's folder that ``record`` is about.
        record: the exported graph.
        targets: what to compile for.
        say: told about each file.

    Returns:
        Targets with paths relative to ``folder``; without costs, which the gate measures.

    Raises:
        TargetError: a flavour of TensorRT is missing here.
        ValueError: a runtime refuses the graph, or silently fell back; says where.
    """
    bound = load_bound(source, record)
    entries: dict[Entry, str] = {"masked": record.file}
    if "unmasked" in record.entries:
        entries["unmasked"] = record.entries["unmasked"]
    compiled: list[Target] = []
    for spec in targets:
        for entry, file in entries.items():
            model = onnx.load(str(source / file))
            if spec.kind == "onnxruntime":
                compiled.append(_onnxruntime(folder, model, entry, record, bound))
                say(f"onnxruntime {entry}: {compiled[-1].file}")
                continue
            for capability in spec.capabilities or (None,):
                compiled.append(_plan(folder, model, entry, record, bound, spec.kind, capability))
                say(f"{spec.kind} {capability or 'this GPU'} {entry}: {compiled[-1].file}")
    return tuple(compiled)


def load_bound(source: Path, record: GraphRecord) -> dict[str, npt.NDArray[Any]]:
    """The tables that the graph takes, from the export stage's folder."""
    stored = {item.tensor: np.load(source / item.file, mmap_mode="r") for item in record.tables}
    return tables.engine_tables(stored)


def profile(record: GraphRecord, bound: Mapping[str, npt.NDArray[Any]], *, masked: bool) -> dict[str, Range]:
    """The shapes that a TensorRT engine must take: any batch, history and number of exclusions within the limits."""
    limits = record.limits
    batch, length, exclude = limits["max_batch"], limits["max_history"], limits["max_exclude"]
    ranges = {
        name: Range(low=table.shape, usual=table.shape, high=table.shape) for name, table in bound.items()
    }
    hidden = bound[tables.HIDDEN_ROWS].shape[0]
    rows = tables.catalogue_rows(bound)
    usual = min(8, batch)
    ranges[tables.HIDDEN_ROWS] = Range(low=(1,), usual=(hidden,), high=(max(hidden, min(rows, 4096)),))
    ranges["item_ids"] = Range(low=(1, 1), usual=(usual, length), high=(batch, length))
    ranges["exclude_ids"] = Range(low=(1, 1), usual=(usual, min(length, exclude)), high=(batch, exclude))
    if masked:
        ranges["candidate"] = Range(low=(1, rows), usual=(usual, rows), high=(batch, rows))
    return ranges


def _onnxruntime(
    folder: Path,
    model: onnx.ModelProto,
    entry: Entry,
    record: GraphRecord,
    bound: Mapping[str, npt.NDArray[Any]],
) -> Target:
    packed = {name: table for name, table in bound.items() if name in tables.PACKED}
    packaged = onnxruntime_cpu.package(model, packed).SerializeToString()
    onnxruntime_cpu.check_kernels(
        packaged,
        packed,
        attention=int(record.parameters["attentions"]),
        integer_matmuls=int(record.parameters["integer_matmuls"]),
    )
    file = f"onnxruntime/{record.precision}_{entry}.onnx"
    _write(folder / file, packaged)
    return Target(
        kind="onnxruntime",
        file=file,
        precision=record.precision,
        built_with={"onnxruntime": ort.__version__},
        entry=entry,
        built_from=record.file if entry == "masked" else record.entries["unmasked"],
    )


def _plan(
    folder: Path,
    model: onnx.ModelProto,
    entry: Entry,
    record: GraphRecord,
    bound: Mapping[str, npt.NDArray[Any]],
    kind: str,
    capability: str | None,
) -> Target:
    rows, neighbours = bound[tables.NEIGHBOUR_IDS].shape
    sizes = {"N": rows, "M": neighbours, "R": tables.table_rows(bound)}
    fixed = tensorrt_plan.fix_dimensions(model, sizes)
    try:
        plan = tensorrt_plan.build_plan(
            kind,
            fixed.SerializeToString(),
            profile(record, bound, masked=entry == "masked"),
            attention=int(record.parameters["attentions"]),
            capability=capability,
        )
        built_with = tensorrt_plan.versions(kind)
        capability = capability or tensorrt_plan.this_gpu()
    except TensorRTUnavailable as error:
        raise TargetError(f"target {kind}: {error}") from error
    except PlanRefused as error:
        raise TargetError(f"target {kind} ({capability or 'this GPU'}, {entry}): {error}") from error
    file = f"{kind}/{record.precision}_{entry}.{capability}.plan"
    _write(folder / file, plan)
    return Target(
        kind=kind,
        file=file,
        precision=record.precision,
        capability=capability,
        built_with=built_with,
        entry=entry,
        built_from=record.file if entry == "masked" else record.entries["unmasked"],
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
