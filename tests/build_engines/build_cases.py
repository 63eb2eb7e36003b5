"""States, records and stages made by hand, for the tests of the builder's frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from build_engines.data.splits import SplitRule
from build_engines.models.mix import MixConfig
from build_engines.recipe_parts import NetworkPart
from build_engines.records import (
    CompileRecord,
    CurvePoint,
    ExportRecord,
    GraphRecord,
    LoadRecord,
    ModelFigures,
    QuantizeRecord,
    SpeedRow,
    TrainRecord,
    VerifyRecord,
)
from build_engines.stage import Stage, Work
from build_engines.states import Compiled, Exported, Loaded, Output, Quantized, Start, Trained
from server.artifacts.manifest import (
    BatchTime,
    Constant,
    Cost,
    Kind,
    Measurement,
    Target,
    TensorInfo,
    Tolerance,
)


def output(stage: str, folder: Path = Path("/nowhere")) -> Output:
    """What a stage left, or pretends to have left."""
    return Output(
        stage=stage, key=f"{stage}-key", content=f"{stage}-content", folder=folder, seconds=1.5, reused=False
    )


def evidence(kind: Kind, **changes: object) -> Measurement:
    """Evidence that holds, until ``changes`` say otherwise."""
    item = Measurement(
        kind=kind,
        name=f"{kind} figure",
        value=1.5,
        unit="x",
        limit=1.0,
        sense="at_least",
        verdict="pass",
        sample_size=50,
    )
    return msgspec.structs.replace(item, **changes)


ALL_EVIDENCE = tuple(evidence(kind) for kind in ("quality", "speed", "size", "parity", "floor"))


def loaded() -> Loaded:
    """A shop of nine users."""
    record = LoadRecord(
        users=9, items=4, events=40, tested_users=8, gate_users=7, calibration_users=1,
        sources={"clicks.csv": "0" * 64}, split=SplitRule(), notes=("clicks.csv: 40 events",),
    )  # fmt: skip
    return Loaded(output=output("load"), record=record)


def trained() -> Trained:
    """A network of two epochs."""
    record = TrainRecord(
        metric="ndcg@10",
        curve=(
            CurvePoint(epoch=1, loss=9.0, metric=None, seconds=1.0),
            CurvePoint(epoch=2, loss=8.0, metric=0.04, seconds=1.0),
        ),
        figures={"mix ndcg@10": 0.05},
        network=NetworkPart(dim=8),
        mix=MixConfig(),
        counts=MixConfig(neural_weight=0.0),
        item_features=3,
        seeds={"training": 0},
    )
    return Trained(loaded=loaded(), output=output("train"), record=record)


def graph(precision: str) -> GraphRecord:
    """A graph as ``export`` describes it."""
    return GraphRecord(
        file="model.onnx",
        precision=precision,
        inputs=(TensorInfo(name="item_ids", dtype="int32", shape=("B", "L")),),
        outputs=(TensorInfo(name="ids", dtype="int32", shape=("B", 4)),),
        tables=(Constant(tensor="item_emb_ND", file="tables/item_emb_ND.npy", dtype="int8", shape=(64, 8)),),
        limits={"max_batch": 8, "max_history": 50, "max_k": 4, "max_exclude": 64},
        parameters={"transition_window": 5.0, "transition_decay": 0.7},
    )


def compiled(*, compressed: bool = True) -> Compiled:
    """A compressed candidate with its parent, or the parent alone."""
    precision = "int8" if compressed else "fp32"
    quantized = Quantized(
        trained=trained(), output=output("quantize"), record=QuantizeRecord(precision=precision)
    )
    exported = Exported(
        quantized=quantized,
        output=output("export"),
        record=ExportRecord(graph=graph(precision), parent=graph("fp32") if compressed else None),
    )
    target = Target(kind="onnxruntime", file="onnxruntime/x.onnx", precision=precision)
    record = CompileRecord(targets=(target,), parent=(target,) if compressed else ())
    return Compiled(exported=exported, output=output("compile"), record=record)


def verify_record(items: tuple[Measurement, ...] = ALL_EVIDENCE, flags: tuple[str, ...] = ()) -> VerifyRecord:
    """What the gate measured."""
    figures = ModelFigures(
        n=8,
        metrics={"recall@10": 0.1, "ndcg@10": 0.05, "mrr@10": None},
        slices={"head": {"n": 5.0, "ndcg@10": 0.06}, "cold": {"n": 0.0, "ndcg@10": None}},
    )
    return VerifyRecord(
        evidence=items,
        flags=flags,
        cost=Cost(
            base_s=1e-4,
            per_item_s=1e-5,
            measured=(BatchTime(batch_size=1, median_s=1.1e-4, p90_s=2e-4, repeats=60),),
            hardware="a machine",
        ),
        speed=(
            SpeedRow(
                batch_size=1, parent_s=2e-4, candidate_s=1e-4, speedup=2.0, interval=(1.9, 2.1), rounds=60
            ),
        ),
        tolerance=Tolerance(score_abs=1e-3),
        gate={"candidate": figures, "parent": figures, "counts": figures},
        test={"candidate": figures},
        sizes_bytes={"candidate": 1000, "parent": 4000},
        hardware={"cpu": "a CPU, 2 cores"},
    )


class Note(msgspec.Struct, frozen=True):
    """The record of a made-up stage."""

    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    """The state of a made-up stage."""

    output: Output
    record: Note

    @property
    def content(self) -> str:
        return self.output.content


@dataclass(slots=True)
class Calls:
    """A made-up stage: writes its part into a file, counts how often, and does what it is told on the way."""

    made: list[str] = field(default_factory=list)
    before: Callable[[Work], None] = lambda work: None

    def run(self, state: Start | Noted, part: str, work: Work) -> Note:
        self.made.append(part)
        self.before(work)
        (work.folder / "result.txt").write_text(f"{part} is done", encoding="utf-8")
        return Note(text=part)

    def stage(
        self, name: str, code: tuple[str, ...] = ("build_engines.stage_names",)
    ) -> Stage[Start | Noted, str, Note, Noted]:
        return Stage(
            name=name,
            run=self.run,
            record=Note,
            state=lambda state, output, record: Noted(output, record),
            code=code,
        )
