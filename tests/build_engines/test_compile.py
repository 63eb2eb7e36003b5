"""Real plans by the real TensorRT-RTX builder, and a clear sentence where a flavour or a GPU is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from build_engines.compile import TargetSpec, compile_graph, load_bound, profile
from build_engines.errors import TargetError
from build_engines.export import export_graph, stored_tables
from build_engines.models.sasrec_graph import Int8Scales
from build_engines.quantize import quantize_catalogue
from build_engines.records import GraphRecord
from build_engines.targets.tensorrt_plan import PlanRefused, build_plan
from tests import tiny


def exported(folder: Path, *, int8: bool) -> GraphRecord:
    parts = tiny.ingredients(1)
    stored = stored_tables(parts)
    scales = Int8Scales(scoring=1 / 127) if int8 else None
    return export_graph(folder, parts, stored=quantize_catalogue(stored) if int8 else stored, int8=scales)


@pytest.mark.parametrize("int8", [False, True], ids=["fp32", "int8"])
def test_plans_are_built_for_each_gpu_and_entry(tmp_path: Path, int8: bool) -> None:
    """Without a GPU at hand, the RTX builder makes a plan for Ampere and for Ada, masked and unmasked."""
    pytest.importorskip("tensorrt_rtx")
    record = exported(tmp_path, int8=int8)

    targets = compile_graph(tmp_path, tmp_path, record, [TargetSpec.parse("tensorrt_rtx:sm86,sm89")])

    assert {(target.capability, target.entry) for target in targets} == {
        (gpu, entry) for gpu in ("sm86", "sm89") for entry in ("masked", "unmasked")
    }
    for target in targets:
        assert (tmp_path / target.file).read_bytes()[:4] == b"ftrt" or (
            tmp_path / target.file
        ).stat().st_size > 10_000
        assert target.proven == "built"
        assert "tensorrt_rtx" in target.built_with


def test_a_gpu_the_builder_does_not_know_is_refused_with_what_it_knows(tmp_path: Path) -> None:
    """The error lists the capabilities there are, and nothing is left behind."""
    pytest.importorskip("tensorrt_rtx")
    record = exported(tmp_path, int8=False)

    with pytest.raises(TargetError, match=r"cannot build for 'sm10'.*SM86"):
        compile_graph(tmp_path, tmp_path, record, [TargetSpec.parse("tensorrt_rtx:sm10")])


def test_a_missing_flavour_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data-centre flavour is imported only when asked for, and its absence is a sentence."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    record = exported(tmp_path, int8=False)

    with pytest.raises(TargetError, match="pip install"):
        compile_graph(tmp_path, tmp_path, record, [TargetSpec.parse("tensorrt")])


def test_an_attention_that_got_lost_is_refused(tmp_path: Path) -> None:
    """The parser must find as many attentions as the graph has, each with its mask."""
    pytest.importorskip("tensorrt_rtx")
    record = exported(tmp_path, int8=False)
    bound = load_bound(tmp_path, record)
    model = onnx.load(str(tmp_path / record.file)).SerializeToString()

    with pytest.raises(PlanRefused, match="the parser found 2 attentions, the graph has 5"):
        build_plan("tensorrt_rtx", model, profile(record, bound, masked=True), attention=5, capability="sm86")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cuda", "unknown target 'cuda'"),
        ("onnxruntime:sm86", "takes no GPU names"),
        ("tensorrt_rtx", "name the GPUs"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(text: str, complaint: str) -> None:
    """Each refusal says what there is, or how to write it."""
    with pytest.raises(ValueError, match=complaint):
        TargetSpec.parse(text)


def test_the_profile_takes_every_request_within_the_limits(tmp_path: Path) -> None:
    """Smallest and largest shapes are the limits' own."""
    record = exported(tmp_path, int8=False)
    bound = load_bound(tmp_path, record)

    ranges = profile(record, bound, masked=True)

    assert ranges["item_ids"].high == (record.limits["max_batch"], record.limits["max_history"])
    assert ranges["exclude_ids"].high == (record.limits["max_batch"], record.limits["max_exclude"])
    assert ranges["candidate"].low == (1, len(bound["item_emb_ND"]))
    assert all(
        np.all(np.array(r.low) <= r.usual) and np.all(np.array(r.usual) <= r.high) for r in ranges.values()
    )
